"""Between ComfyUI's socket values and the drawn characters."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..animator_core.evaluation.misalign import misalign, random_misalignment
from ..animator_core.pose.keypoints import PoseSequence
from ..animator_core.training.drawn_clips import (
    SPLIT_SEEDS,
    DrawnClip,
    DrawnClipConfig,
    draw_clip,
)

__all__ = ["FramingChoice", "drawn_clip", "misaligned_motion", "pictures_to_image"]

FramingChoice = Literal["half body", "whole body", "close-up"]


def drawn_clip(
    character: int, motion: int, frames: int, *, framing: FramingChoice, people: int
) -> DrawnClip:
    """A clip of characters and motions that are kept for tests.

    Args:
        character: Number of the first person.
        motion: Number of the motion.
        frames: Length.
        framing: How much of the people is seen.
        people: 1 or 2.
    """
    config = DrawnClipConfig(
        frames=frames,
        pairs=float(people > 1),
        close_ups=float(framing == "close-up"),
        half_bodies=float(framing == "half body"),
    )
    held_out = SPLIT_SEEDS["test"]
    return draw_clip(held_out[character], config, motion_seed=held_out[motion])


def misaligned_motion(clip: DrawnClip, character: int, motion: int) -> PoseSequence:
    """The clip's motion, turned, scaled and shifted, the same way for the same numbers.

    Args:
        clip: From `drawn_clip`.
        character: Its number.
        motion: Its number.
    """
    canvas = clip.reference_pose
    name = f"character {character}, motion {motion}"
    return misalign(clip.poses, random_misalignment(name, canvas.width, canvas.height))


def pictures_to_image(pictures: NDArray[np.uint8]) -> Tensor:
    """IMAGE batch of pictures [n, H, W, 3]."""
    return torch.from_numpy(pictures).float().div_(255)
