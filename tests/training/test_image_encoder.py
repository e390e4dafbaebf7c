from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from animator_core.checkpoints.build import empty_network
from animator_core.checkpoints.state_dict import read_state_dict
from animator_core.errors import ConfigError
from animator_core.training.drawn_clips import DrawnClipConfig
from animator_core.training.image_encoder import (
    TASK,
    ImageEncoderConfig,
    ImageEncoderObjective,
    PictureTripleSource,
    contrastive_loss,
)
from animator_core.training.loop import LoopConfig
from animator_core.training.settings import read_settings


def settings(folder) -> dict:
    return {
        "loop": {
            "output": str(folder / "run"),
            "steps": 10,
            "learning_rate": 3e-3,
            "warmup_steps": 0,
            "ema": 0.5,
            "checkpoint_every": 10,
            "validate_every": 10,
            "workers": 0,
        },
        "data": {"width": 32, "height": 32, "frames": 1},
        "folder": str(folder / "pictures"),
        "clips": 6,
        "held_out": 4,
        "hidden": 16,
        "layers": 1,
        "heads": 2,
        "patch": 112,
        "projection": 8,
        "batch": 6,
        "workers": 0,
    }


def test_contrast_is_lowest_where_partners_point_the_same_way():
    rows = torch.eye(4)
    assert float(contrastive_loss(rows, rows, 0.05)) < 1e-6
    assert float(contrastive_loss(rows, rows.flip(0), 0.05)) > 10
    same = torch.ones(4, 4)
    assert float(contrastive_loss(same, same, 0.05)) == pytest.approx(math.log(4))


def test_training_learns_and_its_files_load(tmp_path):
    config = read_settings(ImageEncoderConfig, settings(tmp_path), source="here")
    folder = TASK(settings(tmp_path), "here")
    source = PictureTripleSource(str(tmp_path / "pictures" / "train"), config.clips, config.batch)
    batch = source(0, 1)
    assert batch["elsewhere"].shape == (6, 3, 32, 32)
    # elsewhere is the same pose before something else
    assert not torch.equal(batch["frame"], batch["elsewhere"])

    trained = empty_network("image_encoder", config.network())
    state = read_state_dict(folder / "SVD" / "image_encoder" / "model.safetensors")
    trained.load_state_dict(state, assign=True)
    fresh, learnt = ImageEncoderObjective(config), ImageEncoderObjective(config)
    learnt.encoder = trained
    with torch.no_grad():
        before, after = (float(o.eval()(batch, torch.Generator())["loss"]) for o in (fresh, learnt))
    assert after < before
    figures = learnt.validate(0)
    assert 0 <= figures["clip_found"] <= 1
    assert np.isfinite(figures["deviation"])


def test_bad_settings():
    with pytest.raises(ConfigError, match="batch"):
        ImageEncoderConfig(loop=LoopConfig(output="x"), folder="y", batch=1, data=DrawnClipConfig())
