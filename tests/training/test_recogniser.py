from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from animator_core.demo.model import DEMO_FOLDER
from animator_core.errors import CheckpointError, ConfigError
from animator_core.faces.analysis import _open
from animator_core.models.face_recognition import build_recogniser
from animator_core.models.face_recognition_onnx import recogniser_state_from_onnx
from animator_core.training.face_crops import (
    FaceCropConfig,
    FaceCropSource,
    face_crops,
    held_out_crops,
    weathered,
)
from animator_core.training.loop import LoopConfig, train
from animator_core.training.recogniser import (
    TASK,
    RecogniserObjective,
    RecogniserTrainingConfig,
    arcface_logits,
    verification_figures,
)


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> RecogniserTrainingConfig:
    folder = tmp_path_factory.mktemp("recogniser")
    return RecogniserTrainingConfig(
        loop=LoopConfig(
            output=str(folder / "run"),
            steps=12,
            learning_rate=4e-3,
            warmup_steps=0,
            decay=0.3,
            ema=0.5,
            checkpoint_every=6,
            validate_every=12,
            workers=0,
        ),
        data=FaceCropConfig(
            folder=str(folder / "faces"),
            identities=3,
            crops=2,
            held_out_identities=2,
            held_out_crops=2,
            picture_px=(96, 96),
            workers=0,
        ),
        layers=(1, 1, 1, 1),
        widths=(8, 8, 8, 8, 8),
        num_features=16,
        batch=8,
        margin=0.2,
        margin_steps=6,
    )


def test_margin_is_added_to_the_angle_of_the_right_class():
    cosines = torch.tensor([[0.5, 0.2, -0.1], [0.3, 0.9, 0.4]])
    logits = arcface_logits(cosines, torch.tensor([0, 1]), torch.tensor(0.4), 10.0)
    expected = 10 * cosines.clone()
    expected[0, 0] = 10 * math.cos(math.acos(0.5) + 0.4)
    expected[1, 1] = 10 * math.cos(math.acos(0.9) + 0.4)
    torch.testing.assert_close(logits, expected)


def test_margin_falls_on_where_the_cosine_would_rise_again():
    angles = torch.linspace(0.01, math.pi - 0.01, 200)
    cosines = torch.cos(angles)[:, None].requires_grad_()
    labels = torch.zeros(200, dtype=torch.long)
    logits = arcface_logits(cosines, labels, torch.tensor(0.5), 1.0)[:, 0]
    assert (logits.diff() < 0).all()
    (gradient,) = torch.autograd.grad(logits.sum(), cosines)
    assert gradient.isfinite().all()


def test_verification_figures_of_perfect_and_of_useless_embeddings():
    labels = np.repeat(np.arange(4), 3)
    perfect = verification_figures(np.eye(4)[labels] + 0.01, labels)
    assert perfect["auc"] == 1
    assert perfect["accuracy"] == 1
    assert perfect["same"] > 0.99
    useless = verification_figures(np.ones((12, 5)), labels)
    assert useless["accuracy"] == pytest.approx(0.5)


def test_faces_are_drawn_once_and_refused_with_other_settings(config):
    faces = face_crops(config.data)
    assert faces.shape == (3, 2, 112, 112, 3)
    assert held_out_crops(config.data).shape == (2, 2, 112, 112, 3)
    np.testing.assert_array_equal(faces, face_crops(config.data))
    with pytest.raises(ConfigError, match="holds drawings"):
        face_crops(replace(config.data, identities=4))


def test_batches_follow_from_their_seed(config):
    face_crops(config.data)
    source = FaceCropSource(config.data, 4, 0.3, 10)
    first, again, other = source(2, 5), source(2, 5), source(2, 6)
    assert torch.equal(first["faces"], again["faces"])
    assert not torch.equal(first["faces"], other["faces"])
    assert float(first["margin"]) == pytest.approx(0.06)
    assert float(source(99, 5)["margin"]) == pytest.approx(0.3)


def test_weathering_keeps_the_picture_recognisable(config):
    crop = face_crops(config.data)[0, 0]
    changed = weathered(crop, np.random.default_rng(3), config.data)
    assert changed.dtype == np.uint8
    assert changed.shape == crop.shape
    assert np.corrcoef(changed.ravel(), crop.ravel())[0, 1] > 0.9


