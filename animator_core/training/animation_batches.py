"""Micro-batches of encoded clips: single pictures first, videos in the last part of a training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from .animation_config import AnimationTrainingConfig, ClipCacheConfig
from .drawn_clips import Split
from .latents import Shard, open_shard, wait_for_shard

__all__ = ["EncodedClipSource", "Sample", "gather", "usable_clips"]


@dataclass(frozen=True)
class Sample:
    """One video of a micro-batch. Picture 0 of a clip lies at another time than its frames.

    Attributes:
        clip: Index of the clip, from 0.
        reference: The picture that serves as reference.
        frames: The pictures that are to be generated.
        hidden: Whether the reference's head is hidden; the reference is picture 0 then.
    """

    clip: int
    reference: int
    frames: tuple[int, ...]
    hidden: bool = False


def usable_clips(config: ClipCacheConfig, done: float) -> int:
    """How many clips are used when a share of the training is done."""
    grown = min(done / config.complete_from, 1.0) if config.complete_from else 1.0
    return config.first_clips + int(grown * (config.clips - config.first_clips))


@dataclass(frozen=True)
class EncodedClipSource:
    """Draws micro-batches from the caches.

    Attributes:
        config: The run.
    """

    config: AnimationTrainingConfig

    def __call__(self, step: int, seed: int) -> dict[str, Any]:
        """See `gather`."""
        lot = np.random.default_rng(seed)
        done = step / self.config.loop.steps
        samples = self.config.samples
        kind = self._kind(lot, done)
        cache = self.config.cache("clips" if kind == "clips" else "pictures")
        draw, count = {
            "pictures": (self._picture, samples.pictures),
            "moments": (self._moments, samples.moments),
            "clips": (self._clip, samples.clips),
        }[kind]
        clips = lot.integers(0, usable_clips(cache, done), count).tolist()
        chosen = [
            draw(lot, clip, hidden=self._is_hidden(lot, cache, clip), count=cache.data.frames)
            for clip in clips
        ]
        return gather(
            cache,
            "train",
            chosen,
            wait=True,
            noise=(self.config.noise_augmentation, lot),
        )

    def _kind(
        self, lot: np.random.Generator, done: float
    ) -> Literal["pictures", "moments", "clips"]:
        samples = self.config.samples
        if done < samples.clips_from:
            return "pictures"
        place = lot.random()
        if place < samples.moments_share:
            return "moments"
        return "pictures" if place < samples.moments_share + samples.pictures_share else "clips"

    def _is_hidden(self, lot: np.random.Generator, cache: ClipCacheConfig, clip: int) -> bool:
        """Some clips have a hidden variant, and some of the samples of these use it."""
        chance = self.config.samples.hidden_heads / max(cache.hidden_share, 1e-9)
        wanted = lot.random() < chance
        index, place = divmod(clip, cache.shard_clips)
        return bool(wanted and wait_for_shard(cache, "train", index).hidden_place[place] >= 0)

    def _picture(self, lot: np.random.Generator, clip: int, *, hidden: bool, count: int) -> Sample:
        reference = 0 if hidden else int(lot.integers(0, count + 1))
        frame = int((reference + lot.integers(1, count + 1)) % (count + 1))
        if lot.random() < self.config.samples.reference_first:
            frame = reference
        return Sample(clip, reference, (frame,), hidden)

    def _moments(self, lot: np.random.Generator, clip: int, *, hidden: bool, count: int) -> Sample:
        reference = 0 if hidden else int(lot.integers(0, count + 1))
        others = (frame for frame in range(count + 1) if frame != reference)
        return Sample(clip, reference, (reference, *others), hidden)

    def _clip(self, lot: np.random.Generator, clip: int, *, hidden: bool, count: int) -> Sample:
        samples = self.config.samples
        own = not hidden and lot.random() < samples.own_references
        reference = int(lot.integers(1, count + 1)) if own else 0
        # its own reference would be a frame that needs no network at all
        frames = [frame for frame in range(1, count + 1) if frame != reference]
        anchored = own or lot.random() < samples.anchored
        shown = samples.clip_frames - anchored
        start = int(lot.integers(0, len(frames) - shown + 1))
        frames = frames[start : start + shown]
        return Sample(clip, reference, (reference, *frames) if anchored else tuple(frames), hidden)


def gather(
    cache: ClipCacheConfig,
    split: Split,
    samples: list[Sample],
    *,
    wait: bool = False,
    noise: tuple[float, np.random.Generator] | None = None,
) -> dict[str, Any]:
    """The tensors of samples of equal length.

    Args:
        cache: The encoded clips.
        split: Which of them.
        samples: b of f frames each.
        wait: Whether to wait for clips that are not encoded yet.
        noise: Strength of the references' noise augmentation, and what draws it.

    Returns:
        `latents` [b, f, 4, h, w] and `reference_latents` [b, 4, h, w], unscaled; `image_tokens`
        [b, 1, d]; `face_embedding` [b, features]; `has_face` [b]; `face_points` [b, f, 5, 2] of
        that person, 0 where someone else's face is the largest, or none is shown; `face_masks`
        [b, f, h, w]; `poses` uint8 [b, f, 3, H, W]; `image_only`.
    """
    rows = [_row(cache, split, sample, wait=wait) for sample in samples]
    if noise is not None:
        strength, lot = noise
        for row in rows:
            latents = row["reference_latents"]
            drawn = torch.from_numpy(lot.standard_normal(latents.shape).astype(np.float32))
            latents += strength * row["noise_deviation"][:, None, None] * drawn
    batch: dict[str, Any] = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
    batch["image_only"] = len(samples[0].frames) == 1
    return batch


def _row(cache: ClipCacheConfig, split: Split, sample: Sample, *, wait: bool) -> dict[str, Tensor]:
    index, place = divmod(sample.clip, cache.shard_clips)
    shard: Shard = (wait_for_shard if wait else open_shard)(cache, split, index)
    frames = list(sample.frames)
    if sample.hidden:
        hidden = int(shard.hidden_place[place])
        latents, tokens = shard.hidden_latents[hidden], shard.hidden_tokens[hidden]
    else:
        latents = shard.latents[place, sample.reference]
        tokens = shard.image_tokens[place, sample.reference]
    people = shard.face_person[place]
    same = people[frames] == people[sample.reference]
    skeletons = np.stack([shard.skeleton(place, frame) for frame in frames])
    return {
        "latents": shard.latents[place, frames].float(),
        "reference_latents": latents.float(),
        "image_tokens": tokens[None],
        "face_embedding": shard.face_embedding[place, sample.reference],
        "has_face": shard.has_face[place, sample.reference],
        "face_points": shard.face_points[place, frames] * same[:, None, None],
        "face_masks": shard.face_masks[place, frames].float(),
        "poses": torch.from_numpy(np.ascontiguousarray(skeletons.transpose(0, 3, 1, 2))),
        "noise_deviation": shard.noise_deviation,
    }
