"""The five networks that belong together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from .face_encoder import FaceEncoder
from .pose_net import PoseNet

if TYPE_CHECKING:  # these two import diffusers, which takes seconds
    from .unet import VideoUNet
    from .vae import VideoVAE

__all__ = ["AnimatorModels"]


@dataclass(frozen=True, kw_only=True)
class AnimatorModels:
    """A loaded StableAnimator model, all networks in eval mode and on the CPU.

    Attributes:
        unet: The video UNet with the ID adapter.
        pose_net: Skeleton picture to features.
        face_encoder: Face embedding to identity tokens.
        vae: Pictures to latents and back. The encoder may be in fp32 where the rest is not.
        image_encoder: CLIP image tower.
        dtype: Dtype of the UNet, and of everything that is not said otherwise.
        name: For messages.
        trained: False for random weights, whose output means nothing.
    """

    unet: VideoUNet
    pose_net: PoseNet
    face_encoder: FaceEncoder
    vae: VideoVAE
    image_encoder: nn.Module
    dtype: torch.dtype
    name: str
    trained: bool = True
