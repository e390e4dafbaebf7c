"""Generated motions, training cases, and a training loop that goes on where it was killed."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from animator_core.errors import CheckpointError, ConfigError
from animator_core.pose.learned_fit import load_aligner
from animator_core.pose.skeletons import BODY_LIMBS
from animator_core.training import aligner
from animator_core.training.aligner import (
    AlignerTrainingConfig,
    alignment_error,
    evaluate,
    load_training_config,
    train,
)
from animator_core.training.aligner_data import CaseConfig, make_cases
from animator_core.training.bodies import sample_bodies
from animator_core.training.kinematics import joint_positions
from animator_core.training.motions import KINDS, sample_motions

RIGID = [(2, 3), (3, 4), (5, 6), (6, 7), (8, 9), (9, 10), (11, 12), (12, 13), (2, 5), (8, 11)]


def config(folder, **changes) -> AlignerTrainingConfig:
    settings = {
        "output": str(folder),
        "steps": 7,
        "batch": 4,
        "frames": (6, 3),
        "warmup_steps": 2,
        "checkpoint_every": 2,
        "validate_every": 4,
        "validation_cases": 8,
        "dim": 16,
        "layers": 1,
    }
    return AlignerTrainingConfig(**{**settings, **changes})


# --- motions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_limbs_are_rigid_and_motion_is_smooth(kind):
    rng = np.random.default_rng(1)
    motions, bodies = sample_motions(rng, 8, [kind]), sample_bodies(rng, 8)
    times = np.tile(np.arange(60) / 60.0, (8, 1))
    joints = joint_positions(motions, bodies, times)
    assert np.isfinite(joints).all()
    first, second = np.array(RIGID).T
    length = np.linalg.norm(joints[:, :, first] - joints[:, :, second], axis=-1)
    np.testing.assert_allclose(length, np.broadcast_to(length[:, :1], length.shape), atol=1e-6)
    speed = np.linalg.norm(np.diff(joints, axis=1), axis=-1) * 60
    assert np.quantile(speed, 0.999) < 25  # metres a second; a fast dancer's hand reaches 10


def test_feet_stand_still_while_the_body_moves_over_them():
    rng = np.random.default_rng(2)
    motions, bodies = sample_motions(rng, 8, ["dance_in_place"]), sample_bodies(rng, 8)
    joints = joint_positions(motions, bodies, np.tile(np.linspace(0, 4, 50), (8, 1)))
    ankles = np.ptp(joints[:, :, [10, 13]], axis=1).max()
    hips = np.ptp(joints[:, :, [8, 11]], axis=1).max()
    assert ankles < 0.25 * hips


def test_bodies_have_human_proportions():
    bodies = sample_bodies(np.random.default_rng(0), 4000)
    # Winter, fig. 4.1: segment lengths over the stature
    ratio = {"thigh": 0.245, "shank": 0.246, "upper_arm": 0.186, "forearm": 0.146}
    for name, share in ratio.items():
        relative = bodies[name] / bodies["torso"]
        assert np.median(relative) == pytest.approx(share / 0.288, rel=0.02)
        assert 0.04 < relative.std() / relative.mean() < 0.2


# --- cases ------------------------------------------------------------------------------------


def test_cases_depend_on_the_seed_only():
    first, again = (make_cases(np.random.default_rng(5), 6) for _ in range(2))
    np.testing.assert_array_equal(first.pair.driving, again.pair.driving)
    other = make_cases(np.random.default_rng(6), 6)
    assert not np.array_equal(first.pair.driving, other.pair.driving)


def test_true_maps_undo_the_misalignment():
    settings = {"cross_body": 0.0, "half_body": 0.0, "frames": 8}
    plain, moved = (
        make_cases(np.random.default_rng(5), 10, CaseConfig(**settings, **extra))
        for extra in ({"rotation_deg": 0.0, "scale": (1.0, 1.0), "shift": 0.0}, {})
    )
    np.testing.assert_allclose(plain.factor, 1)
    np.testing.assert_allclose(plain.shift, 0, atol=1e-12)
    undone = moved.factor[:, None, None] * moved.clean + moved.shift[:, None, None]
    np.testing.assert_allclose(undone, plain.clean, atol=1e-9)
    np.testing.assert_allclose(alignment_error(moved, moved.factor, moved.shift), 0, atol=1e-12)


def test_maps_to_another_body_make_limbs_as_long_as_its_own():
    cases = make_cases(
        np.random.default_rng(7), 200, CaseConfig(cross_body=1.0, half_body=0.0, frames=8)
    )
    mapped = cases.factor[:, None, None] * cases.clean + cases.shift[:, None, None]
    first, second = np.array(BODY_LIMBS).T
    clip = np.median(np.abs(mapped[..., first] - mapped[..., second]), 1)
    goal = np.abs(cases.pair.reference[:, first] - cases.pair.reference[:, second])
    known = cases.pair.reference_confidence > 0
    seen = known[:, first] & known[:, second] & (goal > 0.05)
    assert np.median((clip / np.where(seen, goal, 1))[seen]) == pytest.approx(1, abs=0.05)


def test_cases_cover_what_real_clips_lack():
    cases = make_cases(np.random.default_rng(3), 300)
    seen = (cases.pair.driving_confidence > 0).any(1)
    assert (~seen[:, [0, 14, 15, 16, 17]]).all(1).mean() > 0.1  # no head at all
    assert (~seen[:, [9, 10, 12, 13]]).all(1).mean() > 0.05  # cut at the knees
    assert 0.3 < cases.cross_body.mean() < 0.7
    assert (seen & (cases.pair.reference_confidence > 0)).sum(1).min() >= 5


# --- the loop ---------------------------------------------------------------------------------


def test_a_killed_run_ends_with_the_same_weights(tmp_path, monkeypatch):
    whole = load_file(train(config(tmp_path / "whole")))

    draw = aligner.CaseSource.__call__

    def die_at_five(source, step, seed):
        if step == 5:
            raise KeyboardInterrupt
        return draw(source, step, seed)

    monkeypatch.setattr(aligner.CaseSource, "__call__", die_at_five)
    with pytest.raises(KeyboardInterrupt):
        train(config(tmp_path / "killed"))
    monkeypatch.setattr(aligner.CaseSource, "__call__", draw)
    resumed = load_file(train(config(tmp_path / "killed")))
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name

    logs = [
        [json.loads(line) for line in (tmp_path / n / "log.jsonl").read_text().splitlines()]
        for n in ("whole", "killed")
    ]
    assert [e["step"] for e in logs[0]] == [e["step"] for e in logs[1]] == [2, 4, 6, 7]
    assert logs[0][1]["validation"] == logs[1][1]["validation"]


def test_stopping_early_and_going_on_is_exact(tmp_path):
    whole = load_file(train(config(tmp_path / "whole")))
    train(config(tmp_path / "parts"), stop_after=3)
    parts = load_file(train(config(tmp_path / "parts")))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_training_lowers_the_loss(tmp_path):
    # without guidance the start is poor, so that a few steps show
    run = config(
        tmp_path,
        steps=60,
        batch=16,
        frames=(8,),
        learning_rate=5e-3,
        decay=0.9,
        validate_every=0,
        guided=False,
        weighted=False,
    )
    cases = make_cases(np.random.default_rng(99), 200)
    trained, fresh = load_aligner(train(run)), aligner.PoseAligner(run.network())
    assert evaluate(trained, cases).mean() < 0.9 * evaluate(fresh, cases).mean()


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    train(config(tmp_path, steps=2))
    with pytest.raises(CheckpointError, match="another network"):
        train(config(tmp_path, dim=32))


def test_settings_files(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('output = "x"\nsteps = 3\nframes = [4, 2]\n[data]\nkinds = ["walk"]\n')
    loaded = load_training_config(path)
    assert loaded.steps == 3
    assert loaded.frames == (4, 2)
    assert loaded.data.kinds == ("walk",)
    path.write_text('output = "x"\nspeed = 3\n')
    with pytest.raises(ConfigError, match="speed"):
        load_training_config(path)
    path.write_text("output = \n")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_training_config(path)
    with pytest.raises(ConfigError, match="steps"):
        config(tmp_path, steps=0)
    with pytest.raises(ConfigError, match="frames"):
        config(tmp_path, frames=())
