"""Tiny frozen networks, encoded clips and folders of pictures to train the animation model on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from factory import write_published_layout
from PIL import Image
from safetensors.torch import save_file

from animator_core.checkpoints.writing import write_safetensors
from animator_core.models.face_recognition import IResNet
from animator_core.training.animation_config import AnimationTrainingConfig
from animator_core.training.settings import read_settings

SIDE = 32


def write_networks(folder: Path) -> Path:
    """A models folder with all five networks and a recogniser; untrained."""
    write_published_layout(folder)
    torch.manual_seed(0)
    recogniser = IResNet((1, 1, 1, 1), (4, 4, 4, 4, 4), 512)
    state = {k: v.contiguous() for k, v in recogniser.state_dict().items()}
    write_safetensors(folder / "recogniser.safetensors", state)
    return folder


def drawn_settings(folder: Path, networks: Path, **loop: Any) -> dict[str, Any]:
    """Tables of a training on drawn clips of 32 px."""
    data = {"width": SIDE, "height": SIDE}
    cache = {"clips": 4, "first_clips": 2, "shard_clips": 2, "validation_clips": 8}
    return {
        "start": "models",
        "trained": "published",
        "validation_steps": 2,
        "validation_videos": 1,
        "loop": {
            "output": str(folder / "run"),
            "steps": 6,
            "warmup_steps": 1,
            "workers": 0,
            "checkpoint_every": 2,
            "learning_rate": 1e-3,
            **loop,
        },
        "frozen": {"models": str(networks), "recogniser": str(networks / "recogniser.safetensors")},
        "pictures": {
            "folder": str(folder / "pictures"),
            **cache,
            "data": {**data, "frames": 2, "fps": 1.0},
        },
        "clips": {"folder": str(folder / "clips"), **cache, "data": {**data, "frames": 3}},
        "samples": {"pictures": 3, "clips": 2, "clip_frames": 2, "clips_from": 0.5},
    }


def config_of(settings: dict[str, Any], **changes: Any) -> AnimationTrainingConfig:
    """The run that tables describe, with changes."""
    config = read_settings(AnimationTrainingConfig, settings, source="test")
    return replace(config, **changes)


def write_clip_folder(folder: Path, frames: int, *, seed: int = 0, embeddings: bool = True) -> Path:
    """A video in the published layout, of noise."""
    lot = np.random.default_rng(seed)
    for kind in ("images", "poses", "faces"):
        (folder / kind).mkdir(parents=True)
        for index in range(frames):
            picture = lot.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
            if kind == "faces":
                picture = np.where(picture > 127, 255, 0).astype(np.uint8)[..., :1].repeat(3, -1)
            Image.fromarray(picture).save(folder / kind / f"frame_{index}.png")
    if embeddings:
        found = torch.ones(frames, dtype=torch.bool)
        state = {"embeddings": torch.randn(frames, 512), "found": found}
        save_file(state, folder / "face_embeddings.safetensors")
    return folder
