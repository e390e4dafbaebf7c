"""Overlapping windows over a clip, and how their results are blended."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..config import WindowConfig
from ..errors import ConfigError

__all__ = ["blend_weights", "plan_windows"]


def plan_windows(num_frames: int, config: WindowConfig) -> list[list[int]]:
    """Frame indices of every window.

    An anchored window starts with frame 0 in place of its own first frame. A last window is added
    where the regular ones do not reach the end. A clip shorter than a window is one window.

    Args:
        num_frames: Frames of the clip.
        config: Length, overlap and anchor. The reference-pose anchor is frame 0 of the clip here.

    Returns:
        Windows of equal length that together cover every frame.

    Raises:
        ConfigError: If there are no frames, or if windows of one frame are to be anchored.

    Source: StableAnimator 020e7f2, inference_pipeline_animation.py:591.
    """
    if num_frames < 1:
        raise ConfigError(f"The clip has {num_frames} frames; at least 1 is needed.")
    length = min(config.frames, num_frames)
    anchored = config.anchor != "none"
    if anchored and length == 1 and num_frames > 1:
        raise ConfigError(
            "Windows of 1 frame cannot be anchored, they would hold the anchor alone; "
            "use a window of at least 2 frames or the anchor 'none'."
        )
    stride = length - min(config.overlap, length - 1)
    if anchored and length > 1:
        stride = min(
            stride, length - 1
        )  # the anchor takes a place: without this, frames are missed
    starts = list(range(0, num_frames - length + 1, stride))
    if starts[-1] + length < num_frames:
        starts.append(num_frames - length)
    lead = 1 if anchored else 0
    return [[0] * lead + list(range(start + lead, start + length)) for start in starts]


def blend_weights(length: int) -> Float[Tensor, " length"]:
    """Triangular weights that favour a window's middle frames.

    Args:
        length: Window length, in frames.

    Returns:
        Symmetric weights in (0, 1].

    Raises:
        ConfigError: If the length is below 1.

    Source: StableAnimator 020e7f2, inference_pipeline_animation.py:627.
    """
    if length < 1:
        raise ConfigError(f"The window length is {length} but must be at least 1.")
    rising = (torch.arange(length, dtype=torch.float32) + 0.5) * 2 / length
    return torch.minimum(rising, 2 - rising)
