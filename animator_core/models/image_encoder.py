"""The CLIP image encoder and the reference's own way of resizing for it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["CLIP_PRESET", "build_image_encoder", "clip_pixels", "resize_antialiased"]

CLIP_PRESET: dict[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
    "projection_dim": 1024,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-05,
}
"""Architecture of CLIP ViT-H/14's image tower."""

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def build_image_encoder(config: dict[str, Any]) -> nn.Module:
    """A CLIP image tower with projection; `encoder(pixels).image_embeds` is [n, projection_dim].

    Args:
        config: Arguments of transformers' `CLIPVisionConfig`; see `CLIP_PRESET`.
    """
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    vision = CLIPVisionConfig(**config, attn_implementation="sdpa")  # pyright: ignore[reportCallIssue]
    return CLIPVisionModelWithProjection(vision).eval()


def _gaussian_kernel(size: int, sigma: float) -> Tensor:
    offsets = torch.arange(size, dtype=torch.float32) - size // 2
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    return weights / weights.sum()


def _blur_axis(x: Tensor, factor: float, axis: int) -> Tensor:
    """Gaussian blur along one axis, as wide as shrinking by `factor` asks for."""
    sigma = max((factor - 1.0) / 2.0, 0.001)
    size = int(max(4.0 * sigma, 3))
    size += 1 - size % 2
    pad = size // 2
    channels, length = x.shape[1], x.shape[axis]
    kernel = _gaussian_kernel(size, sigma).to(x)
    shape = [channels, 1, 1, 1]
    shape[axis] = size
    weight = kernel.reshape([1, 1, *((size, 1) if axis == 2 else (1, size))]).expand(shape)
    padding = (0, 0, pad, pad) if axis == 2 else (pad, pad, 0, 0)
    # reflection needs more pixels than it adds
    padded = F.pad(x, padding, mode="reflect" if length > pad else "replicate")
    return F.conv2d(padded, weight, groups=channels)


def resize_antialiased(
    pictures: Float[Tensor, "n c height width"], height: int, width: int
) -> Float[Tensor, "n c {height} {width}"]:
    """Gaussian blur, then bicubic resampling with aligned corners.

    Args:
        pictures: [n, c, H, W].
        height: New height [px].
        width: New width [px].

    Source: the resizing that Stable Video Diffusion's conditioning was trained with
    (generative-models, `GeneralConditioner` input; diffusers' SVD pipeline does the same).
    """
    blurred = _blur_axis(pictures, pictures.shape[-2] / height, 2)
    blurred = _blur_axis(blurred, pictures.shape[-1] / width, 3)
    return F.interpolate(blurred, size=(height, width), mode="bicubic", align_corners=True)


def clip_pixels(
    pictures: Float[Tensor, "n 3 height width"], size: int = 224
) -> Float[Tensor, "n 3 {size} {size}"]:
    """CLIP's input for pictures of any size; the aspect ratio is not kept, nothing is cut off.

    Args:
        pictures: [n, 3, H, W] in [-1, 1].
        size: Side of CLIP's input [px].

    Returns:
        Pixels normalised by CLIP's mean and standard deviation.
    """
    resized = resize_antialiased(pictures, size, size) / 2 + 0.5
    mean, std = (torch.tensor(v).to(resized)[:, None, None] for v in (_CLIP_MEAN, _CLIP_STD))
    return (resized - mean) / std
