"""Training of the animation model: UNet, PoseNet and face encoder.

Source: StableAnimator (arXiv 2411.17697), section 3.4; 020e7f2, train.py:1330. The published loss,
`(1 + sigma^2) / sigma^2` times the squared error of the clean prediction, is the squared error of
the network's own output v, which is what is computed here: nothing is divided by a tiny sigma.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..checkpoints.build import save_models, save_network
from ..models.bundle import AnimatorModels
from .animation_config import AnimationTrainingConfig, ConditioningDropout
from .animation_networks import FrozenParts, load_recogniser
from .animation_pixels import encode_pixels
from .animation_sampling import IDENTITY, conditioning_of
from .animation_validation import AnimationValidation, HeldOut
from .identity_loss import IdentityLoss
from .loop import Objective
from .noise_levels import draw_sigmas

__all__ = ["AnimationObjective", "draw_kept", "face_weighted_loss", "velocity_target"]

logger = logging.getLogger(__name__)


def velocity_target(
    clean: Float[Tensor, "b f 4 h w"], noise: Float[Tensor, "b f 4 h w"], sigma: Tensor
) -> Float[Tensor, "b f 4 h w"]:
    """What the network should predict.

    Args:
        clean: Scaled latents.
        noise: Standard normal; the noisy latents are `clean + sigma * noise`.
        sigma: Noise levels [b, 1, 1, 1, 1].
    """
    return (noise - sigma * clean) / (sigma**2 + 1).sqrt()


def face_weighted_loss(
    prediction: Float[Tensor, "b f 4 h w"],
    target: Float[Tensor, "b f 4 h w"],
    face_masks: Float[Tensor, "b f h w"],
    face_weight: float = 1.0,
) -> Float[Tensor, " b"]:
    """Squared error per video, weighted by `1 + face_weight * mask`."""
    squared = (prediction.float() - target.float()).square()
    weights = 1 + face_weight * face_masks[:, :, None]
    return (squared * weights).mean(dim=(1, 2, 3, 4))


class AnimationObjective(Objective):
    """The face-weighted EDM loss of videos, encoded (see `animation_batches.gather`) or not.

    Args:
        config: The run.
        models: All networks, those to be trained requiring gradients.
        held_out: What it is validated on.
    """

    def __init__(
        self, config: AnimationTrainingConfig, models: AnimatorModels, held_out: HeldOut
    ) -> None:
        super().__init__()
        self.config = config
        self.models = models
        self.unet, self.pose_net = models.unet, models.pose_net
        self.face_encoder = models.face_encoder
        self.vae, self.image_encoder = models.vae, models.image_encoder
        if config.gradient_checkpointing:
            self.unet.recompute_blocks()
        self.identity_loss: IdentityLoss | None = None
        if config.identity_weight:
            recogniser = load_recogniser(config.frozen.recogniser)
            self.identity_loss = IdentityLoss(models.vae, recogniser, config.identity_frames)
        self._validation = AnimationValidation(config, held_out)

    def forward(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        """Mean loss of a micro-batch."""
        batch = self.encoded(batch, generator)
        sigma = draw_sigmas(self.config.noise, len(batch["latents"]), generator)
        losses, denoised, kept = self._denoised(batch, sigma, generator, self.config.dropout)
        if self.identity_loss is None:
            return {"loss": losses.mean()}
        squared, asked = losses.mean(), kept[:, IDENTITY] > 0
        identity = self.identity_loss(denoised, batch, asked, generator)
        loss = squared + self.config.identity_weight * identity
        return {"loss": loss, "squared_error": squared, "identity": identity}

    def encoded(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Any]:
        """The micro-batch itself, or the encoded form of one of pictures."""
        if "latents" in batch:
            return batch
        frozen = FrozenParts(vae=self.vae, image_encoder=self.image_encoder)
        return encode_pixels(frozen, batch, generator, self.config.noise_augmentation)

    def losses(
        self,
        batch: dict[str, Any],
        sigma: Float[Tensor, " b"],
        generator: torch.Generator,
        dropout: ConditioningDropout | None = None,
    ) -> Float[Tensor, " b"]:
        """Face-weighted squared error of every video.

        Args:
            batch: Encoded videos.
            sigma: Their noise levels.
            generator: A CPU generator for noise and dropout.
            dropout: None keeps all conditioning.
        """
        return self._denoised(batch, sigma, generator, dropout)[0]

    def _denoised(
        self,
        batch: dict[str, Any],
        sigma: Float[Tensor, " b"],
        generator: torch.Generator,
        dropout: ConditioningDropout | None,
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, "b f 4 h w"], Float[Tensor, "b 4"]]:
        """Losses, clean predictions, and which conditioning was kept."""
        clean = batch["latents"] * self.vae.scaling_factor
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        kept = draw_kept(dropout, len(clean), generator).to(clean)
        level = sigma.to(clean)[:, None, None, None, None]
        noisy = (clean + level * noise) / (level**2 + 1).sqrt()
        reference = batch["reference_latents"] * kept[:, 1, None, None, None]
        reference = reference[:, None].expand(-1, clean.shape[1], -1, -1, -1)
        sample = torch.cat((noisy, reference), dim=2)
        timestep = 0.25 * sigma.to(clean).log()
        conditioning = conditioning_of(self.models, batch, kept)
        prediction = self.unet(sample, timestep, conditioning, image_only=batch["image_only"])
        target = velocity_target(clean, noise, level)
        weight = self.config.face_weight
        losses = face_weighted_loss(prediction, target, batch["face_masks"], weight)
        return losses, (noisy - level * prediction) / (level**2 + 1).sqrt(), kept

    def validate(self, step: int) -> dict[str, float]:
        """Losses by noise level, and figures of sampled clips, with a contact sheet."""
        return self._validation(self, step)

    def export(self, folder: Path) -> None:
        """Write what was trained; a training from nothing writes a whole models folder."""
        if self.config.start == "fresh":
            save_models(self.models, folder, overwrite=True)
            return
        for name in ("unet", "pose_net", "face_encoder"):
            save_network(name, getattr(self.models, name), folder, overwrite=True)


def draw_kept(
    dropout: ConditioningDropout | None, count: int, generator: torch.Generator
) -> Float[Tensor, "{count} 4"]:
    """1 or 0 for image token, reference latents, identity and pose of every video."""
    if dropout is None:
        return torch.ones(count, 4)
    place, identity, pose, everything = torch.rand(4, count, generator=generator)
    share = dropout.reference
    kept = torch.stack(
        (
            place >= 2 * share,
            (place < share) | (place >= 3 * share),
            identity >= dropout.identity,
            pose >= dropout.pose,
        ),
        dim=1,
    )
    return (kept & (everything >= dropout.everything)[:, None]).float()
