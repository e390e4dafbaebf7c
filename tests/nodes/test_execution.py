"""Every node runs, and gives what its sockets promise."""

from __future__ import annotations

import json
import logging

import comfy_host
import numpy as np
import pytest
import torch
from comfy_host import execute, one_identity, standing_person, walk
from PIL import Image

LOAD, ANIMATE, DECODE = (
    "StableAnimatorLoadModel",
    "StableAnimatorAnimate",
    "StableAnimatorDecode",
)
DRAW, LOAD_POSES, SAVE_POSES = (
    "StableAnimatorDrawPoses",
    "StableAnimatorLoadPoses",
    "StableAnimatorSavePoses",
)


@pytest.fixture(scope="module")
def animated(pack, model):
    """The outputs of one run of Animate, three frames."""
    picture = torch.rand(1, 40, 56, 3, generator=torch.Generator().manual_seed(1))
    widgets = {"width": 64, "height": 64, "steps": 2, "window_frames": 4, "window_overlap": 1}
    return execute(pack.nodes[ANIMATE], model=model, reference=picture, poses=walk(3), **widgets)


def test_animate_gives_one_latent_and_one_picture_per_frame(animated):
    latent, frames, _similarity = animated.result
    assert latent["samples"].shape == (3, 4, 8, 8)
    assert frames.shape == (3, 64, 64, 3)
    for tensor in (latent["samples"], frames):
        assert tensor.dtype == torch.float32
        assert tensor.device.type == "cpu"
        assert torch.isfinite(tensor).all()
    assert 0 <= frames.min() <= frames.max() <= 1
    assert frames.std() > 0.01


def test_decode_gives_animates_own_pictures(pack, model, animated):
    latent, frames, _similarity = animated.result
    decoded = execute(pack.nodes[DECODE], model=model, latent=latent)[0]
    torch.testing.assert_close(decoded, frames)


def test_latents_are_unscaled_as_comfyui_wants_them(pack, model, animated):
    latents = animated[0]["samples"]
    vae = model.models.vae
    with torch.inference_mode():
        frames = vae.decode_frames(latents[:3] * vae.scaling_factor).movedim(1, -1)
    torch.testing.assert_close(((frames + 1) / 2).clamp(0, 1), animated[1])


def test_same_seed_same_video_and_another_seed_another(pack, model, animated, reference, short):
    given = {"model": model, "reference": reference, "poses": walk(3), **short}
    again = execute(pack.nodes[ANIMATE], **given)
    other = execute(pack.nodes[ANIMATE], **given, seed=1)
    torch.testing.assert_close(again[0]["samples"], animated[0]["samples"])
    assert not torch.allclose(other[0]["samples"], animated[0]["samples"])


def test_drawn_skeletons_drive_as_the_poses_do(pack, model, animated, reference, short):
    drawn = execute(pack.nodes[DRAW], poses=walk(3))[0]
    run = execute(pack.nodes[ANIMATE], model=model, reference=reference, skeletons=drawn, **short)
    torch.testing.assert_close(run[0]["samples"], animated[0]["samples"])


def test_identity_socket_changes_the_result_unless_its_scale_is_0(
    pack, model, animated, reference, short
):
    identity = one_identity(pack, torch.randn(512))
    given = {"model": model, "reference": reference, "poses": walk(3), "identity": identity}
    on = execute(pack.nodes[ANIMATE], **given, **short)[0]["samples"]
    off = execute(pack.nodes[ANIMATE], **given, **short, identity_scale=0.0)[0]["samples"]
    without = animated[0]["samples"]
    assert not torch.allclose(on, without)
    assert not torch.allclose(on, off)


def test_every_widget_reaches_the_request(pack, reference):
    """A widget that is not wired up would go unnoticed in a picture of noise."""
    request_of = pack.module("nodes.translation").animation_request
    widgets = {
        "width": 128, "height": 192, "frames": 2, "fit": "crop", "seed": 5, "steps": 3,
        "guidance_min": 1.5, "guidance_max": 2.5, "identity_scale": 0.5,
        "noise_augmentation": 0.1, "fps": 12.0, "motion_bucket_id": 60.0, "window_frames": 9,
        "window_overlap": 2, "anchor": "reference_pose", "decode_chunk_frames": 3,
        "identity_fade": 0.25,
    }  # fmt: skip
    schema = pack.nodes[ANIMATE].GET_SCHEMA()
    assert {i.id for i in schema.inputs if comfy_host.is_widget(i)} == set(widgets)
    pose = [standing_person(0.1)]
    made = request_of(reference=reference, poses=walk(4), reference_pose=pose, **widgets)
    assert (made.size.width, made.size.height) == (128, 192)
    assert (made.num_frames, made.output_frames, made.fit) == (2, 2, "crop")
    sampling, window = made.sampling, made.window
    assert (sampling.seed, sampling.steps, sampling.fps) == (5, 3, 12.0)
    assert (sampling.motion_bucket_id, sampling.noise_augmentation) == (60.0, 0.1)
    assert (sampling.identity_scale, sampling.identity_fade) == (0.5, 0.25)
    assert (made.guidance.minimum, made.guidance.maximum) == (1.5, 2.5)
    assert (window.frames, window.overlap, window.anchor) == (9, 2, "reference_pose")
    assert made.motion.reference_pose is not None
    assert made.reference.shape == (40, 56, 3)
    assert made.people == ()


