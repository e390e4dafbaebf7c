"""The loss on whose face is predicted."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from animation_factory import config_of

from animator_core.checkpoints.build import load_network
from animator_core.demo.model import DEMO_FOLDER
from animator_core.errors import ConfigError
from animator_core.faces.crops import FaceBox, FaceRegion, similarity_to_template, warp_faces
from animator_core.faces.similarity import embed_faces
from animator_core.frames import to_model_range
from animator_core.training.animation import AnimationObjective
from animator_core.training.animation_batches import Sample, gather
from animator_core.training.animation_networks import load_recogniser, load_training_models
from animator_core.training.animation_run import encode_training_clips, train_animation
from animator_core.training.drawn_clips import DrawnClipConfig, draw_clip, five_points
from animator_core.training.held_out import HeldOutDrawings
from animator_core.training.identity_loss import IdentityLoss, faces_to_compare
from animator_core.training.latents import open_shard


@pytest.fixture(scope="module")
def objective(settings):
    config = config_of(settings, identity_weight=0.5, trained="all")
    return AnimationObjective(config, load_training_models(config), HeldOutDrawings(config))


@pytest.fixture(scope="module")
def batch(settings):
    """Two clips that show their faces."""
    cache = config_of(settings).cache("clips")
    samples = [Sample(clip, 0, (0, 1, 2)) for clip in range(8)]
    rows = [gather(cache, "validation", [sample]) for sample in samples]
    shown = [s for s, r in zip(samples, rows, strict=True) if faces_to_compare(r).all()]
    return gather(cache, "validation", shown[:2])


def everything_asked(batch):
    return torch.ones(len(batch["latents"]), dtype=torch.bool)


def test_it_is_what_the_metric_measures(objective, batch):
    loss = objective.identity_loss
    denoised = batch["latents"] * objective.vae.scaling_factor
    loss.frames = 99
    found = loss(denoised, batch, everything_asked(batch), torch.Generator())
    cosines = []
    for video, face in zip(denoised, batch["face_embedding"], strict=True):
        index = len(cosines) // len(video)
        for latent, points in zip(video, batch["face_points"][index].double(), strict=True):
            with torch.no_grad():
                frame = objective.vae.decode_frames(latent[None])
            known = np.concatenate([points.numpy(), np.ones((5, 1))], axis=1)
            region = FaceRegion(box=FaceBox(top=0, bottom=9, left=0, right=9), points_px=known)
            embedding = embed_faces(loss.recogniser, frame, [region])
            cosines.append(torch.cosine_similarity(embedding, face[None]))
    torch.testing.assert_close(1 - found, torch.cat(cosines).mean(), rtol=1e-4, atol=1e-4)


def test_a_decoder_without_norms_decodes_little_but_the_face():
    """And finds the same face there as in the whole frame."""
    vae: Any = load_network("vae", DEMO_FOLDER)
    recogniser = load_recogniser(DEMO_FOLDER / "antelopev2" / "glintr100.onnx")
    clip = draw_clip(3, DrawnClipConfig(frames=2))
    points = np.stack([five_points(pose.people[0]) for pose in clip.poses])
    latents = vae.encode_chunks(to_model_range(clip.frames)).detach() * vae.scaling_factor
    latents = latents[None].requires_grad_()
    matrix = similarity_to_template(five_points(clip.reference_pose.people[0]))
    reference = warp_faces(to_model_range(clip.reference[None]), [matrix])
    batch = {
        "face_points": torch.from_numpy(points)[None],
        "face_embedding": recogniser(reference),
        "has_face": torch.tensor([True]),
    }

    def measured(loss):
        value = loss(latents, batch, torch.tensor([True]), torch.Generator())
        (gradient,) = torch.autograd.grad(value, latents)
        return value.item(), gradient.ne(0).any(dim=2).float().mean().item()

    loss = IdentityLoss(vae.requires_grad_(requires_grad=False), recogniser, 2)
    part, touched = measured(loss)
    loss.margin = None
    whole, everywhere = measured(loss)
    assert part == pytest.approx(whole, abs=0.02)
    assert touched < 0.5 < everywhere


def test_it_teaches_the_denoiser_alone(objective, batch):
    objective.zero_grad()
    generator = torch.Generator().manual_seed(0)
    sigma = torch.full((2,), 5.0)
    _, denoised, _ = objective._denoised(batch, sigma, generator, None)
    objective.identity_loss(denoised, batch, everything_asked(batch), generator).backward()
    moved = {name for name, p in objective.named_parameters() if p.grad is not None}
    assert any("id_to_k" in name for name in moved)
    assert not any(name.startswith(("vae", "identity_loss")) for name in moved)
    objective.zero_grad()


def test_the_recogniser_does_not_learn_from_it(objective, batch):
    """Not even its norms' statistics, while all other networks are in training."""
    denoised, asked = batch["latents"] * objective.vae.scaling_factor, everything_asked(batch)

    def measured():
        generator = torch.Generator().manual_seed(0)
        return float(objective.identity_loss(denoised, batch, asked, generator).detach())

    expected = measured()
    objective.train()
    assert [measured(), measured()] == [expected, expected]
    objective.eval()
    assert measured() == expected


