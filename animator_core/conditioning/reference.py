"""The reference picture as CLIP token, latents and time ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from ..config import SamplingConfig
from ..frames import to_model_range
from ..models.image_encoder import clip_pixels
from ..models.vae import VideoVAE

__all__ = ["added_time_ids", "encode_image_tokens", "encode_reference_latents"]


def _dtype(module: nn.Module) -> torch.dtype:
    return next(module.parameters()).dtype


def encode_image_tokens(
    image_encoder: nn.Module, picture: NDArray[np.uint8], device: torch.device
) -> Float[Tensor, "1 1 d"]:
    """CLIP's embedding of the reference picture.

    Args:
        image_encoder: CLIP image tower with projection.
        picture: [H, W, 3] RGB, at its own size.
        device: The compute device.

    Returns:
        [1, 1, projection_dim], on that device.
    """
    encoder: Any = image_encoder
    pixels = clip_pixels(to_model_range(picture[None]), encoder.config.image_size)
    return encoder(pixels.to(device, _dtype(image_encoder))).image_embeds[:, None]


def encode_reference_latents(
    vae: VideoVAE,
    picture: NDArray[np.uint8],
    noise: Float[Tensor, "3 height width"],
    strength: float,
    device: torch.device,
) -> Float[Tensor, "4 h w"]:
    """Latents of the reference picture after noise augmentation; posterior mean, unscaled.

    Args:
        vae: The VAE; its encoder may be in another precision than its decoder.
        picture: [H, W, 3] RGB at the output size.
        noise: Standard normal [3, H, W].
        strength: Factor on the noise.
        device: The compute device.
    """
    pixels = to_model_range(picture[None]) + strength * noise[None]
    mean, _ = vae.encode_moments(pixels.to(device, _dtype(vae.encoder)))
    return mean[0]


def added_time_ids(config: SamplingConfig) -> Float[Tensor, "1 3"]:
    """The numbers that Stable Video Diffusion is told about the clip.

    It was trained on fps - 1.
    """
    return torch.tensor([[config.fps - 1, config.motion_bucket_id, config.noise_augmentation]])
