"""What the denoiser is conditioned on in training, and sampled videos of encoded clips."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..conditioning.reference import added_time_ids
from ..config import SamplingConfig
from ..diffusion.noise import c_in, c_noise, initial_noise_scale, karras_sigmas
from ..diffusion.sampler import iterate_euler
from ..interfaces import Conditioning
from ..models.bundle import AnimatorModels

__all__ = ["IDENTITY", "PARTS", "conditioning_of", "sample_videos"]

PARTS = 4
"""Image token, reference latents, identity and pose: what a video may have or lack."""
IDENTITY = 2
"""The identity's place among them."""


def conditioning_of(
    models: AnimatorModels, batch: dict[str, Any], kept: Float[Tensor, "b 4"]
) -> Conditioning:
    """What the UNet is conditioned on, but for the reference latents.

    Args:
        models: Their face encoder and PoseNet are used.
        batch: Encoded videos; see `animation_batches.gather`.
        kept: 1 or 0 for image token, reference latents, identity and pose of every video.
    """
    tokens = batch["image_tokens"]
    identity = models.face_encoder(batch["face_embedding"], tokens)
    identity = identity * (kept[:, IDENTITY] * batch["has_face"])[:, None, None].to(identity)
    poses = batch["poses"]
    features = models.pose_net(poses.flatten(0, 1).to(tokens.dtype) / 127.5 - 1)
    features = features.unflatten(0, poses.shape[:2]) * kept[:, 3, None, None, None, None]
    time_ids = added_time_ids(SamplingConfig()).to(tokens)
    return Conditioning(
        image_tokens=tokens * kept[:, 0, None, None],
        identity_tokens=identity,
        added_time_ids=time_ids.expand(len(tokens), -1),
        pose_features=features,
    )


@torch.no_grad()
def sample_videos(
    models: AnimatorModels,
    batch: dict[str, Any],
    *,
    steps: int,
    seed: int,
    identity: bool = True,
) -> Float[Tensor, "b f c h w"]:
    """Denoise videos from pure noise, without guidance.

    Args:
        models: The networks.
        batch: Encoded videos; their latents only give the shape.
        steps: Denoising steps.
        seed: Of the noise.
        identity: Whether the identity tokens are used.

    Returns:
        Scaled latents.
    """
    like: Tensor = batch["latents"]
    kept = torch.ones(len(like), PARTS, device=like.device)
    kept[:, IDENTITY] = float(identity)
    conditioning = conditioning_of(models, batch, kept)
    reference = batch["reference_latents"][:, None].expand(-1, like.shape[1], -1, -1, -1)

    def predict(latents: Tensor, sigma: float) -> Tensor:
        sample = torch.cat((latents * c_in(sigma), reference), dim=2)
        timestep = torch.tensor(c_noise(sigma), device=like.device)
        return models.unet(sample, timestep, conditioning, image_only=batch["image_only"])

    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(like.shape, generator=generator).to(like) * initial_noise_scale()
    for state in iterate_euler(predict, latents, karras_sigmas(steps)):
        latents = state.latents
    return latents
