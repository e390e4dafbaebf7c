"""Gathers the trained networks of a small family into one models folder, in half precision."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..checkpoints.build import load_models, load_network, save_models, save_network
from ..checkpoints.writing import atomic
from ..errors import CheckpointError
from ..interfaces import Monitor
from .settings import read_settings

__all__ = ["FamilyConfig", "gather_family"]

_ONNX = {
    "face_detector": "antelopev2/scrfd_10g_bnkps.onnx",
    "recogniser": "antelopev2/glintr100.onnx",
    "person_detector": "DWPose/yolox_l.onnx",
    "pose_detector": "DWPose/dw-ll_ucoco_384.onnx",
}


@dataclass(frozen=True, kw_only=True)
class FamilyConfig:
    """Output folders of the trainings.

    Attributes:
        output: The models folder to write; files in it are replaced.
        animation: Of the animation model, with all five networks.
        decoder: Of a VAE whose decoder was trained on; the animation model's if empty.
        recogniser: Of the face recogniser.
        face_detector: Of the face detector.
        person_detector: Of the person detector; left out of the family if empty.
        pose_detector: Of the pose network; likewise.
    """

    output: str
    animation: str
    recogniser: str
    face_detector: str
    person_detector: str = ""
    pose_detector: str = ""
    decoder: str = ""


def gather_family(content: dict[str, Any], source: object, monitor: Monitor | None = None) -> Path:
    """Gather a family as a settings file says.

    Args:
        content: The file's tables, without `task`.
        source: For messages.
        monitor: May cancel between files.

    Returns:
        The models folder.

    Raises:
        ConfigError: If a setting is unknown.
        CheckpointError: If weights are missing, or a decoder belongs to another encoder.
    """
    config = read_settings(FamilyConfig, content, source=source)
    folder = Path(config.output)
    models = load_models(config.animation, torch.float32)
    save_models(_halved(models), folder, overwrite=True)
    if config.decoder:
        vae = load_network("vae", config.decoder)
        _check_encoders(models.vae, vae, config.decoder)
        vae.register_to_config(scaling_factor=models.vae.scaling_factor)  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
        save_network("vae", vae.half(), folder, overwrite=True)
    for name, file in _ONNX.items():
        if monitor is not None:
            monitor.raise_if_cancelled()
        if getattr(config, name):
            _copy(Path(getattr(config, name)) / file, folder / file)
    return folder


def _halved(models: Any) -> Any:
    for name in ("unet", "pose_net", "face_encoder", "vae", "image_encoder"):
        getattr(models, name).half()
    return models


def _check_encoders(ours: Any, other: Any, source: str) -> None:
    """The denoiser knows one encoder's latents only."""
    for part in ("encoder", "quant_conv"):
        theirs = getattr(other, part).state_dict()
        for key, value in getattr(ours, part).state_dict().items():
            if key not in theirs or not torch.equal(value.half(), theirs[key].half()):
                raise CheckpointError(
                    f"The VAE in {source} has another {part} ({key}) than the animation model was "
                    "trained with; train its decoder only, from the animation model's VAE."
                )


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise CheckpointError(f"{source} is missing; train that network first.")
    with source.open("rb") as reading, atomic(target, overwrite=True) as writing:
        shutil.copyfileobj(reading, writing)
