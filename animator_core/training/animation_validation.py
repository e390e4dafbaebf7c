"""Validation of an animation training: held-out losses, and sampled videos beside the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..checkpoints.writing import atomic
from ..config import SamplingConfig
from ..faces.similarity import embed_faces
from ..video import write_video
from .animation_config import AnimationTrainingConfig
from .animation_sampling import sample_videos
from .identity_loss import faces_to_compare, region_of

if TYPE_CHECKING:
    from .animation import AnimationObjective

__all__ = ["AnimationValidation", "HeldOut", "ValidationCase", "psnr"]

_LEVELS = (0.05, 0.3, 1.0, 4.0, 20.0, 200.0)
_SEED = 20240
_SHEET_COLUMNS = 4


def psnr(squared_error: Tensor) -> float:
    """Mean over pictures of the peak signal-to-noise ratio [dB].

    Args:
        squared_error: Mean squared error of each picture, of values in 0..1.
    """
    return float((-10 * squared_error.clamp(min=1e-10).log10()).mean())


@dataclass(frozen=True, kw_only=True)
class ValidationCase:
    """Held-out videos.

    Attributes:
        batch: Them, encoded.
        hidden: The same with the reference's head hidden, if there is that.
        frames: [b, f, 3, H, W] in [-1, 1], the truth.
        references: [b, 3, H, W] in [-1, 1].
        heads: [b, f, H, W], 1 on the head.
        anchored: Whether frame 0 is the reference again, which no figure counts.
    """

    batch: dict[str, Any]
    hidden: dict[str, Any] | None
    frames: Tensor
    references: Tensor
    heads: Tensor
    anchored: bool = False

    def figures(self, name: str, pictures: Tensor) -> dict[str, float]:
        """PSNR [dB] of whole pictures, and of the heads that are to be seen."""
        error = ((pictures.clamp(-1, 1) - self.frames) / 2).square().mean(2)
        error, heads = (of[:, int(self.anchored) :] for of in (error, self.heads))
        area = heads.sum((2, 3))
        head = (error * heads).sum((2, 3))[area > 0] / area[area > 0]
        figures = {f"{name}psnr": psnr(error.mean((2, 3)).flatten())}
        return figures | ({f"{name}psnr_head": psnr(head)} if len(head) else {})


class HeldOut(Protocol):
    """Provides what a training is validated on."""

    def cases(self, objective: AnimationObjective, step: int) -> list[ValidationCase]:
        """What suits this step of the training, on the objective's device."""
        ...


