"""Wrong input gives an error that says what to do, or the right result."""

from __future__ import annotations

import json

import pytest
import torch
from comfy_host import execute, one_identity, standing_person, walk

ANIMATE = "StableAnimatorAnimate"
EMPTY = {"people": [], "canvas_width": 64, "canvas_height": 64}


@pytest.fixture
def animate(pack, model, reference, short):
    """Run Animate with a few inputs changed."""

    def run(**changes):
        given = {"model": model, "reference": reference, **short, "steps": 1, **changes}
        return execute(pack.nodes[ANIMATE], **given)

    return run


def test_no_motion_at_all(pack, animate):
    with pytest.raises(pack.errors.NoPoseError, match="keypoints or skeleton pictures"):
        animate()


def test_poses_and_skeletons_of_different_lengths(pack, animate):
    with pytest.raises(pack.errors.ConfigError, match="2 skeleton pictures but 3 frames"):
        animate(poses=walk(3), skeletons=torch.rand(2, 64, 64, 3))


def test_poses_and_skeletons_of_equal_lengths(animate):
    assert len(animate(poses=walk(2), skeletons=torch.rand(2, 64, 64, 3))[1]) == 2


@pytest.mark.parametrize("poses", [[], [EMPTY, EMPTY], [{**EMPTY, "people": [{}]}]])
def test_a_motion_with_nobody_in_it(pack, animate, poses):
    with pytest.raises(pack.errors.NoPoseError, match=r"Nobody|no frames"):
        animate(poses=poses)


def test_a_frame_with_nobody_among_others(animate):
    assert len(animate(poses=[*walk(1), EMPTY, *walk(1)])[1]) == 3


@pytest.mark.parametrize("poses", ["dance.json", 5, [5], [{"people": []}]])
def test_poses_of_another_kind(pack, animate, poses):
    with pytest.raises(pack.errors.MediaError, match=r"POSE_KEYPOINT|people"):
        animate(poses=poses)


def test_more_frames_than_the_motion_has(pack, animate):
    with pytest.raises(pack.errors.ConfigError, match="only 2"):
        animate(poses=walk(2), frames=3)


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("batch", [1, 3])
def test_reference_of_any_kind(animate, batch, channels):
    picture = torch.rand(batch, 9, 200, channels)
    frames = animate(reference=picture, poses=walk(1))[1]
    alone = animate(reference=picture[:1], poses=walk(1))[1]
    assert frames.shape == (1, 64, 64, 3)
    torch.testing.assert_close(frames, alone)


def test_opaque_rgba_is_rgb(animate):
    picture = torch.rand(1, 64, 64, 4)
    picture[..., 3] = 1
    with_alpha = animate(reference=picture, poses=walk(1))[1]
    without = animate(reference=picture[..., :3], poses=walk(1))[1]
    torch.testing.assert_close(with_alpha, without)


@pytest.mark.parametrize(
    "picture", [torch.zeros(0, 8, 8, 3), torch.zeros(1, 8, 8, 2), torch.full((1, 8, 8, 3), 300.0)]
)
def test_a_reference_that_is_no_picture(pack, animate, picture):
    with pytest.raises(pack.errors.ShapeError):
        animate(reference=picture, poses=walk(1))


def test_anchor_reference_pose_without_one(pack, animate):
    with pytest.raises(pack.errors.NoPoseError, match="connect it"):
        animate(poses=walk(1), anchor="reference_pose")
    with pytest.raises(pack.errors.NoPoseError, match="connect it"):
        animate(poses=walk(1), anchor="reference_pose", reference_pose=[EMPTY])
    run = animate(poses=walk(2), anchor="reference_pose", reference_pose=[standing_person()])
    assert run[0]["samples"].shape[0] == run[1].shape[0] == 2


@pytest.mark.parametrize(
    ("widgets", "message"),
    [
        ({"width": 70}, "multiple of"),
        ({"window_frames": 4, "window_overlap": 4}, "overlap"),
        ({"steps": 0}, "steps"),
        ({"guidance_min": float("nan")}, "guidance"),
    ],
)
def test_settings_that_contradict_each_other(pack, animate, widgets, message):
    with pytest.raises(pack.errors.ConfigError, match=message):
        animate(poses=walk(1), **widgets)


