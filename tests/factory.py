"""Small random checkpoints in exactly the published folder layouts."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from animator_core.checkpoints.build import ModelConfigs, build_models
from animator_core.models.bundle import AnimatorModels

SMALL = ModelConfigs(
    unet={
        "sample_size": 8,
        "in_channels": 8,
        "out_channels": 4,
        "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        "block_out_channels": (32, 64),
        "addition_time_embed_dim": 32,
        "projection_class_embeddings_input_dim": 96,
        "layers_per_block": 1,
        "cross_attention_dim": 64,
        "transformer_layers_per_block": 1,
        "num_attention_heads": (2, 4),
        "num_frames": 4,
    },
    vae={
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "block_out_channels": (32, 32, 32, 32),
        "layers_per_block": 1,
        "latent_channels": 4,
        "sample_size": 64,
        "scaling_factor": 0.18215,
        "force_upcast": True,
    },
    image_encoder={
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 56,
        "patch_size": 14,
        "projection_dim": 64,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
    },
)
"""An architecture of a million weights that keeps every kind of layer, and the factor of 8."""


PARTS = ("unet", "pose_net", "face_encoder", "vae", "image_encoder")


def small_models(*, seed: int = 0, dtype: torch.dtype = torch.float32) -> AnimatorModels:
    return build_models(SMALL, seed=seed, dtype=dtype, name="small")


@functools.lru_cache(maxsize=4)
def _written_models(seed: int) -> AnimatorModels:
    return small_models(seed=seed)


def write_published_layout(
    folder: Path,
    *,
    seed: int = 0,
    fp16: bool = False,
    legacy_pth: bool = False,
    stable_video: str = "SVD",
) -> AnimatorModels:
    """Write random weights as the publishers do; returns the models that were written (shared).

    Args:
        folder: The models folder.
        seed: Of the weights.
        fp16: Write the fp16 variants of the VAE and the image encoder.
        legacy_pth: Write the .pth files in the format from before torch 1.6.
        stable_video: Folder of Stable Video Diffusion.
    """
    models = _written_models(seed)
    (folder / "Animation").mkdir(parents=True, exist_ok=True)
    for name in ("unet", "pose_net", "face_encoder"):
        torch.save(
            getattr(models, name).state_dict(),
            folder / "Animation" / f"{name}.pth",
            _use_new_zipfile_serialization=not legacy_pth,
        )
    diffusers_extras = {"_class_name": "X", "_diffusers_version": "0.24.0.dev0"}
    transformers_extras = {
        "architectures": ["CLIPVisionModelWithProjection"],
        "model_type": "clip_vision_model",
        "torch_dtype": "float16",
        "transformers_version": "4.34.0.dev0",
        "num_channels": 3,
        "dropout": 0.0,
    }
    root = folder / stable_video
    variant = ".fp16" if fp16 else ""
    _write_part(root / "unet", {**SMALL.unet, **diffusers_extras}, {})
    _write_part(
        root / "vae",
        {**SMALL.vae, **diffusers_extras},
        {f"diffusion_pytorch_model{variant}.safetensors": _stored(models.vae, fp16)},
    )
    encoder = _stored(models.image_encoder, fp16)
    # as saved by the transformers version that the publisher used
    positions = encoder["vision_model.embeddings.position_embedding.weight"].shape[0]
    encoder["vision_model.embeddings.position_ids"] = torch.arange(positions)[None]
    _write_part(
        root / "image_encoder",
        {**SMALL.image_encoder, **transformers_extras},
        {f"model{variant}.safetensors": encoder},
    )
    return models


def _stored(module: torch.nn.Module, fp16: bool) -> dict[str, torch.Tensor]:
    state = {name: value.clone() for name, value in module.state_dict().items()}
    return {name: value.half() for name, value in state.items()} if fp16 else state


def _write_part(folder: Path, config: dict[str, Any], files: dict[str, dict]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for name, tensors in files.items():
        save_file(tensors, folder / name, metadata={"format": "pt"})


def assert_same(found: AnimatorModels, wanted: AnimatorModels, *, rounded: tuple[str, ...] = ()):
    """The same weights; those of the parts in `rounded` up to half precision."""
    for part in PARTS:
        a, b = getattr(found, part).state_dict(), getattr(wanted, part).state_dict()
        assert a.keys() == b.keys()
        for name, value in a.items():
            want = b[name].half() if part in rounded else b[name]
            torch.testing.assert_close(value, want.to(value.dtype), rtol=0, atol=0)