def test_decode_chunk_reaches_the_decoder(pack, model, animated, monkeypatch):
    chunks = []
    decode = type(model.models.vae).decode_frames

    def recorded(self, latents):
        chunks.append(len(latents))
        return decode(self, latents)

    monkeypatch.setattr(type(model.models.vae), "decode_frames", recorded)
    execute(pack.nodes[DECODE], model=model, latent=animated[0], decode_chunk_frames=2)
    assert chunks == [2, 1]


def test_the_built_in_demo_model_runs(pack, reference, short):
    demo = execute(pack.nodes[LOAD])[0]
    assert demo.models.trained is False or demo.models.name.startswith("demo")
    small = {**short, "steps": 1}
    run = execute(
        pack.nodes[ANIMATE], model=demo, reference=reference, skeletons=torch.rand(1, 64, 64, 3),
        **small,
    )  # fmt: skip
    assert run[1].shape == (1, 64, 64, 3)


def test_a_loaded_model_can_take_part_in_gradients(pack):
    """Nodes run in inference mode, whose tensors never can."""
    demo = execute(pack.nodes[LOAD])[0]
    latents = torch.randn(1, demo.models.vae.latent_channels, 4, 4, requires_grad=True)
    demo.models.vae.decode_frames(latents).sum().backward()
    assert latents.grad is not None


@pytest.mark.parametrize("precision", ["auto", "fp16", "bf16", "fp32"])
def test_precision_is_that_of_the_weights(pack, precision):
    wanted = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)
    assert pack.module("animator_core.comfy_adapter").weight_dtype(precision) == wanted


def test_installed_models_are_offered(pack, folders):
    for name in ("b model", "a"):
        (folders.models / name / "Animation").mkdir(parents=True)
    (folders.models / "no model").mkdir()
    options = pack.nodes[LOAD].GET_SCHEMA().inputs[0].options
    assert options == ["demo (built-in)", "a", "b model"]


def test_a_model_right_in_the_models_folder_is_offered(pack, folders):
    (folders.models / "Animation").mkdir()
    assert pack.nodes[LOAD].GET_SCHEMA().inputs[0].options[1:] == [folders.models.name]


def test_draw_poses_takes_the_canvas_or_the_widgets(pack):
    poses = walk(2)
    drawn = execute(pack.nodes[DRAW], poses=poses)[0]
    wide = execute(pack.nodes[DRAW], poses=poses, width=96, mode="fast")[0]
    assert drawn.shape == (2, 64, 64, 3)
    assert wide.shape == (2, 64, 96, 3)
    assert drawn.dtype == torch.float32
    assert drawn.min() == 0
    assert 0.2 < drawn.max() <= 1


def test_saved_poses_load_again(pack, folders):
    poses = walk(2)
    saved = execute(pack.nodes[SAVE_POSES], poses=poses)
    again = execute(pack.nodes[SAVE_POSES], poses=poses)
    entry = saved.ui["files"][0]
    assert entry == {
        "filename": "StableAnimator_00001_.json",
        "subfolder": "poses",
        "type": "output",
    }
    assert again.ui["files"][0]["filename"] == "StableAnimator_00002_.json"
    written = folders.outputs / entry["subfolder"] / entry["filename"]
    (folders.inputs / "moves").mkdir()
    written.rename(folders.inputs / "moves" / "walk.json")
    node = pack.nodes[LOAD_POSES]
    assert node.GET_SCHEMA().inputs[0].options == ["moves/walk.json"]
    loaded = execute(node, file="moves/walk.json")[0]
    for frame, original in zip(loaded, poses, strict=True):
        assert frame["canvas_width"] == original["canvas_width"]
        found = frame["people"][0]["pose_keypoints_2d"]
        np.testing.assert_allclose(found, original["people"][0]["pose_keypoints_2d"])


def test_a_changed_pose_file_is_read_again(pack, folders):
    node, file = pack.nodes[LOAD_POSES], folders.inputs / "a.json"
    file.write_text(json.dumps(walk(1)), encoding="utf-8")
    before = node.fingerprint_inputs(file="a.json")
    assert node.fingerprint_inputs(file="a.json") == before
    file.write_text(json.dumps(walk(2)), encoding="utf-8")
    assert node.fingerprint_inputs(file="a.json") != before


def test_progress_and_previews_reach_the_page(pack, model, reference, short, monkeypatch):
    import comfy.utils
    import latent_preview

    class Previewer:
        def decode_latent_to_preview_image(self, preview_format, latents):
            assert latents.shape == (1, 4, 8, 8)
            return preview_format, Image.new("RGB", (8, 8)), 512

    seen = []
    monkeypatch.setattr(latent_preview, "get_previewer", lambda *_: Previewer())
    comfy.utils.set_progress_bar_global_hook(lambda *shown, node_id=None: seen.append(shown))
    try:
        execute(pack.nodes[ANIMATE], model=model, reference=reference, poses=walk(3), **short)
    finally:
        comfy.utils.set_progress_bar_global_hook(None)
    previews = [preview for _, _, preview in seen if preview is not None]
    assert len(previews) == short["steps"]
    assert previews[0][0] == "JPEG"
    assert all(done <= total for done, total, _ in seen)
    assert seen[-1][:2] == (3, 3)  # the last report is of decoding


def test_nodes_print_nothing(pack, model, reference, short, capfd, caplog):
    with caplog.at_level(logging.WARNING):
        execute(pack.nodes[ANIMATE], model=model, reference=reference, poses=walk(1), **short)
    assert capfd.readouterr().out == ""
    assert not [r for r in caplog.records if r.name.startswith(pack.root.__name__)]
