"""Latent previews; off, as in a ComfyUI that is started without --preview-method."""

from __future__ import annotations

from typing import Any

import torch
from comfy.cli_args import LatentPreviewMethod, args
from PIL import Image


class Latent2RGBPreviewer:
    def __init__(
        self,
        latent_rgb_factors: list[list[float]],
        latent_rgb_factors_bias: list[float] | None = None,
    ) -> None:
        self.factors = torch.tensor(latent_rgb_factors)
        self.bias = torch.tensor(latent_rgb_factors_bias or [0.0, 0.0, 0.0])

    def decode_latent_to_preview_image(
        self, preview_format: str, x0: torch.Tensor
    ) -> tuple[str, Image.Image, int]:
        colours = x0[0].movedim(0, -1) @ self.factors + self.bias
        levels = ((colours + 1) / 2).clamp(0, 1).mul(255).to(torch.uint8)
        return preview_format, Image.fromarray(levels.numpy()), 512


def get_previewer(device: torch.device, latent_format: Any) -> Latent2RGBPreviewer | None:
    if args.preview_method == LatentPreviewMethod.NoPreviews:
        return None
    if latent_format.latent_rgb_factors is None:
        return None
    return Latent2RGBPreviewer(
        latent_format.latent_rgb_factors, latent_format.latent_rgb_factors_bias
    )
