"""The small model of the demo."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..config import FrameSize

if TYPE_CHECKING:
    from ..checkpoints.build import ModelConfigs
    from ..models.bundle import AnimatorModels

__all__ = [
    "DEMO_NOTICE",
    "DEMO_SIZE",
    "DEMO_STEPS",
    "demo_configs",
    "demo_face_embedding",
    "load_demo_models",
]

DEMO_SIZE = FrameSize(width=128, height=128)
"""Size of the frames that the demo model is made for."""

DEMO_STEPS = 4
"""Denoising steps where none are asked for: more cost time and make noise no better."""

DEMO_NOTICE = (
    "The built-in demo model is UNTRAINED: its weights are random numbers, so its video looks like "
    "noise and follows neither the picture nor the motion. Every stage runs for real, but for real "
    "results fetch the published weights (`python -m animator_core download`) and name their "
    "folder with --model."
)
"""What a user of the demo model must know."""

_SEED = 20
_IDENTITY_WIDTH = 512
_EMBEDDING_NORM = 20.0  # of raw ArcFace embeddings of clear faces


def demo_configs() -> ModelConfigs:
    """Architecture of the demo model: the published one's layers, at a hundredth of its size."""
    from ..checkpoints.build import ModelConfigs

    attending, plain = "CrossAttn{}BlockSpatioTemporal", "{}BlockSpatioTemporal"
    return ModelConfigs(
        unet={
            "sample_size": 16,
            "in_channels": 8,
            "out_channels": 4,
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
            "block_out_channels": (32, 64, 64, 64),
            "layers_per_block": 1,
            "latent_channels": 4,
            "sample_size": 128,
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

    Returns:
        Networks with fixed random weights, and `trained` False.
    """
    from ..checkpoints.build import build_models

    return build_models(demo_configs(), seed=_SEED, dtype=dtype, name="demo (untrained)")


def demo_face_embedding() -> torch.Tensor:
    """A fixed face embedding [512] for the drawn person, who has no real one.

    It lets the face encoder and the ID adapter run; no recogniser made it.
    """
    generator = torch.Generator(device="cpu").manual_seed(_SEED)
    direction = torch.randn(_IDENTITY_WIDTH, generator=generator)
    return direction * (_EMBEDDING_NORM / direction.norm())
