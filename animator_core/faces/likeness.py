"""How much decoded faces resemble the reference, with gradients for the latents."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..config import LATENT_SCALE, CropMethod, FaceRefineConfig
from ..errors import ShapeError
from .crops import FaceRegion, FaceTrack, cut_faces, support_box
from .window_decoding import FrameStatistics, LatentWindow, WindowDecoder

if TYPE_CHECKING:  # diffusers takes seconds to import
    from ..models.vae import VideoVAE

__all__ = [
    "FaceChunk",
    "FaceRefineModels",
    "Likeness",
    "activation_bytes",
    "change_weights",
    "plan_chunks",
]

_HALF_LOSS_SCALE = 1024.0
"""Gradients of single latents are near 1e-6, where float16 keeps hardly a digit."""

_DECODE_MAPS = 6
"""Maps of the last level that `VideoVAE.activation_bytes` counts for a decode without gradients."""
_KEPT_MAPS, _KEPT_MAPS_RECOMPUTED = 42, 30
"""What a decode and its backward pass hold at once, in such maps; measured on SVD's VAE."""
_RECOGNISER_BYTES = 48 << 20
"""Of IResNet100 per face, forward and backward, with checkpointed blocks."""


@dataclass(frozen=True, kw_only=True)
class FaceRefineModels:
    """The networks of the refinement, and what they aim at. The refiner freezes them.

    Attributes:
        vae: The video VAE that decodes the animation.
        recogniser: Faces [n, 3, 112, 112] in [-1, 1] → embeddings [n, d].
        reference_embedding: [d], the recogniser's embedding of the reference's face.
    """

    vae: VideoVAE
    recogniser: nn.Module
    reference_embedding: Tensor

    def similarity(self, faces: Float[Tensor, "n 3 112 112"]) -> Float[Tensor, " n"]:
        """Cosine of each face to the reference.

        Raises:
            ShapeError: If the reference was embedded by another network.
        """
        weight = next(self.recogniser.parameters())
        embedding = self.recogniser(faces.to(weight.device, weight.dtype)).float()
        reference = self.reference_embedding.detach().clone().to(embedding).flatten()
        if embedding.shape[1] != reference.shape[0]:
            raise ShapeError(
                f"The reference's face embedding has {reference.shape[0]} numbers but the "
                f"recogniser makes {embedding.shape[1]}; embed the reference with the recogniser "
                "that refines."
            )
        return F.cosine_similarity(embedding, reference[None], dim=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceChunk:
    """Frames that are decoded together, and the faces among them.

    Attributes:
        start: First frame.
        stop: Frame after the last.
        frames: Which frames of the chunk show the face, counted from `start`.
        regions: Their faces.
        window: The part of the frames to decode, or None for whole frames.
    """

    start: int
    stop: int
    frames: tuple[int, ...]
    regions: tuple[FaceRegion, ...]
    window: LatentWindow | None

    @property
    def origin_px(self) -> tuple[int, int]:
        """Row and column of the decoded part's first pixel."""
        if self.window is None:
            return 0, 0
        return LATENT_SCALE * self.window.top, LATENT_SCALE * self.window.left


def _latents_under(region: FaceRegion, crop: CropMethod, track: FaceTrack) -> LatentWindow:
    box = support_box(region, crop, track.height, track.width)
    return LatentWindow(
        top=box.top // LATENT_SCALE,
        bottom=box.bottom // LATENT_SCALE + 1,
        left=box.left // LATENT_SCALE,
        right=box.right // LATENT_SCALE + 1,
    )


def plan_chunks(
    track: FaceTrack, crop: CropMethod, chunk_frames: int, margin: int | None
) -> list[FaceChunk]:
    """Cut a clip into the chunks that the decoder works in; those without a face are left out.

    Args:
        track: Where the face is.
        crop: How it will be cut out.
        chunk_frames: Frames per chunk.
        margin: Latent pixels to decode around the crops; None for whole frames.
    """
    chunks: list[FaceChunk] = []
    height, width = track.height // LATENT_SCALE, track.width // LATENT_SCALE
    for start in range(0, len(track.regions), chunk_frames):
        part = track.regions[start : start + chunk_frames]
        faces = {i: region for i, region in enumerate(part) if region is not None}
        if not faces:
            continue
        window = None
        if margin is not None:
            # one window for the chunk: the decoder mixes equal places of neighbouring frames
            under = [_latents_under(region, crop, track) for region in faces.values()]
            window = under[0]
            for other in under[1:]:
                window = window.union(other)
            window = window.grown(margin, height, width)
        chunks.append(
            FaceChunk(
                start=start,
                stop=start + len(part),
                frames=tuple(faces),
                regions=tuple(faces.values()),
                window=window,
            )
        )
    return chunks


def change_weights(track: FaceTrack, crop: CropMethod, feather: int) -> Tensor:
    """How far each latent may be changed: 1 under a face's crop, 0 away from it.

    Args:
        track: Where the face is.
        crop: How it is cut out.
        feather: Latent pixels over which the weight falls to 0.

    Returns:
        [frames, 1, h, w] in 0..1.
    """
    height, width = track.height // LATENT_SCALE, track.width // LATENT_SCALE
    weights = torch.zeros(len(track.regions), 1, height, width)
    for index, region in enumerate(track.regions):
        if region is None:
            continue
        under = _latents_under(region, crop, track)
        for ring in range(feather, -1, -1):
            rows, columns = under.grown(ring, height, width).slices
            weights[index, :, rows, columns] = 1 - ring / (feather + 1)
    return weights


def activation_bytes(models: FaceRefineModels, track: FaceTrack, config: FaceRefineConfig) -> int:
    """Estimate of the memory that a refined step takes, without the weights [bytes].

    Args:
        models: The networks.
        track: Where the face is.
        config: Settings of the refinement.
    """

    def decoding(frames: int, height: int, width: int, maps: float) -> int:
        return int(models.vae.activation_bytes(frames, height, width) * maps / _DECODE_MAPS)

    if config.mode == "reference":
        frames = len(track.regions)  # all of them in one graph
        graph = decoding(frames, track.height, track.width, _KEPT_MAPS)
        return graph + frames * _RECOGNISER_BYTES
    kept = _KEPT_MAPS_RECOMPUTED if config.recompute else _KEPT_MAPS
    # the look at the whole frames sees the last two levels at half the sides, unless exact
    look = _DECODE_MAPS / (1 if config.exact_levels > 2 else 4)
    most = 0
    for chunk in plan_chunks(track, config.crop, config.chunk_frames, config.margin):
        frames, window = chunk.stop - chunk.start, chunk.window
        faces = len(chunk.frames) * _RECOGNISER_BYTES
        if window is None:
            graph = decoding(frames, track.height, track.width, _KEPT_MAPS) + faces
        else:
            height, width = window.bottom - window.top, window.right - window.left
            part = decoding(frames, LATENT_SCALE * height, LATENT_SCALE * width, kept)
            graph = max(part + faces, decoding(frames, track.height, track.width, look))
        most = max(most, graph)
    return most


class Likeness:
    """The likeness of a clip's faces to the reference, chunk by chunk.

    The loss is a mean over frames and a chunk depends on its own latents only. So the gradient
    of the whole clip is the gradients of its chunks put together, and only one chunk's
    activations exist at a time.

    Args:
        models: Frozen networks on their device.
        chunks: From `plan_chunks`.
        crop: How faces are cut out.
        recompute: Keep less for the backward pass and compute it again.
        exact_levels: See `WindowDecoder`.
    """

    def __init__(
        self,
        models: FaceRefineModels,
        chunks: list[FaceChunk],
        crop: CropMethod,
        *,
        recompute: bool = True,
        exact_levels: int = 1,
    ) -> None:
        self.models = models
        self.chunks = chunks
        self._crop: CropMethod = crop
        self._faces = sum(len(chunk.frames) for chunk in chunks)
        self._decoder = WindowDecoder(models.vae, recompute=recompute, exact_levels=exact_levels)
        self._statistics: dict[int, FrameStatistics] = {}
        weight = next(models.vae.decoder.parameters())
        self._device, self._dtype = weight.device, weight.dtype
        self._scale = _HALF_LOSS_SCALE if weight.dtype == torch.float16 else 1.0

    def gradient(
        self, chunk: FaceChunk, latents: Float[Tensor, "frames 4 h w"]
    ) -> tuple[Float[Tensor, " faces"], Float[Tensor, "frames 4 h w"]]:
        """Similarity of a chunk's faces, and its share of the gradient of the clip's loss.

        The loss is the mean over all faces of the clip of |1 - cosine|.

        Args:
            chunk: One of `chunks`.
            latents: The chunk's latents [frames, 4, h, w].

        Returns:
            Cosine per face, and the gradient, float32, on the latents' device.
        """
        leaf = latents.detach().float().requires_grad_()
        with self._pixels(chunk, leaf.to(self._device, self._dtype)) as pixels:
            shown = pixels[list(chunk.frames)].float().clamp(-1, 1)
            faces = cut_faces(shown, chunk.regions, self._crop, chunk.origin_px)
            similarity = self.models.similarity(faces)
            loss = (1 - similarity).abs().sum() * (self._scale / self._faces)
            (gradient,) = torch.autograd.grad(loss, leaf)
        return similarity.detach(), gradient / self._scale

    @contextmanager
    def _pixels(self, chunk: FaceChunk, latents: Tensor) -> Generator[Tensor, None, None]:
        if chunk.window is None:
            yield self.models.vae.decode_frames(latents)
            return
        if chunk.start not in self._statistics:
            self._statistics[chunk.start] = self._decoder.observe(latents.detach())
        statistics = self._statistics[chunk.start]
        with self._decoder.decoded(latents, chunk.window, statistics) as pixels:
            yield pixels
