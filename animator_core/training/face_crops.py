"""Aligned faces of drawn characters, as the recogniser sees them.

Faces in small pictures measure 20 to 60 px and are enlarged to 112, so the drawings have these
sizes too. The same character is drawn in other poses, sizes, clothes, scenes and lights.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..checkpoints.build import load_network
from ..config import LATENT_SCALE
from ..errors import ConfigError
from ..faces.crops import similarity_to_template
from ..frames import from_model_range, picture_to_uint8, to_model_range
from ..models.face_recognition import FACE_SIZE
from ..models.vae import VideoVAE
from ..pose.runtime import opencv
from .drawn_clips import SPLIT_SEEDS, draw_portrait
from .drawn_pool import drawn_pool, open_pool

__all__ = ["FaceCropConfig", "FaceCropSource", "face_crops", "held_out_crops", "weathered"]

Picture = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class FaceCropConfig:
    """Which faces a recogniser learns from.

    Attributes:
        folder: Where the drawings are kept.
        identities: Characters to tell apart.
        crops: Faces of each.
        held_out_identities: Characters that training never sees.
        held_out_crops: Faces of each of these.
        picture_px: Smallest and largest side of the pictures that the faces are cut from [px].
        point_error: Deviation of the five points, as a share of the distance of the eyes.
        blur_px: Largest deviation of the blur [px of 112].
        noise: Largest deviation of the noise, of 255.
        contrast: Largest change of contrast and of brightness, as a share.
        vae: A models folder whose VAE some of the pictures go through; none if empty. Small faces
            lose more by it than by any blur, and all that is generated has been through it.
        decoded_share: How many of them do.
        workers: Processes that draw.
    """

    folder: str
    identities: int = 2500
    crops: int = 12
    held_out_identities: int = 200
    held_out_crops: int = 8
    picture_px: tuple[int, int] = (64, 160)
    point_error: float = 0.05
    blur_px: float = 2.5
    noise: float = 6.0
    contrast: float = 0.05
    vae: str = ""
    decoded_share: float = 0.5
    workers: int = 1

    def __post_init__(self) -> None:
        for name in ("identities", "crops", "held_out_identities", "held_out_crops"):
            if getattr(self, name) < 2:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 2.")
        low, high = self.picture_px
        if not 32 <= low <= high:
            raise ConfigError(
                f"picture_px is {self.picture_px}; give the smallest side, at least 32, and the "
                "largest."
            )
        if not 0 <= self.decoded_share <= 1:
            raise ConfigError(
                f"decoded_share is {self.decoded_share} but must lie in 0..1, as a share."
            )


@dataclass(frozen=True)
class _Identity:
    """Draws all faces of one character."""

    config: FaceCropConfig
    held_out: bool

    def __call__(self, index: int) -> dict[str, Picture]:
        count = self.config.held_out_crops if self.held_out else self.config.crops
        character = SPLIT_SEEDS["test" if self.held_out else "train"][index]
        lot = np.random.default_rng([7, character])
        return {"crops": np.stack([self._crop(character, lot) for _ in range(count)])}

    def _crop(self, character: int, lot: np.random.Generator) -> Picture:
        side = int(lot.integers(self.config.picture_px[0], self.config.picture_px[1] + 1))
        face = draw_portrait(character, lot, side)
        picture = face.picture
        eyes = float(np.hypot(*(face.points_px[1] - face.points_px[0])))
        error = lot.normal(0.0, self.config.point_error * eyes, (5, 2))
        matrix = similarity_to_template(face.points_px + error)
        if self.config.vae and lot.random() < self.config.decoded_share:
            picture = _decoded(picture, self.config.vae)
        size = (FACE_SIZE, FACE_SIZE)
        return opencv().warpAffine(picture, matrix, size, borderValue=0.0)


@lru_cache(maxsize=1)  # in each process that draws
def _vae(models: str) -> VideoVAE:
    return cast("VideoVAE", load_network("vae", models))


@torch.no_grad()
def _decoded(picture: Picture, models: str) -> Picture:
    """A picture as the VAE gives it back."""
    vae = _vae(models)
    height, width = picture.shape[:2]
    edges = ((0, -height % LATENT_SCALE), (0, -width % LATENT_SCALE), (0, 0))
    pixels = to_model_range(np.pad(picture, edges, mode="edge")[None])
    latents = vae.encode_chunks(pixels) * vae.scaling_factor
    return picture_to_uint8(from_model_range(vae.decode_frames(latents)))[0, :height, :width]


def face_crops(config: FaceCropConfig) -> NDArray[np.uint8]:
    """Training faces [identities, crops, 112, 112, 3], RGB; drawn if need be."""
    return _pool(config, held_out=False)


def held_out_crops(config: FaceCropConfig) -> NDArray[np.uint8]:
    """Faces of other characters [identities, crops, 112, 112, 3], RGB; drawn if need be."""
    return _pool(config, held_out=True)


def _pool(config: FaceCropConfig, *, held_out: bool) -> NDArray[np.uint8]:
    count = config.held_out_identities if held_out else config.identities
    settings = {
        key: value
        for key, value in asdict(config).items()
        if key in ("crops", "held_out_crops", "picture_px", "point_error")
    }
    if config.vae:
        settings |= {"vae": config.vae, "decoded_share": config.decoded_share}
    pool = drawn_pool(
        _folder(config, held_out=held_out),
        _Identity(config, held_out),
        count,
        settings=settings,
        workers=config.workers,
    )
    return pool["crops"]


def _folder(config: FaceCropConfig, *, held_out: bool) -> Path:
    return Path(config.folder) / ("held_out" if held_out else "train")


@dataclass(frozen=True)
class FaceCropSource:
    """Draws batches of faces and their identities.

    Attributes:
        config: The faces.
        batch: Faces of a batch.
        margin: Of the loss at full strength.
        margin_steps: Steps over which it rises.
    """

    config: FaceCropConfig
    batch: int
    margin: float
    margin_steps: int

    def __call__(self, step: int, seed: int) -> dict[str, Tensor]:
        """`faces` uint8 [batch, 3, 112, 112], `labels` int64 [batch], `margin` [], in radians."""
        crops = open_pool(_folder(self.config, held_out=False))["crops"]
        lot = np.random.default_rng(seed)
        labels = lot.integers(0, self.config.identities, self.batch)
        which = lot.integers(0, self.config.crops, self.batch)
        faces = np.stack(
            [
                weathered(crops[identity, crop], lot, self.config)
                for identity, crop in zip(labels, which, strict=True)
            ]
        )
        rise = min(1.0, step / max(self.margin_steps, 1))
        return {
            "faces": torch.from_numpy(np.ascontiguousarray(faces.transpose(0, 3, 1, 2))),
            "labels": torch.from_numpy(labels),
            "margin": torch.tensor(self.margin * rise),
        }


def weathered(crop: Picture, lot: np.random.Generator, config: FaceCropConfig) -> Picture:
    """A face as a small picture, an autoencoder or a sampler would leave it.

    Args:
        crop: [112, 112, 3].
        lot: Decides everything.
        config: How strong blur, noise and changes of contrast are.
    """
    image = crop.astype(np.float32)
    if lot.random() < 0.7:
        sigma = float(lot.uniform(0.3, config.blur_px))
        image = opencv().GaussianBlur(image, (0, 0), sigma)
    gain, shift = 1 + lot.uniform(-config.contrast, config.contrast, 2)
    image = (image - 127.5) * gain + 127.5 * shift
    if lot.random() < 0.5:
        # grain as large as the blown-up pixels of a small picture
        side = int(lot.integers(20, FACE_SIZE + 1))
        grain = lot.normal(0.0, lot.uniform(0.0, config.noise), (side, side, 3))
        image += opencv().resize(grain.astype(np.float32), (FACE_SIZE, FACE_SIZE))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
