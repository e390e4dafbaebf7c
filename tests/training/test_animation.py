"""Training of the animation model on encoded drawn clips."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from animation_factory import config_of, write_networks

from animator_core.checkpoints.build import load_models
from animator_core.checkpoints.state_dict import read_state_dict
from animator_core.errors import CancelledError, ConfigError
from animator_core.interfaces import SilentMonitor
from animator_core.training.animation import (
    AnimationObjective,
    draw_kept,
    face_weighted_loss,
    velocity_target,
)
from animator_core.training.animation_batches import Sample, gather
from animator_core.training.animation_config import ConditioningDropout
from animator_core.training.animation_networks import load_training_models
from animator_core.training.animation_run import train_animation
from animator_core.training.drawn_clips import draw_clip
from animator_core.training.held_out import HeldOutDrawings
from animator_core.training.hidden_heads import HIDINGS, head_box, hide_head
from animator_core.training.latents import open_shard


def objective_of(settings, **changes):
    config = config_of(settings, **changes)
    return AnimationObjective(config, load_training_models(config), HeldOutDrawings(config))


class StopAt(SilentMonitor):
    def __init__(self, step):
        self.last, self.seen = step, 0

    def update(self, progress):
        self.seen = progress.done

    def raise_if_cancelled(self):
        if self.seen >= self.last:
            raise CancelledError("Stopped.")


def trained(settings, output, monitor=None, **loop):
    tables = json.loads(json.dumps(settings))
    tables["loop"] |= {"output": str(output), **loop}
    return train_animation(tables, "test", monitor)


def weights(folder):
    return read_state_dict(Path(folder) / "Animation/unet.safetensors")


def test_the_loss_is_the_published_one():
    generator = torch.Generator().manual_seed(0)
    clean, noise, prediction = torch.randn(3, 4, 2, 4, 3, 3, generator=generator).double()
    masks = (torch.rand(4, 2, 3, 3, generator=generator) > 0.5).double()
    sigma = torch.tensor([0.01, 0.5, 3.0, 200.0]).double()[:, None, None, None, None]
    # as StableAnimator 020e7f2, train.py:1420, writes it
    noisy = clean + noise * sigma
    denoised = prediction * (-sigma / (sigma**2 + 1) ** 0.5) + noisy / (sigma**2 + 1)
    weighing = (1 + sigma**2) / sigma**2
    squared = weighing * (denoised - clean) ** 2 * (1 + masks[:, :, None])
    expected = squared.flatten(1).mean(1)
    found = face_weighted_loss(prediction, velocity_target(clean, noise, sigma), masks)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6)


def test_faces_weigh_more_by_what_is_asked_for():
    error, target = torch.ones(1, 1, 4, 2, 2), torch.zeros(1, 1, 4, 2, 2)
    masks = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    assert float(face_weighted_loss(error, target, masks, 1.0)) == pytest.approx(5 / 4)
    assert float(face_weighted_loss(error, target, masks, 3.0)) == pytest.approx(7 / 4)
    assert float(face_weighted_loss(error, target, masks, 0.0)) == pytest.approx(1.0)


def test_dropout_follows_the_published_scheme():
    generator = torch.Generator().manual_seed(0)
    kept = draw_kept(ConditioningDropout(reference=0.1), 20000, generator)
    tokens, latents, identity, pose = (1 - kept).T
    assert float(tokens.mean()) == pytest.approx(0.2, abs=0.01)
    assert float(latents.mean()) == pytest.approx(0.2, abs=0.01)
    assert float((tokens * latents).mean()) == pytest.approx(0.1, abs=0.01)
    assert not identity.any()
    assert not pose.any()
    dropout = ConditioningDropout(reference=0.0, identity=0.12, pose=0.3, everything=0.05)
    lost = 1 - draw_kept(dropout, 20000, generator)
    assert float(lost[:, 0].mean()) == pytest.approx(0.05, abs=0.01)
    assert float(lost[:, 2].mean()) == pytest.approx(0.164, abs=0.01)
    assert float(lost.prod(1).mean()) == pytest.approx(0.05, abs=0.01)
    assert draw_kept(None, 3, generator).all()


def test_clips_are_encoded_as_inference_does(settings):
    config = config_of(settings)
    cache, models = config.cache("clips"), load_training_models(config)
    clip = draw_clip(1, cache.data)
    batch = gather(cache, "train", [Sample(1, 0, (1, 3))])
    pixels = torch.from_numpy(np.stack([clip.reference, *clip.frames])).permute(0, 3, 1, 2)
    latents = models.vae.encode_chunks(pixels.float() / 127.5 - 1).detach()
    torch.testing.assert_close(batch["latents"][0], latents[[1, 3]], rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(batch["reference_latents"][0], latents[0], rtol=2e-3, atol=2e-3)
    assert batch["poses"].shape == (1, 2, 3, 32, 32)
    assert batch["poses"].dtype == torch.uint8
    assert batch["poses"].any()
    assert batch["face_masks"].shape == (1, 2, 4, 4)
    assert not batch["image_only"]


def test_noise_on_latents_is_like_noise_on_pixels(settings):
    config = config_of(settings)
    cache, vae = config.cache("clips"), load_training_models(config).vae
    lot = np.random.default_rng(3)
    clean = torch.from_numpy(draw_clip(0, cache.data).reference).permute(2, 0, 1)[None]
    clean = clean.float() / 127.5 - 1
    noisy = clean + 0.02 * torch.from_numpy(lot.standard_normal((64, 3, 32, 32))).float()
    moved = (vae.encode_chunks(noisy) - vae.encode_chunks(clean)).detach().std((0, 2, 3))
    plain = gather(cache, "train", [Sample(0, 0, (1,))])
    samples = [Sample(0, 0, (1,))] * 64
    noised = gather(cache, "train", samples, noise=(0.02, lot))
    found = (noised["reference_latents"] - plain["reference_latents"]).std((0, 2, 3))
    # it depends on the picture, which is measured on others
    assert ((found / moved > 0.5) & (found / moved < 2.0)).all()


def test_hidden_heads_are_only_hidden(settings):
    cache = config_of(settings).cache("clips")
    shard = open_shard(cache, "validation", 0)
    assert (shard.hidden_place >= 0).sum() == shard.has_face[:, 0].sum()
    shown = next(i for i in range(8) if open_shard_place(cache, i) >= 0)
    plain, hidden = (
        gather(cache, "validation", [Sample(shown, 0, (1,), hidden=h)]) for h in (False, True)
    )
    for key in ("latents", "face_embedding", "poses", "has_face"):
        assert torch.equal(plain[key], hidden[key])
    assert not torch.equal(plain["reference_latents"], hidden["reference_latents"])


def open_shard_place(cache, clip):
    index, place = divmod(clip, cache.shard_clips)
    return int(open_shard(cache, "validation", index).hidden_place[place])


@pytest.mark.parametrize("hiding", HIDINGS)
def test_a_hidden_head_shows_nothing(hiding):
    lot = np.random.default_rng(0)
    picture = lot.integers(0, 256, (40, 50, 3)).astype(np.uint8)
    box = np.array([20.0, 15.0, 30.0, 27.0])
    x0, y0, x1, y1 = head_box(box, 40, 50)
    assert x0 < 20 < 30 < x1
    assert y0 < 15 < 27 < y1
    hidden = hide_head(picture, box, hiding, lot)
    assert np.array_equal(np.delete(hidden, slice(y0, y1), 0), np.delete(picture, slice(y0, y1), 0))
    before, after = picture[y0:y1, x0:x1].astype(float), hidden[y0:y1, x0:x1].astype(float)
    assert after.std() == 0 or abs(np.corrcoef(before.ravel(), after.ravel())[0, 1]) < 0.35


def test_clips_of_other_settings_or_networks_are_refused(settings, tmp_path):
    config = config_of(settings)
    other = replace(config.cache("clips"), visible_share=0.1)
    with pytest.raises(ConfigError, match="was encoded with"):
        open_shard(other, "train", 0)
    tables = json.loads(json.dumps(settings))
    tables["frozen"] |= {"models": str(write_networks(tmp_path / "others"))}
    state = read_state_dict(tmp_path / "others/recogniser.safetensors")
    from safetensors.torch import save_file

    state["fc.bias"] = state["fc.bias"] + 1
    save_file(state, tmp_path / "others/other.safetensors")
    tables["frozen"]["recogniser"] = str(tmp_path / "others/other.safetensors")
    with pytest.raises(ConfigError, match="other networks"):
        train_animation(tables, "test")


def test_what_is_published_as_trained_is_trained(settings, tmp_path):
    models = load_training_models(config_of(settings))
    moving = {n for n, p in models.unet.named_parameters() if p.requires_grad}
    assert moving
    assert all("attentions" in name for name in moving)
    assert any("id_to_k" in name for name in moving)
    assert all(p.requires_grad for p in models.pose_net.parameters())
    assert not any(p.requires_grad for p in models.vae.parameters())
    everything = load_training_models(config_of(settings, trained="all"))
    assert all(p.requires_grad for p in everything.unet.parameters())
    folder = trained(settings, tmp_path / "run")
    before = models.unet.state_dict()
    after = weights(folder)
    changed = {k for k, v in after.items() if not torch.equal(v, before[k])}
    assert changed
    assert changed <= moving


def test_a_trained_model_loads(settings, tmp_path):
    folder = trained(settings, tmp_path / "run")
    stable_video = Path(settings["frozen"]["models"]) / "SVD"
    models = load_models(folder, torch.float32, stable_video_folder=stable_video)
    assert models.trained
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [2, 4, 6]
    assert all(np.isfinite(entry["loss"]) for entry in log)


def test_a_training_from_nothing_writes_a_whole_model(settings, tmp_path):
    tables = json.loads(json.dumps(settings)) | {"start": "fresh", "trained": "all"}
    tables |= {"widths": [32, 32, 32], "heads": [2, 2, 2]}
    folder = trained(tables, tmp_path / "run", steps=2, validate_every=2)
    models = load_models(folder, torch.float32)
    assert models.unet.config["block_out_channels"] == (32, 32, 32)
    figures = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])["validation"]
    wanted = {"psnr", "copy_psnr", "vae_psnr", "hidden_psnr_head", "loss_at_0.05"}
    assert wanted <= figures.keys()
    assert (folder / "validation/step_0000002_0.png").is_file()


def test_three_kills_change_nothing(settings, tmp_path):
    whole = trained(settings, tmp_path / "whole")
    for last in (1, 3, 4):
        with pytest.raises(CancelledError):
            trained(settings, tmp_path / "broken", StopAt(last))
    broken = trained(settings, tmp_path / "broken")
    expected, found = weights(whole), weights(broken)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


_TWO_PROCESSES = """
import json, sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from animator_core.training.animation_run import train_animation
train_animation(json.loads({tables!r}), "test")
"""


def summed_gradients(folder):
    """Adam's first moments: the sums of all steps' gradients, later ones counting more."""
    state = torch.load(Path(folder) / "checkpoint.pt", weights_only=True)["optimizer"]["state"]
    return {index: values["exp_avg"].double() for index, values in state.items()}


def distance(state, other):
    return sum(float((v - other[k]).double().square().sum()) for k, v in state.items()) ** 0.5


# Adam's first steps have the gradient's sign, also where it is all but zero and sums of other order
# decide it, and the next gradients see that. So several steps are compared where the weights stay,
# without the clipping that would hide a factor, and the weights after one step.
@pytest.mark.parametrize(
    "loop",
    [{"steps": 3, "learning_rate": 0.0, "gradient_clip": 1e9}, {"steps": 1}],
    ids=["gradients", "update"],
)
def test_two_processes_are_one_with_twice_the_accumulation(settings, tmp_path, loop):
    alone = trained(settings, tmp_path / "alone", accumulation=4, threads=1, **loop)
    tables = json.loads(json.dumps(settings))
    tables["loop"] |= {
        "output": str(tmp_path / "both"), "accumulation": 2, "threads": 1, **loop
    }  # fmt: skip
    script = tmp_path / "both.py"
    code = _TWO_PROCESSES.format(tests=str(Path(__file__).parents[1]), tables=json.dumps(tables))
    script.write_text(code)
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
    process = subprocess.Popen(
        [sys.executable, *command, str(script)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, complaints = process.communicate(timeout=900)
    finally:  # the two workers, too
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, complaints[-3000:]
    losses = [
        [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]
        for folder in (alone, tmp_path / "both")
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    expected, found = summed_gradients(alone), summed_gradients(tmp_path / "both")
    assert expected.keys() == found.keys()
    for index, value in expected.items():
        assert (found[index] - value).norm() <= 1e-5 * value.norm()
    before = load_training_models(config_of(settings)).unet.state_dict()
    expected, found = weights(alone), weights(tmp_path / "both")
    movement = distance(expected, before)
    assert (movement > 0) == (loop.get("learning_rate") != 0)
    assert distance(found, expected) <= 1e-4 * movement
