"""The five networks that belong together, and what is known of their latents."""

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

__all__ = ["AnimatorModels", "LatentColours"]


@dataclass(frozen=True, kw_only=True)
class LatentColours:
    """A linear map from a VAE's latents to colours, for previews.

    It is one of the encoder's own latents, not of the sampler's scaled ones, so that it holds as
    long as the encoder does.

    Attributes:
        factors: Red, green and blue per latent channel; the map gives colours in [-1, 1].
        bias: Red, green and blue where all channels are 0.
    """

    factors: tuple[tuple[float, float, float], ...]
    bias: tuple[float, float, float]


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
        latent_colours: For previews of this VAE's latents; None if they were not measured.
    """

    unet: VideoUNet
    pose_net: PoseNet
    face_encoder: FaceEncoder
    vae: VideoVAE
    image_encoder: nn.Module
    dtype: torch.dtype
    name: str
    trained: bool = True
    latent_colours: LatentColours | None = None
