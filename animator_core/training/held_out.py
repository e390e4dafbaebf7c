"""Held-out videos of an animation training: drawn clips, or folders of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..frames import to_model_range
from .animation_batches import Sample, gather
from .animation_config import AnimationTrainingConfig
from .animation_validation import ValidationCase
from .dataset import ClipFolder, Window, load_window
from .drawn_clips import SPLIT_SEEDS, DrawnClip, draw_clip
from .hidden_heads import head_box
from .latents import largest_face, open_shard

if TYPE_CHECKING:
    from .animation import AnimationObjective

__all__ = ["HeldOutDrawings", "HeldOutFolders"]

_PICTURES_PER_VIDEO = 4
_MOSTLY = 0.5


def _device(objective: AnimationObjective) -> torch.device:
    return next(objective.unet.parameters()).device


def _to(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}


@dataclass(frozen=True)
class HeldOutDrawings:
    """Encoded drawn clips whose characters and motions are never trained on.

    Attributes:
        config: The run.
    """

    config: AnimationTrainingConfig

    def cases(self, objective: AnimationObjective, step: int) -> list[ValidationCase]:
        """Single pictures while these are trained on, later clips."""
        samples = self.config.samples
        shows_clips = step > samples.clips_from * self.config.loop.steps
        chosen = self._chosen(samples.clip_frames if shows_clips else 1)
        device, cache = _device(objective), self.config.cache("clips")
        hidden = [replace(sample, hidden=True) for sample in chosen]
        start = SPLIT_SEEDS["validation"].start + cache.first_seed
        clips = [draw_clip(start + sample.clip, cache.data) for sample in chosen]
        pairs = list(zip(clips, chosen, strict=True))
        frames = np.stack([_pictures(clip)[list(s.frames)] for clip, s in pairs])
        heads = np.stack([_heads(clip, s.frames) for clip, s in pairs])
        references = np.stack([clip.reference for clip in clips])
        return [
            ValidationCase(
                batch=_to(gather(cache, "validation", chosen), device),
                hidden=_to(gather(cache, "validation", hidden), device),
                frames=to_model_range(frames).to(device),
                references=to_model_range(references).to(device),
                heads=torch.from_numpy(heads).to(device),
                anchored=chosen[0].frames[0] == 0,
            )
        ]

    def _chosen(self, length: int) -> list[Sample]:
        """Clips, or single pictures of more clips, always the same."""
        cache = self.config.cache("clips")
        anchor = (0,) if length > 1 and self.config.samples.anchored > _MOSTLY else ()
        length -= len(anchor)
        wanted = self.config.validation_videos * (
            1 if length + len(anchor) > 1 else _PICTURES_PER_VIDEO
        )
        usable = [clip for clip in range(cache.validation_clips) if self._shows_face(clip)]
        last = cache.data.frames - length + 1
        return [
            Sample(
                usable[i % len(usable)], 0, (*anchor, *range(1 + i % last, 1 + i % last + length))
            )
            for i in range(wanted)
        ]

    def _shows_face(self, clip: int) -> bool:
        cache = self.config.cache("clips")
        index, place = divmod(clip, cache.shard_clips)
        return int(open_shard(cache, "validation", index).hidden_place[place]) >= 0


def _pictures(clip: DrawnClip) -> NDArray[np.uint8]:
    """The reference, then the frames, as encoded clips have them."""
    return np.concatenate([clip.reference[None], clip.frames])


def _heads(clip: DrawnClip, frames: Sequence[int]) -> NDArray[np.float32]:
    height, width = clip.frames.shape[1:3]
    masks = np.zeros((len(frames), height, width), dtype=np.float32)
    faces = np.concatenate([clip.reference_face_boxes[None], clip.face_boxes])
    for mask, boxes in zip(masks, faces[list(frames)], strict=True):
        person = largest_face(boxes)
        if person is not None:
            x0, y0, x1, y1 = head_box(boxes[person], height, width)
            mask[y0:y1, x0:x1] = 1
    return masks


@dataclass(frozen=True)
class HeldOutFolders:
    """Videos in the published layout that are not trained on.

    Attributes:
        config: The run.
        clips: The videos.
    """

    config: AnimationTrainingConfig
    clips: tuple[ClipFolder, ...]

    def cases(self, objective: AnimationObjective, step: int) -> list[ValidationCase]:  # noqa: ARG002
        """One case per video: its first frames, and its last one as reference."""
        return [self._case(objective, clip) for clip in self.clips[: self.config.validation_videos]]

    def _case(self, objective: AnimationObjective, clip: ClipFolder) -> ValidationCase:
        folders, length = self.config.folders, self.config.samples.clip_frames
        assert folders is not None
        stride = min(folders.stride, (len(clip.frames) - 1) // length)
        window = Window(
            reference=len(clip.frames) - 1, frames=tuple(range(0, length * stride, stride))
        )
        row = load_window(clip, window, folders)
        pixels = _to({key: value[None] for key, value in row.items()}, _device(objective))
        pixels["image_only"] = length == 1
        frames, reference = (pixels[k].float() / 127.5 - 1 for k in ("frames", "reference"))
        return ValidationCase(
            batch=objective.encoded(pixels, torch.Generator().manual_seed(0)),
            hidden=None,
            frames=frames,
            references=reference,
            heads=pixels["face_masks"].float() / 255,
        )