def test_training_learns_and_its_files_load(config):
    face_crops(config.data)
    source = FaceCropSource(config.data, config.batch, config.margin, config.margin_steps)
    objective = RecogniserObjective(config)
    batch = source(0, 1)
    with torch.no_grad():
        before = objective(batch, torch.Generator())["loss"]
    folder = train(objective, source, config.loop)
    with torch.no_grad():
        after = objective.train()(batch, torch.Generator())["loss"]
    assert after < 0.7 * before

    state = load_file(folder / "Animation" / "glintr100_torch.safetensors")
    path = folder / "antelopev2" / "glintr100.onnx"
    faces = torch.from_numpy(face_crops(config.data)[0].transpose(0, 3, 1, 2).copy())
    pixels = faces.float() / 127.5 - 1
    wanted = build_recogniser(state)(pixels)
    again = build_recogniser(recogniser_state_from_onnx(path))(pixels)
    torch.testing.assert_close(again, wanted, atol=1e-4, rtol=1e-4)
    reader = _open(path, "recognition", ["CPUExecutionProvider"])
    found = reader.get_feat(np.ascontiguousarray(face_crops(config.data)[0, 0][..., ::-1]))
    np.testing.assert_allclose(found[0], wanted[0].numpy(), atol=1e-3)


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory) -> Path:
    """A recogniser of a few steps."""
    output = str(tmp_path_factory.mktemp("trained"))
    run = replace(config, loop=replace(config.loop, output=output, validate_every=0))
    return (
        train(RecogniserObjective(run), TASK.batches(run), run.loop) / "antelopev2/glintr100.onnx"
    )


def test_training_on_begins_with_what_the_network_knows(config, trained):
    again = RecogniserObjective(replace(config, initial=str(trained)))
    pixels = torch.randint(0, 256, (4, 3, 112, 112), dtype=torch.uint8)
    wanted = build_recogniser(recogniser_state_from_onnx(trained))(pixels.float() / 127.5 - 1)
    # in training mode too, where fresh norms would take their statistics from the batch
    torch.testing.assert_close(again.train().embed(pixels), wanted, atol=1e-5, rtol=1e-5)

    crops = torch.from_numpy(face_crops(config.data)[0].transpose(0, 3, 1, 2).copy())
    directions = torch.nn.functional.normalize(again.embed(crops)).mean(0)
    cosine = torch.cosine_similarity(directions, again.centers[0], dim=0)
    assert float(cosine.detach()) == pytest.approx(1.0, abs=1e-4)


def test_training_on_learns_and_its_files_load(config, trained, tmp_path):
    loop = replace(config.loop, output=str(tmp_path), learning_rate=1e-3, validate_every=0)
    run = replace(config, initial=str(trained), loop=loop)
    objective, source = RecogniserObjective(run), TASK.batches(run)
    batch = source(20, 1)
    with torch.no_grad():
        before = float(objective.train()(batch, torch.Generator())["loss"])
    folder = train(objective, source, run.loop)
    with torch.no_grad():
        assert float(objective.train()(batch, torch.Generator())["loss"]) < before
    state = load_file(folder / "Animation" / "glintr100_torch.safetensors")
    pixels = torch.rand(2, 3, 112, 112) * 2 - 1
    path = folder / "antelopev2" / "glintr100.onnx"
    again = build_recogniser(recogniser_state_from_onnx(path))(pixels)
    torch.testing.assert_close(again, build_recogniser(state)(pixels), atol=1e-4, rtol=1e-4)


def test_training_on_refuses_a_network_of_other_sizes(config, trained):
    with pytest.raises(CheckpointError, match=r"num_features.: 16.*num_features.: 8"):
        RecogniserObjective(replace(config, initial=str(trained), num_features=8))


def test_faces_go_through_the_vae(config, tmp_path):
    data = replace(config.data, picture_px=(90, 90), vae=str(DEMO_FOLDER))  # 90: no multiple of 8
    clear, soft = (
        face_crops(replace(data, folder=str(tmp_path / name), decoded_share=share)).astype(float)
        for name, share in (("clear", 0.0), ("soft", 1.0))
    )
    assert soft.shape == clear.shape
    error = np.abs(soft - clear).mean()
    assert 2 < error < 30  # the same faces, but not the same pixels
    with pytest.raises(ConfigError, match="holds drawings"):
        face_crops(replace(data, folder=str(tmp_path / "soft"), decoded_share=0.5))
    with pytest.raises(ConfigError, match="decoded_share"):
        replace(data, decoded_share=1.5)


def test_bad_margin(config):
    with pytest.raises(ConfigError, match="margin"):
        replace(config, margin=2.0)