def test_clean_predictions_come_back(objective, batch):
    """What is decoded is the prediction itself: a perfect one gives the clean latents."""
    sigma, clean = torch.full((2,), 3.0), batch["latents"] * objective.vae.scaling_factor
    losses, denoised, _ = objective._denoised(batch, sigma, torch.Generator().manual_seed(1), None)
    error = (denoised - clean).square() * (sigma[0] ** 2 + 1) / sigma[0] ** 2
    weights = 1 + objective.config.face_weight * batch["face_masks"][:, :, None]
    torch.testing.assert_close((error * weights).mean((1, 2, 3, 4)), losses, rtol=1e-3, atol=1e-4)


def test_only_faces_that_were_given_and_are_shown_count(objective, batch):
    generator = torch.Generator()
    denoised = batch["latents"]
    nobody = torch.zeros(2, dtype=torch.bool)
    assert float(objective.identity_loss(denoised, batch, nobody, generator)) == 0.0
    turned = batch | {"face_points": torch.zeros_like(batch["face_points"])}
    assert float(objective.identity_loss(denoised, turned, ~nobody, generator)) == 0.0
    faceless = batch | {"has_face": nobody}
    assert float(objective.identity_loss(denoised, faceless, ~nobody, generator)) == 0.0


def test_another_person_s_face_does_not_count(settings, tmp_path):
    """Where two people take turns at having the largest face, only the reference's counts."""
    tables = json.loads(json.dumps(settings))
    for name in ("pictures", "clips"):
        tables[name]["folder"] = str(tmp_path / name)
        tables[name]["data"]["pairs"] = 1.0
    encode_training_clips(tables, "test")
    cache = config_of(tables).cache("clips")
    seen = set()
    for clip in range(8):
        shard = open_shard(cache, "validation", clip // cache.shard_clips)
        people = shard.face_person[clip % cache.shard_clips]
        for reference in range(len(people)):
            frames = tuple(range(len(people)))
            row = gather(cache, "validation", [Sample(clip, reference, frames)])
            expected = (people == people[reference]) & (people >= 0)
            assert torch.equal(faces_to_compare(row)[0], expected)
            seen |= set(people.tolist())
    assert {0, 1} <= seen


def test_a_training_logs_it_and_validates_likeness(settings, tmp_path):
    tables = json.loads(json.dumps(settings)) | {"identity_weight": 0.1, "validation_videos": 4}
    tables["loop"] |= {"output": str(tmp_path), "steps": 2, "validate_every": 2}
    train_animation(tables, "test")
    entry = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert entry["loss"] == pytest.approx(
        entry["squared_error"] + 0.1 * entry["identity"], rel=1e-4
    )
    assert -1 <= entry["validation"]["csim"] <= 1


def test_folders_do_not_know_where_faces_lie(settings):
    tables = json.loads(json.dumps(settings)) | {"identity_weight": 0.1}
    del tables["pictures"], tables["clips"]
    tables["samples"] = {}
    with pytest.raises(ConfigError, match="identity_weight"):
        train_animation(tables | {"folders": {"root": "nowhere"}}, "test")
    with pytest.raises(ConfigError, match="identity_weight"):
        config_of(settings, identity_weight=-1.0)
