"""Pose picture → features that are added after the UNet's first convolution."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["PoseNet"]


class PoseNet(nn.Module):
    """A small convolutional encoder that shrinks a skeleton picture eight times.

    Args:
        noise_latent_channels: Output channels; equals the UNet's first width.

    Source: StableAnimator 020e7f2, animation/modules/pose_net.py.
    """

    STAGES: tuple[tuple[int, int, int, int], ...] = (
        (3, 3, 3, 1),
        (3, 16, 4, 2),
        (16, 16, 3, 1),
        (16, 32, 4, 2),
        (32, 32, 3, 1),
        (32, 64, 4, 2),
        (64, 64, 3, 1),
        (64, 128, 3, 1),
    )
    """(channels in, channels out, kernel, stride) of each convolution."""

    def __init__(self, noise_latent_channels: int = 320) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels_in, channels_out, kernel, stride in self.STAGES:
            conv = nn.Conv2d(channels_in, channels_out, kernel, stride=stride, padding=1)
            layers += [conv, nn.SiLU()]
        self.conv_layers = nn.Sequential(*layers)
        self.final_proj = nn.Conv2d(self.STAGES[-1][1], noise_latent_channels, 1)
        self.scale = nn.Parameter(torch.full((1,), 2.0))
        self._initialize()

    def _initialize(self) -> None:
        for layer in self.conv_layers:
            if isinstance(layer, nn.Conv2d):
                fan_in = layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1]
                nn.init.normal_(layer.weight, std=math.sqrt(2.0 / fan_in))
                nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]
        nn.init.zeros_(self.final_proj.weight)  # an untrained PoseNet changes nothing
        nn.init.zeros_(self.final_proj.bias)  # pyright: ignore[reportArgumentType]

    def forward(
        self, pose_frames: Float[Tensor, "n 3 height width"]
    ) -> Float[Tensor, "n channels h w"]:
        """Encode skeleton pictures.

        Args:
            pose_frames: [n, 3, H, W] in [-1, 1], RGB; H and W multiples of 8.

        Returns:
            [n, noise_latent_channels, H/8, W/8].
        """
        return self.final_proj(self.conv_layers(pose_frames)) * self.scale
