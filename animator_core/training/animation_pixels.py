"""Encodes videos while they are trained on: frozen VAE and image encoder, no gradients."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.image_encoder import clip_pixels
from .animation_networks import FrozenParts

__all__ = ["encode_pixels"]

_CHUNK = 4  # frames that the VAE encodes together


def _in_model_range(pixels: Tensor) -> Tensor:
    return pixels.float() / 127.5 - 1


@torch.no_grad()
def encode_pixels(
    frozen: FrozenParts,
    batch: dict[str, Any],
    generator: torch.Generator,
    noise_augmentation: float,
) -> dict[str, Any]:
    """The encoded form of a micro-batch of pictures.

    Latents are posterior means, as in inference; the published training drew from the posterior.

    Args:
        frozen: VAE and image encoder, in fp32.
        batch: See `dataset.FolderClipSource`.
        generator: A CPU generator for the noise on the references.
        noise_augmentation: Strength of that noise.

    Returns:
        See `animation_batches.gather`.
    """
    frames, reference = batch["frames"], _in_model_range(batch["reference"])
    noise = torch.randn(reference.shape, generator=generator).to(reference)
    encoder: Any = frozen.image_encoder
    tokens = encoder(clip_pixels(reference, encoder.config.image_size)).image_embeds
    with torch.autocast(frames.device.type, enabled=False):  # the encoder overflows fp16
        flat = frames.flatten(0, 1)
        parts = [frozen.vae.encode_moments(_in_model_range(part))[0] for part in flat.split(_CHUNK)]
        references, _ = frozen.vae.encode_moments(reference + noise_augmentation * noise)
    latents = torch.cat(parts).unflatten(0, frames.shape[:2])
    masks = batch["face_masks"].flatten(0, 1)[:, None].float() / 255
    masks = F.interpolate(masks, size=tuple(latents.shape[-2:]), mode="nearest")
    kept = ("poses", "face_embedding", "has_face", "image_only")
    return {
        **{key: batch[key] for key in kept},
        "latents": latents,
        "reference_latents": references,
        "image_tokens": tokens[:, None].float(),
        "face_masks": masks[:, 0].unflatten(0, frames.shape[:2]),
    }
