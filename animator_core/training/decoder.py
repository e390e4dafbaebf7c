"""Training on of the VAE's decoder for what a denoiser makes, and for whose face it is.

A decoder that only ever saw latents of pictures shows a denoiser's small errors as grids and
weaves, and nothing in its loss says that the few pixels of a face weigh more than a wall. So it
sees latents of both kinds, and the recogniser has a say. The encoder stays, and with it the
latents: a denoiser that was trained on them goes on with the new decoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from ..checkpoints.build import load_models, load_network, save_network
from ..config import LATENT_SCALE
from ..errors import ConfigError
from ..faces.crops import FaceBox, similarity_to_template, support_box, warp_faces
from ..faces.similarity import embed_faces
from ..frames import to_model_range
from ..models.bundle import AnimatorModels
from .acceleration import on_device
from .animation_batches import Sample, gather
from .animation_config import ClipCacheConfig, FrozenNetworks, check_shares
from .animation_networks import load_frozen, load_recogniser
from .animation_sampling import sample_videos
from .animation_validation import psnr
from .drawn_clips import SPLIT_SEEDS, Split, draw_clip
from .drawn_pool import drawn_pool, open_pool
from .identity_loss import region_of
from .latents import check_networks, fingerprint
from .loop import LoopConfig, Objective
from .tasks import TrainingTask
from .vae import charbonnier_loss, decode_pictures

__all__ = ["TASK", "DecoderObjective", "DecoderSource", "DecoderTrainingConfig"]

_EDGE = LATENT_SCALE
"""Rows and columns of a crop that the loss leaves out: they miss what lies beside them [px]."""
_KINDS = ("latents", "generated")


@dataclass(frozen=True, kw_only=True)
class DecoderTrainingConfig:
    """One training run of a decoder.

    Attributes:
        loop: What every training has in common.
        frozen: The family, whose decoder is trained on, and its recogniser.
        pictures: Encoded drawn clips that are learnt from (see `encode-clips`).
        clips: Likewise, of which the held-out ones are validated on.
        folder: Where the generated latents are kept.
        generated_clips: So many of the clips are generated, each from its reference.
        held_out_clips: Likewise of the held-out ones.
        frames: Frames of each.
        sampling_steps: Denoising steps.
        generated_share: Share of the crops that are decoded from generated latents.
        batch: Crops of a step.
        crop: Side of the crops [px].
        head_share: Share of the crops that show a head.
        identity_weight: Of one minus the cosine between decoded and true faces.
        charbonnier: Error, of a range of 2, at which the loss turns from squared to absolute.
    """

    loop: LoopConfig
    frozen: FrozenNetworks
    pictures: ClipCacheConfig
    clips: ClipCacheConfig
    folder: str
    generated_clips: int = 400
    held_out_clips: int = 24
    frames: int = 3
    sampling_steps: int = 4
    generated_share: float = 0.5
    batch: int = 12
    crop: int = 112
    head_share: float = 0.6
    identity_weight: float = 0.05
    charbonnier: float = 0.1

    def __post_init__(self) -> None:
        check_shares(self, generated_share=self.generated_share, head_share=self.head_share)
        data = self.pictures.data
        if self.crop % LATENT_SCALE or not 2 * _EDGE < self.crop <= min(data.width, data.height):
            raise ConfigError(
                f"The crop is {self.crop} px but must be a multiple of {LATENT_SCALE}, over "
                f"{2 * _EDGE}, that fits into {data.width}x{data.height} px."
            )
        if self.frames > min(data.frames, self.clips.data.frames):
            raise ConfigError(
                f"{self.frames} frames are asked for, but the encoded clips have "
                f"{data.frames} and {self.clips.data.frames}."
            )


@dataclass(frozen=True)
class _Generated:
    """Generates clips from their references, and draws what they should be."""

    config: DecoderTrainingConfig
    split: Split

    @property
    def cache(self) -> ClipCacheConfig:
        return self.config.pictures if self.split == "train" else self.config.clips

    def pool(self) -> dict[str, NDArray[Any]]:
        """The clips, generated now if they are not there yet.

        Returns:
            `latents` of the pictures and `generated` ones [n, f, 4, h, w], both unscaled; `frames`
            uint8 [n, f, H, W, 3]; `points` [n, f, 5, 2] of the reference's person [px], 0 where
            there are none; `reference` [n, d], the embedding of that face.
        """
        config = self.config
        return drawn_pool(
            self.folder,
            self._generate,
            config.generated_clips if self.split == "train" else config.held_out_clips,
            settings={
                "models": config.frozen.models,
                "steps": config.sampling_steps,
                "frames": config.frames,
                "first_seed": self.cache.first_seed,
            },
        )

    @cached_property
    def _models(self) -> AnimatorModels:
        models = load_models(self.config.frozen.models, torch.float32)
        for name in ("unet", "pose_net", "face_encoder"):
            getattr(models, name).to(self._device)
        return models

    @property
    def _device(self) -> torch.device:
        is_gpu = torch.cuda.is_available() and self.config.loop.device == "auto"
        return torch.device("cuda" if is_gpu else "cpu")

    def _generate(self, index: int) -> dict[str, NDArray[Any]]:
        """One clip; its first frame, which is the reference again, is left out."""
        last, steps = self.cache.data.frames, self.config.sampling_steps
        shown = np.rint(np.linspace(1, last, self.config.frames)).astype(int)
        batch = gather(self.cache, self.split, [Sample(index, 0, (0, *shown.tolist()))])
        inputs = on_device(batch, self._device)
        sampled = sample_videos(self._models, inputs, steps=steps, seed=index).cpu()
        start = SPLIT_SEEDS[self.split].start + self.cache.first_seed
        clip = draw_clip(start + index, self.cache.data)
        return {
            "latents": batch["latents"][0, 1:].half().numpy(),
            "generated": (sampled[0, 1:] / self._models.vae.scaling_factor).half().numpy(),
            "frames": clip.frames[shown - 1],
            "points": batch["face_points"][0, 1:].numpy(),
            "reference": batch["face_embedding"][0].numpy(),
        }

    @property
    def folder(self) -> Path:
        return Path(self.config.folder) / self.split


@dataclass(frozen=True)
class DecoderSource:
    """Draws crops of pictures and the latents that they should be decoded from.

    Attributes:
        config: The run.
    """

    config: DecoderTrainingConfig

    def __call__(self, step: int, seed: int) -> dict[str, Tensor]:  # noqa: ARG002
        """A batch of crops.

        Returns:
            `latents` [n, 4, h, w], unscaled; `pictures` uint8 [n, 3, H, W]; `points` [n, 5, 2]
            [px], 0 where a crop does not show all of a face.
        """
        pool = open_pool(_Generated(self.config, "train").folder)
        lot = np.random.default_rng(seed)
        rows = [self._crop(lot, pool) for _ in range(self.config.batch)]
        return {key: torch.stack([row[key] for row in rows]) for key in rows[0]}

    def _crop(self, lot: np.random.Generator, pool: dict[str, NDArray[Any]]) -> dict[str, Tensor]:
        config = self.config
        clips, frames, height, width = pool["frames"].shape[:4]
        place = int(lot.integers(clips)), int(lot.integers(frames))
        latents = pool[_KINDS[int(lot.random() < config.generated_share)]][place]
        points = np.array(pool["points"][place], dtype=np.float64)
        side = config.crop // LATENT_SCALE
        room = np.array([height, width]) // LATENT_SCALE - side
        corner = lot.integers(0, room + 1)
        if points.any() and lot.random() < config.head_share:
            center = points.mean(axis=0)[::-1] / LATENT_SCALE + lot.uniform(-1.0, 1.0, 2)
            corner = np.clip(np.rint(center - side / 2), 0, room).astype(int)
        top, left = (int(edge) for edge in corner)
        shown = FaceBox(
            top=LATENT_SCALE * top,
            bottom=LATENT_SCALE * (top + side) - 1,
            left=LATENT_SCALE * left,
            right=LATENT_SCALE * (left + side) - 1,
        )
        if points.any() and _shows(shown, points, height, width):
            points -= (shown.left, shown.top)
        else:
            points[:] = 0
        picture = pool["frames"][place][shown.top : shown.bottom + 1, shown.left : shown.right + 1]
        return {
            "latents": torch.from_numpy(
                latents[:, top : top + side, left : left + side].astype(np.float32)
            ),
            "pictures": torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))),
            "points": torch.from_numpy(points),
        }


def _shows(shown: FaceBox, points: NDArray[np.float64], height: int, width: int) -> bool:
    """Whether a crop shows all that the recogniser would see of a face."""
    box = support_box(region_of(points, height, width), "aligned", height, width)
    return (
        box.top >= shown.top
        and box.bottom <= shown.bottom
        and box.left >= shown.left
        and box.right <= shown.right
    )


class DecoderObjective(Objective):
    """Reconstruction of pictures, and of whose faces they show.

    Args:
        config: The run.
    """

    def __init__(self, config: DecoderTrainingConfig) -> None:
        super().__init__()
        self.config = config
        self.vae: Any = load_network("vae", config.frozen.models)
        self.vae.requires_grad_(False)
        self.vae.decoder.requires_grad_(True)
        # single pictures pass the temporal layers by
        for name, module in self.vae.decoder.named_modules():
            if "temporal" in name or "time_" in name:
                module.requires_grad_(False)
        self.recogniser = load_recogniser(config.frozen.recogniser).requires_grad_(False)

    def train(self, mode: bool = True) -> DecoderObjective:
        """The recogniser's norms never look at the few faces of a batch."""
        super().train(mode)
        self.recogniser.eval()
        return self

    def forward(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of crops (see `DecoderSource`)."""
        del generator  # nothing is left to chance here
        pictures = batch["pictures"].float() / 127.5 - 1
        restored = decode_pictures(self.vae, batch["latents"])
        inside = (..., slice(_EDGE, -_EDGE), slice(_EDGE, -_EDGE))
        error = (restored.float() - pictures)[inside].square()
        reconstruction = charbonnier_loss(error, self.config.charbonnier)
        identity = self._identity(restored, pictures, batch["points"])
        return {
            "loss": reconstruction + self.config.identity_weight * identity,
            "squared_error": error.mean(),
            "identity": identity,
        }

    def _identity(self, restored: Tensor, pictures: Tensor, points: Tensor) -> Tensor:
        """One minus the cosine between each face and what it should be, in the same crop."""
        shown = points.flatten(1).any(1)
        if not shown.any():
            return restored.new_zeros(())
        matrices = [similarity_to_template(five) for five in points[shown].cpu().numpy()]
        with torch.no_grad():
            wanted = self.recogniser(warp_faces(pictures[shown], matrices))
        found = self.recogniser(warp_faces(restored[shown].float(), matrices))
        return 1 - torch.cosine_similarity(found.float(), wanted.float()).mean()

    @torch.no_grad()
    def validate(self, step: int) -> dict[str, float]:  # noqa: ARG002
        """PSNR [dB] of held-out pictures from both kinds of latents, and their faces' CSIM."""
        pool = _Generated(self.config, "validation").pool()
        device = next(self.vae.parameters()).device
        figures: dict[str, float] = {}
        for kind in _KINDS:
            errors, cosines = [], []
            for clip, latents in enumerate(pool[kind]):
                scaled = torch.from_numpy(latents.astype(np.float32)) * self.vae.scaling_factor
                pictures = to_model_range(np.array(pool["frames"][clip]))
                restored = self.vae.decode_frames(scaled.to(device)).clamp(-1, 1).cpu()
                errors.append(((restored - pictures) / 2).square().mean((1, 2, 3)))
                points = pool["points"][clip].astype(np.float64)
                cosines += self._likeness(restored, points, np.array(pool["reference"][clip]))
            figures[f"{kind}_psnr"] = psnr(torch.cat(errors))
            if cosines:
                figures[f"{kind}_csim"] = float(np.mean(cosines))
        return figures

    def _likeness(
        self,
        frames: Float[Tensor, "n 3 height width"],
        points: NDArray[np.float64],
        reference: NDArray[np.float32],
    ) -> list[float]:
        """Cosines of the faces that are shown."""
        shown = points.any((1, 2))
        if not shown.any():
            return []
        regions = [region_of(five, *frames.shape[-2:]) for five in points[shown]]
        found = embed_faces(self.recogniser, frames[torch.from_numpy(shown)], regions)
        return torch.cosine_similarity(found, torch.from_numpy(reference)[None]).tolist()

    def export(self, folder: Path) -> None:
        """Write `SVD/vae`."""
        save_network("vae", self.vae, folder, overwrite=True)


def _batches(config: DecoderTrainingConfig) -> DecoderSource:
    networks = fingerprint(load_frozen(config.frozen), load_recogniser(config.frozen.recogniser))
    for split in ("train", "validation"):  # before the loop's processes need them
        generated = _Generated(config, split)
        check_networks(generated.cache, split, networks)
        generated.pool()
    return DecoderSource(config)


TASK = TrainingTask(DecoderTrainingConfig, DecoderObjective, _batches)
