"""Pose features of a whole clip, computed once."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from ..frames import to_model_range
from ..models.pose_net import PoseNet

__all__ = ["encode_pose_features"]


def encode_pose_features(
    pose_net: PoseNet, chunks: Iterable[NDArray[np.uint8]], num_frames: int, device: torch.device
) -> Float[Tensor, "frames channels h w"]:
    """PoseNet's features of every frame; the sampler reads them at every step and window.

    Args:
        pose_net: On the compute device.
        chunks: Skeleton pictures, uint8 [n, H, W, 3] RGB, a few frames at a time.
        num_frames: Frames in all chunks together.
        device: The compute device.

    Returns:
        [frames, channels, H/8, W/8] in PoseNet's dtype, on the CPU: a long clip's features would
        take a gigabyte of GPU memory, and one window's travel in a fraction of its network call.
    """
    dtype = pose_net.final_proj.weight.dtype
    features = torch.empty(0)
    done = 0
    for chunk in chunks:
        part = pose_net(to_model_range(chunk).to(device, dtype)).cpu()
        if done == 0:  # allocated once: appending would need twice the memory at its end
            features = part.new_empty((num_frames, *part.shape[1:]))
        features[done : done + len(part)] = part
        done += len(part)
    if done != num_frames:
        raise ValueError(f"{done} pose pictures arrived where {num_frames} were announced.")
    return features
