"""The small model of the demo."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..config import LATENT_SCALE, FrameSize
from ..models.bundle import LatentColours

if TYPE_CHECKING:
    from ..checkpoints.build import ModelConfigs
    from ..models.bundle import AnimatorModels

__all__ = [
    "DEMO_FOLDER",
    "DEMO_GUIDANCE",
    "DEMO_LATENT_COLOURS",
    "DEMO_NOTICE",
    "DEMO_SIZE",
    "DEMO_STEPS",
    "demo_configs",
    "load_demo_models",
]

DEMO_FOLDER = Path(__file__).parent / "weights"
"""The family's weights, in the published layout; its model card lies beside them."""

DEMO_SIZE = FrameSize(width=192, height=192)
"""Size of the frames that the demo model is made for."""

DEMO_STEPS = 4
"""Denoising steps where none are asked for: eight cost so small a model .3 dB."""

DEMO_GUIDANCE = 1.0
"""Its guidance: drawn motions leave little to guess, and without guidance it is twice as fast."""

DEMO_NOTICE = (
    "The built-in demo model was trained on drawn characters of "
    f"{DEMO_SIZE.width}x{DEMO_SIZE.height} px and knows nothing else. "
    "For people fetch the published weights (`python -m animator_core download`) and name their "
    "folder with --model."
)
"""What a user of the demo model must know."""

DEMO_LATENT_COLOURS = LatentColours(
    factors=(
        (0.6114, 0.1827, 0.0610),
        (-0.1505, 0.5000, -0.1192),
        (0.0088, 0.2022, 0.6230),
        (-0.0408, -0.0183, -0.0056),
        (0.0049, 0.0018, 0.0175),
        (0.0062, 0.0066, 0.0026),
        (0.0108, -0.0057, -0.0102),
        (-0.0114, -0.0237, -0.0163),
    ),
    bias=(0.2214, 0.1228, 0.0757),
)
"""Colours of the demo VAE's latents.

Fitted by least squares to the posterior means of 200 pictures of 128x128 px, one of each of the
first 200 clips of `draw_clip`'s train split (frame 0 and the reference in turn), and these pictures
shrunk eightfold by area. R2 on 100 pictures each of the validation and of the test split: 0.991 in
every channel, an error of 4 of 255 levels. The map is the encoder's: another decoder leaves it be.
"""

_LATENT_CHANNELS = 8  # pictures this small need more than the published four
_IDENTITY_WIDTH = 512


def demo_configs() -> ModelConfigs:
    """Architecture of the demo model: the published one's layers, at a hundredth of its size."""
    from ..checkpoints.build import ModelConfigs

    attending, plain = "CrossAttn{}BlockSpatioTemporal", "{}BlockSpatioTemporal"
    return ModelConfigs(
        unet={
            "sample_size": DEMO_SIZE.width // LATENT_SCALE,
            "in_channels": 2 * _LATENT_CHANNELS,
            "out_channels": _LATENT_CHANNELS,
            "down_block_types": (*(attending.format("Down"),) * 2, plain.format("Down")),
            "up_block_types": (plain.format("Up"), *(attending.format("Up"),) * 2),
            "block_out_channels": (64, 96, 128),
            "addition_time_embed_dim": 64,
            "projection_class_embeddings_input_dim": 192,
            "layers_per_block": 1,
            "cross_attention_dim": 64,
            "transformer_layers_per_block": 1,
            "num_attention_heads": (2, 3, 4),
            "num_frames": 16,
        },
        vae={
            "in_channels": 3,
            "out_channels": 3,
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            # 32 channels at full size, where nearly all of the decoder's time goes
            "block_out_channels": (32, 32, 96, 128),
            "layers_per_block": 1,
            "latent_channels": _LATENT_CHANNELS,
            "norm_num_groups": 0,
            "sample_size": DEMO_SIZE.width,
            "scaling_factor": 0.18215,
            "force_upcast": True,
        },
        image_encoder={
            "hidden_size": 64,
            "intermediate_size": 256,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "image_size": 224,
            "patch_size": 32,
            "projection_dim": 64,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-5,
        },
        face_encoder={"id_embeddings_dim": _IDENTITY_WIDTH},
    )


def load_demo_models(dtype: torch.dtype) -> AnimatorModels:
    """The demo model, on the CPU.

    Args:
        dtype: Dtype of the networks.

    Raises:
        CheckpointError: If the pack was installed without its weights, or they are damaged.
    """
    from ..checkpoints.build import load_models

    models = load_models(DEMO_FOLDER, dtype, name="demo (built-in)")
    return replace(models, latent_colours=DEMO_LATENT_COLOURS)
