"""What micro-batches of encoded drawn clips hold, and what a training is validated on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from animation_factory import config_of

from animator_core.errors import CheckpointError, ConfigError
from animator_core.training.animation import AnimationObjective
from animator_core.training.animation_batches import EncodedClipSource, usable_clips
from animator_core.training.animation_networks import load_training_models
from animator_core.training.held_out import HeldOutDrawings


def test_pictures_come_first_and_clips_last(settings):
    source = EncodedClipSource(config_of(settings))
    first, last = source(0, 1), source(3, 1)
    assert first["image_only"]
    assert first["latents"].shape == (3, 1, 4, 4, 4)
    assert not last["image_only"]
    assert last["latents"].shape == (2, 2, 4, 4, 4)
    assert torch.equal(source(0, 1)["latents"], first["latents"])
    assert not torch.equal(source(0, 2)["latents"], first["latents"])


def test_moments_are_the_reference_and_then_all_other_pictures(settings):
    config = config_of(settings)
    samples = replace(config.samples, moments=3, moments_share=1.0, hidden_heads=0.5)
    source = EncodedClipSource(replace(config, samples=samples))
    assert source(0, 1)["image_only"], "single pictures come first"
    batch = source(3, 1)
    assert not batch["image_only"]
    assert batch["latents"].shape == (3, 3, 4, 4, 4)
    lot = np.random.default_rng(0)
    drawn = [source._moments(lot, 5, hidden=hidden, count=3) for hidden in (False, True) * 30]
    assert {sample.reference for sample in drawn if not sample.hidden} == {0, 1, 2, 3}
    for sample in drawn:
        first, *others = sample.frames
        assert first == sample.reference
        assert others == sorted({0, 1, 2, 3} - {first})
        assert not sample.hidden or first == 0


def test_clips_begin_with_their_reference_as_often_as_asked(settings):
    config = config_of(settings)

    def drawn(**changes):
        samples = replace(config.samples, clip_frames=3, **changes)
        source, lot = EncodedClipSource(replace(config, samples=samples)), np.random.default_rng(0)
        return [source._clip(lot, 0, hidden=False, count=4) for _ in range(200)]

    for sample in drawn(anchored=0.0):
        first, *_ = sample.frames
        assert sample.frames == (first, first + 1, first + 2)
        assert sample.reference == 0 < first
    shares = np.mean([sample.frames[0] == 0 for sample in drawn(anchored=0.7)])
    assert 0.6 < shares < 0.8
    own = drawn(anchored=0.0, own_references=1.0)
    assert {sample.reference for sample in own} == {1, 2, 3, 4}
    for sample in own:
        first, *others = sample.frames
        assert first == sample.reference
        assert first not in others
        assert others == sorted(others)
        assert len(others) == 2


def test_kinds_of_micro_batches_come_in_their_shares(settings):
    config = config_of(settings)
    samples = replace(config.samples, clips_from=0.0, moments_share=0.5, pictures_share=0.2)
    source = EncodedClipSource(replace(config, samples=samples))
    lot = np.random.default_rng(0)
    kinds = [source._kind(lot, 0.5) for _ in range(1000)]
    shares = {kind: kinds.count(kind) / 1000 for kind in ("moments", "pictures", "clips")}
    assert shares == pytest.approx({"moments": 0.5, "pictures": 0.2, "clips": 0.3}, abs=0.05)
    with pytest.raises(ConfigError, match="together they must be at most 1"):
        replace(samples, pictures_share=0.6)


def test_an_anchored_validation_leaves_the_anchor_out(settings):
    config = config_of(settings)
    samples = replace(config.samples, clip_frames=3, clips_from=0.0, anchored=0.9)
    config = replace(config, samples=samples)
    objective = AnimationObjective(config, load_training_models(config), HeldOutDrawings(config))
    (case,) = HeldOutDrawings(config).cases(objective, 1)
    assert case.anchored
    assert torch.equal(case.frames[:, 0], case.references)
    assert case.batch["latents"].shape[1] == 3
    copied = case.references[:, None].expand_as(case.frames)
    # its own copy would be perfect and raise the mean
    alone = replace(case, frames=case.frames[:, 1:], heads=case.heads[:, 1:], anchored=False)
    assert case.figures("", copied) == alone.figures("", copied[:, 1:])


def test_more_clips_are_used_as_the_training_goes_on(settings):
    cache = replace(
        config_of(settings).cache("pictures"), clips=100, first_clips=20, complete_from=0.5
    )
    assert [usable_clips(cache, done) for done in (0.0, 0.25, 0.5, 0.9)] == [20, 60, 100, 100]


def test_a_training_waits_for_clips_and_says_so(settings, caplog):
    config = config_of(settings)
    late = replace(config.cache("pictures"), clips=400, first_clips=400, patience_s=0.01)
    source = EncodedClipSource(replace(config, pictures=late))
    with pytest.raises(CheckpointError, match="encode-clips"):
        source(0, 0)
    assert "waiting for" in caplog.text
