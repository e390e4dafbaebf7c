"""A loss on whose face it is, beside the loss on latents.

Squared errors of latents say little of a face: a twentieth of the picture, and most of what tells
people apart is a few pixels of it. So the clean prediction is decoded, its face cut out, and the
recogniser asked. Off unless `identity_weight` is set.

Source: PuLID (Guo et al. 2024, arXiv 2404.16022), section 3.3, which applies it to a few sampled
steps; here the one-step prediction serves, which a strong conditioning makes good at all levels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor, nn

from ..config import LATENT_SCALE
from ..faces.crops import FaceBox, FaceRegion, FaceTrack, cut_faces
from ..faces.likeness import plan_chunks

if TYPE_CHECKING:
    from ..models.vae import VideoVAE

__all__ = ["IdentityLoss", "faces_to_compare", "region_of"]

_MARGIN = 1
"""Latents that are decoded around a face by a decoder without norms. On faces of the demo family
the cosine is off by .004 then, by .02 with none, and by .002 with three."""


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


def region_of(points: NDArray[np.float64], height: int, width: int) -> FaceRegion:
    """A face that is known by its five points [5, 2] alone; any of the frame may be its box."""
    frame = FaceBox(top=0, bottom=height - 1, left=0, right=width - 1)
    known = np.concatenate([points, np.ones((len(points), 1))], axis=1)
    return FaceRegion(box=frame, points_px=known)


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
        # norms look at the whole frame: what they would make of a part of it is another picture
        self.margin = None if vae.config["norm_num_groups"] else _MARGIN
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
        points = batch["face_points"][videos, frames].double().cpu().numpy()
        faces = torch.cat(list(map(self._face, denoised[videos, frames], points)))
        embeddings = batch["face_embedding"][videos].float()
        return (1 - torch.cosine_similarity(self.recogniser(faces).float(), embeddings)).mean()

    def _face(
        self, latents: Float[Tensor, "4 h w"], points: NDArray[np.float64]
    ) -> Float[Tensor, "1 3 112 112"]:
        """The face of one frame, of which no more is decoded than has to be."""
        height, width = (LATENT_SCALE * side for side in latents.shape[-2:])
        region = region_of(points, height, width)
        track = FaceTrack(regions=(region,), height=height, width=width)
        (chunk,) = plan_chunks(track, "aligned", 1, self.margin)
        rows, columns = (slice(None),) * 2 if chunk.window is None else chunk.window.slices
        pixels = self.vae.decode_frames(latents[None, :, rows, columns])
        # positions in bf16 would be off by a fifth of a pixel
        return cut_faces(pixels.float(), chunk.regions, "aligned", chunk.origin_px)