def test_an_identity_of_another_recogniser(pack, animate):
    identity = one_identity(pack, torch.ones(256))
    with pytest.raises(pack.errors.ShapeError, match=r"\(256,\)"):
        animate(poses=walk(1), identity=identity)


@pytest.mark.parametrize("shape", [(2, 16, 8, 8), (1, 4, 3, 8, 8), (4, 8, 8), (0, 4, 8, 8)])
def test_decode_refuses_other_latents(pack, model, shape):
    decode = pack.nodes["StableAnimatorDecode"]
    with pytest.raises(pack.errors.ShapeError, match="Animate with ID Adapter"):
        execute(decode, model=model, latent={"samples": torch.ones(shape)})


def test_a_model_that_is_gone(pack, folders):
    node = pack.nodes["StableAnimatorLoadModel"]
    for name in ("gone", "../elsewhere"):
        with pytest.raises(pack.errors.CheckpointError, match="There is no model"):
            execute(node, checkpoint=name)


def test_a_model_folder_without_weights(pack, folders):
    (folders.models / "half" / "Animation").mkdir(parents=True)
    with pytest.raises(pack.errors.CheckpointError, match="unet"):
        execute(pack.nodes["StableAnimatorLoadModel"], checkpoint="half")


@pytest.mark.parametrize("name", ["../x.json", "/etc/hostname", "a/../../x.json", "none.json", ""])
def test_load_poses_stays_in_the_input_folder(pack, folders, name):
    (folders.inputs.parent / "x.json").write_text(json.dumps(walk(1)), encoding="utf-8")
    node = pack.nodes["StableAnimatorLoadPoses"]
    with pytest.raises(pack.errors.MediaError, match="input folder"):
        node.execute(file=name)
    with pytest.raises(pack.errors.MediaError, match="input folder"):
        node.fingerprint_inputs(file=name)


def test_load_poses_follows_a_link_that_the_user_made(pack, folders, tmp_path):
    (tmp_path / "disk2.json").write_text(json.dumps(walk(1)), encoding="utf-8")
    (folders.inputs / "linked.json").symlink_to(tmp_path / "disk2.json")
    node = pack.nodes["StableAnimatorLoadPoses"]
    assert node.GET_SCHEMA().inputs[0].options == ["linked.json"]
    assert len(node.execute(file="linked.json")[0]) == 1


@pytest.mark.parametrize("text", ["", "{", "5", '[{"people": 3}]', "\ud800"])
def test_load_poses_names_a_damaged_file(pack, folders, text):
    (folders.inputs / "bad.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(pack.errors.MediaError):
        execute(pack.nodes["StableAnimatorLoadPoses"], file="bad.json")


@pytest.mark.parametrize("prefix", ["../out", "a/../../b"])
def test_save_poses_stays_in_the_output_folder(pack, folders, prefix):
    with pytest.raises(pack.errors.MediaError, match="output folder"):
        execute(pack.nodes["StableAnimatorSavePoses"], poses=walk(1), filename_prefix=prefix)
    assert sorted(p.name for p in folders.outputs.parent.iterdir()) == ["input", "models", "output"]


def test_save_poses_where_nothing_can_be_written(pack, folders):
    (folders.outputs / "taken").write_text("a file, not a folder", encoding="utf-8")
    with pytest.raises(pack.errors.MediaError, match="filename_prefix"):
        execute(pack.nodes["StableAnimatorSavePoses"], poses=walk(1), filename_prefix="taken/a")


def test_save_poses_refuses_what_is_no_motion(pack, folders):
    with pytest.raises(pack.errors.MediaError):
        execute(pack.nodes["StableAnimatorSavePoses"], poses="x")
    assert not list(folders.outputs.rglob("*.json"))


def test_draw_poses_without_frames(pack):
    with pytest.raises(pack.errors.NoPoseError, match="at least one"):
        execute(pack.nodes["StableAnimatorDrawPoses"], poses=[])


def test_draw_poses_of_nobody_is_black(pack):
    assert execute(pack.nodes["StableAnimatorDrawPoses"], poses=[EMPTY])[0].max() == 0
