"""Training of the CLIP-style image encoder on drawn clips, by contrast between characters.

There are no texts here, so a picture is paired with other pictures of the same character: one in
the same surroundings, which all of the embedding must tell from others, and one elsewhere, which
its first half must. That half therefore describes the person, the other one may describe the rest.

Source of the loss: Radford et al., "Learning Transferable Visual Models From Natural Language
Supervision" (2021), figure 3.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from ..checkpoints.build import save_network
from ..demo.casting import random_scene
from ..demo.character import draw_people
from ..errors import ConfigError
from ..models.image_encoder import CLIP_PRESET, build_image_encoder, clip_pixels
from .drawn_clips import SPLIT_SEEDS, DrawnClipConfig, Split, draw_clip
from .drawn_pool import drawn_pool, open_pool
from .loop import LoopConfig, Objective
from .tasks import TrainingTask

__all__ = [
    "TASK",
    "ImageEncoderConfig",
    "ImageEncoderObjective",
    "PictureTripleSource",
    "contrastive_loss",
]

_TRIPLE = ("reference", "frame", "elsewhere")
_PERSON_SHARE = 0.5  # of the embedding


@dataclass(frozen=True, kw_only=True)
class ImageEncoderConfig:
    """One training run of the image encoder.

    Attributes:
        loop: What every training has in common.
        folder: Where the drawings are kept.
        clips: Training clips.
        held_out: Clips of a validation.
        hidden: Width of the transformer.
        layers: Its blocks.
        heads: Its attention heads.
        patch: Side of a patch [px of 224].
        projection: Length of the embedding.
        batch: Clips of a step.
        temperature: Of the contrast between cosines.
        spread_weight: Of the term that keeps the embedding's numbers at unit mean square.
        workers: Processes that draw.
        data: What the clips look like.
    """

    loop: LoopConfig
    folder: str
    clips: int = 8000
    held_out: int = 256
    hidden: int = 64
    layers: int = 4
    heads: int = 4
    patch: int = 32
    projection: int = 64
    batch: int = 64
    temperature: float = 0.07
    spread_weight: float = 0.1
    workers: int = 1
    data: DrawnClipConfig = field(default_factory=lambda: DrawnClipConfig(frames=1))

    def __post_init__(self) -> None:
        for name in ("clips", "held_out", "batch", "projection"):
            if getattr(self, name) < 2:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 2.")

    def network(self) -> dict[str, Any]:
        """Arguments of the image encoder."""
        return {
            **CLIP_PRESET,
            "hidden_size": self.hidden,
            "intermediate_size": 4 * self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "patch_size": self.patch,
            "projection_dim": self.projection,
        }


@dataclass(frozen=True)
class _Triple:
    """Draws a reference, another frame, and that frame in other surroundings."""

    data: DrawnClipConfig
    split: Split

    def __call__(self, index: int) -> dict[str, NDArray[np.uint8]]:
        seed = SPLIT_SEEDS[self.split][index]
        clip = draw_clip(seed, replace(self.data, frames=1))
        scene = random_scene(np.random.default_rng([8, seed]))
        size = (self.data.width, self.data.height)
        elsewhere = draw_people(clip.who, clip.poses[0], *size, scene)
        return {"reference": clip.reference, "frame": clip.frames[0], "elsewhere": elsewhere}


def _pictures(config: ImageEncoderConfig, split: Split) -> dict[str, NDArray[np.uint8]]:
    return drawn_pool(
        Path(config.folder) / split,
        _Triple(config.data, split),
        config.clips if split == "train" else config.held_out,
        settings={"split": split, "data": asdict(config.data)},
        workers=config.workers,
    )


@dataclass(frozen=True)
class PictureTripleSource:
    """Chooses the clips of a batch.

    Attributes:
        folder: The pool of the training clips.
        clips: How many it has.
        batch: Clips of a batch.
    """

    folder: str
    clips: int
    batch: int

    def __call__(self, step: int, seed: int) -> dict[str, Tensor]:  # noqa: ARG002
        """`reference`, `frame` and `elsewhere`, each uint8 [batch, 3, H, W]."""
        pool = open_pool(self.folder)
        lot = np.random.default_rng(seed)
        chosen = np.sort(lot.choice(self.clips, min(self.batch, self.clips), replace=False))
        return {
            name: torch.from_numpy(np.ascontiguousarray(pool[name][chosen].transpose(0, 3, 1, 2)))
            for name in _TRIPLE
        }


def contrastive_loss(
    a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], temperature: float
) -> Float[Tensor, ""]:
    """Cross entropy of finding row i of `b` by row i of `a` among all rows, and vice versa."""
    logits = F.normalize(a) @ F.normalize(b).t() / temperature
    labels = torch.arange(len(a), device=a.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.t(), labels)) / 2


class ImageEncoderObjective(Objective):
    """Contrast between characters, and between clips.

    Args:
        config: The run.
    """

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.config = config
        torch.manual_seed(config.loop.seed)
        self.encoder: nn.Module = build_image_encoder(config.network())

    def forward(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of a batch of `PictureTripleSource`."""
        del generator  # nothing is left to chance here
        embeddings = self.embed(torch.cat([batch[name] for name in _TRIPLE]))
        reference, frame, elsewhere = embeddings.chunk(3)
        person = int(_PERSON_SHARE * self.config.projection)
        temperature = self.config.temperature
        clips = contrastive_loss(reference, frame, temperature)
        people = contrastive_loss(reference[:, :person], elsewhere[:, :person], temperature)
        spread = (embeddings.square().mean() - 1).square()
        return {
            "loss": clips + people + self.config.spread_weight * spread,
            "clips": clips,
            "people": people,
            "spread": spread,
        }

    def embed(self, pictures: Tensor) -> Tensor:
        """uint8 [n, 3, H, W], RGB → [n, projection]."""
        encoder: Any = self.encoder
        pixels = clip_pixels(pictures.float() / 127.5 - 1, encoder.config.image_size)
        return encoder(pixels).image_embeds

    @torch.no_grad()
    def validate(self, step: int) -> dict[str, float]:  # noqa: ARG002
        """How often a held-out picture finds its partner among all, by whole and half embedding."""
        pool = _pictures(self.config, "test")
        device = next(self.encoder.parameters()).device
        found = [
            torch.cat([
                self.embed(torch.from_numpy(part.transpose(0, 3, 1, 2).copy()).to(device))
                for part in np.array_split(pool[name], max(len(pool[name]) // 32, 1))
            ])
            for name in _TRIPLE
        ]  # fmt: skip
        reference, frame, elsewhere = found
        person = int(_PERSON_SHARE * self.config.projection)
        return {
            "clip_found": _found(reference, frame),
            "person_found": _found(reference[:, :person], elsewhere[:, :person]),
            "deviation": float(reference.std(dim=0).mean()),
        }

    def export(self, folder: Path) -> None:
        """Write `SVD/image_encoder`."""
        save_network("image_encoder", self.encoder, folder, overwrite=True)


def _found(a: Tensor, b: Tensor) -> float:
    nearest = (F.normalize(a) @ F.normalize(b).t()).argmax(dim=1).cpu()
    return float((nearest == torch.arange(len(a))).float().mean())


def _batches(config: ImageEncoderConfig) -> PictureTripleSource:
    _pictures(config, "train")  # drawn before the loop's processes need them
    return PictureTripleSource(str(Path(config.folder) / "train"), config.clips, config.batch)


TASK = TrainingTask(ImageEncoderConfig, ImageEncoderObjective, _batches)
