"""A loss on whose face it is, beside the loss on latents.

Squared errors of latents say little of a face: a twentieth of the picture, and most of what tells
people apart is a few pixels of it. So the clean prediction is decoded, its face cut out, and the
recogniser asked. Off unless `identity_weight` is set.

Source: PuLID (Guo et al. 2024, arXiv 2404.16022), section 3.3, which applies it to a few sampled
steps; here the one-step prediction serves, which a strong conditioning makes good at all levels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..faces.crops import similarity_to_template, warp_faces

if TYPE_CHECKING:
    from ..models.vae import VideoVAE

__all__ = ["IdentityLoss", "faces_to_compare"]


def faces_to_compare(
    batch: dict[str, Any], asked: Bool[Tensor, " b"] | None = None
) -> Bool[Tensor, "b f"]:
    """Which frames of a micro-batch show the face that the reference shows, too.

    Args:
        batch: See `animation_batches.gather`.
        asked: Which videos count; None for all.
    """
    shown = batch["face_points"].flatten(2).any(-1) & batch["has_face"][:, None]
    return shown if asked is None else shown & asked[:, None]


class IdentityLoss(nn.Module):
    """One minus the cosine between predicted faces and the face that was asked for.

    Args:
        vae: Decodes; frozen, but gradients pass through it.
        recogniser: Likewise; the one that made the embeddings.
        frames: At most so many of a micro-batch are decoded.
    """

    def __init__(self, vae: VideoVAE, recogniser: nn.Module, frames: int) -> None:
        super().__init__()
        self.vae, self.recogniser = vae, recogniser.requires_grad_(requires_grad=False)
        self.frames = frames
        self.eval()

    def train(self, mode: bool = True) -> IdentityLoss:  # noqa: ARG002
        """Nothing changes: the recogniser's norms must never look at the few faces of a batch."""
        return super().train(mode=False)

    def forward(
        self,
        denoised: Float[Tensor, "b f 4 h w"],
        batch: dict[str, Any],
        asked: Bool[Tensor, " b"],
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:
        """The mean over some of the frames that show a face; 0 if none does.

        Args:
            denoised: Clean predictions, scaled.
            batch: Their videos; see `animation_batches.gather`.
            asked: Which videos were given the face.
            generator: A CPU generator that draws the frames.
        """
        places = faces_to_compare(batch, asked).nonzero()
        order = torch.randperm(len(places), generator=generator)[: self.frames]
        videos, frames = places[order.to(places.device)].unbind(1)
        if not len(videos):
            return denoised.new_zeros(())
        alone = denoised.new_zeros(len(videos), 1)
        decoded = self.vae.decoder(
            denoised[videos, frames] / self.vae.scaling_factor,
            image_only_indicator=alone,
            num_frames=1,
        )
        points, embeddings = batch["face_points"][videos, frames], batch["face_embedding"][videos]
        return (1 - self.likeness(decoded, points, embeddings)).mean()

    def likeness(
        self,
        frames: Float[Tensor, "n 3 height width"],
        points: Float[Tensor, "n 5 2"],
        embeddings: Float[Tensor, "n d"],
    ) -> Float[Tensor, " n"]:
        """Cosine between the face in each frame and an embedding.

        Args:
            frames: In [-1, 1].
            points: Their faces' five points [px].
            embeddings: Raw.
        """
        matrices = [similarity_to_template(one) for one in points.double().cpu().numpy()]
        # positions in bf16 would be off by a fifth of a pixel
        faces = warp_faces(frames.float(), matrices)
        return torch.cosine_similarity(self.recogniser(faces).float(), embeddings.float())