class AnimationValidation:
    """Validates on videos that training never sees.

    Args:
        config: The run.
        held_out: The videos.
    """

    def __init__(self, config: AnimationTrainingConfig, held_out: HeldOut) -> None:
        self.config = config
        self.held_out = held_out

    def __call__(self, objective: AnimationObjective, step: int) -> dict[str, float]:
        """Figures, and contact sheets and videos in the output folder.

        Returns:
            Losses by noise level; PSNR [dB] of sampled frames, whole and head, beside those of
            the reference itself and of the VAE alone; PSNR of heads whose reference is hidden,
            with and without identity tokens; the mean cosine of the faces to the reference's, if
            the training looks at it. Means over the cases that have them.
        """
        collected: dict[str, list[float]] = {}
        for index, case in enumerate(self.held_out.cases(objective, step)):
            for key, value in self._figures(objective, case, f"{step:07d}_{index}").items():
                collected.setdefault(key, []).append(value)
        return {key: sum(values) / len(values) for key, values in collected.items()}

    @torch.no_grad()
    def _figures(
        self, objective: AnimationObjective, case: ValidationCase, name: str
    ) -> dict[str, float]:
        figures = _losses(objective, case.batch)
        pictures = self._sampled(objective, case.batch)
        copied = case.references[:, None].expand_as(case.frames)
        exact = _decode(objective, case.batch["latents"] * objective.vae.scaling_factor)
        figures |= case.figures("", pictures)
        figures |= case.figures("copy_", copied) | case.figures("vae_", exact)
        figures |= _likeness(objective, case, pictures)
        poses = case.batch["poses"].float() / 127.5 - 1
        rows = [copied, poses, pictures]
        if case.hidden is not None:
            hidden = self._sampled(objective, case.hidden)
            figures |= case.figures("hidden_", hidden)
            without = self._sampled(objective, case.hidden, identity=False)
            figures |= case.figures("hidden_without_identity_", without)
            rows.append(hidden)
        rows += [exact, case.frames]
        self._save_sheet(name, rows)
        if case.frames.shape[1] > 1:
            self._save_video(name, rows)
        return figures

    def _sampled(
        self, objective: AnimationObjective, batch: dict[str, Any], *, identity: bool = True
    ) -> Tensor:
        steps = self.config.validation_steps
        latents = sample_videos(objective.models, batch, steps=steps, seed=_SEED, identity=identity)
        return _decode(objective, latents)

    def _save_sheet(self, name: str, rows: Sequence[Tensor]) -> None:
        """Below one another: reference, pose, sampled, (with hidden head,) VAE alone, truth."""
        videos = torch.stack([row.cpu() for row in rows], dim=1)  # v rows f 3 H W
        count = videos.shape[0]
        if videos.shape[2] == 1 and count % _SHEET_COLUMNS == 0:
            # single pictures stand side by side as a clip's frames do
            videos = videos[:, :, 0].unflatten(0, (-1, _SHEET_COLUMNS)).transpose(1, 2)
        videos = videos[:, :, :_SHEET_COLUMNS]
        sheet = rearrange(videos, "v rows f c height width -> (v rows height) (f width) c")
        path = Path(self.config.loop.output) / "validation" / f"step_{name}.png"
        with atomic(path, overwrite=True) as file:
            Image.fromarray(_to_uint8(sheet)).save(file, format="PNG")

    def _save_video(self, name: str, rows: Sequence[Tensor]) -> None:
        """The same as a video, side by side, one clip below the other."""
        videos = torch.stack([row.cpu() for row in rows], dim=1)
        frames = rearrange(videos, "v rows f c height width -> f (v height) (rows width) c")
        path = Path(self.config.loop.output) / "validation" / f"step_{name}.mp4"
        write_video(path, list(_to_uint8(frames)), SamplingConfig().fps)


def _to_uint8(pictures: Tensor) -> NDArray[np.uint8]:
    return ((pictures.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()


def _losses(objective: AnimationObjective, batch: dict[str, Any]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for level in _LEVELS:
        sigma = torch.full((len(batch["latents"]),), level)
        losses = objective.losses(batch, sigma, torch.Generator().manual_seed(_SEED))
        figures[f"loss_at_{level:g}"] = float(losses.mean())
    return figures


def _likeness(
    objective: AnimationObjective, case: ValidationCase, pictures: Tensor
) -> dict[str, float]:
    """Mean cosine of the faces to the reference's, where a recogniser is at hand."""
    if objective.identity_loss is None:
        return {}
    shown = faces_to_compare(case.batch)
    shown[:, : int(case.anchored)] = False
    if not shown.any():
        return {}
    points = case.batch["face_points"][shown].double().cpu().numpy()
    regions = [region_of(five, *pictures.shape[-2:]) for five in points]
    found = embed_faces(objective.identity_loss.recogniser, pictures[shown], regions)
    embeddings = case.batch["face_embedding"][shown.nonzero()[:, 0]]
    csim = torch.cosine_similarity(found, embeddings.float().cpu()).mean()
    return {"csim": float(csim)}


def _decode(objective: AnimationObjective, latents: Tensor) -> Tensor:
    """[b, f, c, h, w], scaled → [b, f, 3, H, W]."""
    return torch.stack([objective.vae.decode_frames(video) for video in latents])
