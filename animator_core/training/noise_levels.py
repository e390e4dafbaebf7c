"""Which noise levels a denoiser is trained at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..diffusion.noise import SIGMA_MAX, SIGMA_MIN
from ..errors import ConfigError

__all__ = ["NoiseLevels", "draw_sigmas", "interpolated_cosine"]


@dataclass(frozen=True, kw_only=True)
class NoiseLevels:
    """Distribution of sigma in training.

    `cosine` is the published recipe: the cosine schedule, shifted for noisier pictures towards
    high noise. `mixture` suits a task that the conditioning nearly solves, where the high levels
    decide: ln sigma is mostly normal, and now and then anything.

    Attributes:
        kind: Which of the two.
        sigma_min: Lowest level.
        sigma_max: Highest level of `cosine`.
        sigma_data: Deviation of the data that `cosine` is scaled to.
        image_side: Picture side that the cosine schedule was made for.
        noise_side_high: Side towards which it is shifted at high noise.
        noise_side_low: Side towards which it is shifted at low noise.
        normal_mean: Of ln sigma in `mixture`.
        normal_deviation: Of ln sigma in `mixture`.
        uniform_share: Share of levels in `mixture` whose logarithm is uniform.
        uniform_range: Of those logarithms.

    Raises:
        ConfigError: If a value is out of range.
    """

    kind: Literal["cosine", "mixture"] = "cosine"
    sigma_min: float = SIGMA_MIN
    sigma_max: float = SIGMA_MAX
    sigma_data: float = 0.5
    image_side: float = 64.0
    noise_side_high: float = 32.0
    noise_side_low: float = 64.0
    normal_mean: float = 0.8
    normal_deviation: float = 1.5
    uniform_share: float = 0.25
    uniform_range: tuple[float, float] = (-4.5, 6.5)

    def __post_init__(self) -> None:
        if self.kind not in ("cosine", "mixture"):
            raise ConfigError(f"The noise levels' kind is {self.kind!r}; use cosine or mixture.")
        if not 0 < self.sigma_min < self.sigma_max:
            raise ConfigError(
                f"sigma_min {self.sigma_min} and sigma_max {self.sigma_max} must be positive and "
                "rise."
            )
        if not 0 <= self.uniform_share <= 1:
            raise ConfigError(f"uniform_share is {self.uniform_share} but must lie in 0..1.")


def draw_sigmas(
    levels: NoiseLevels, count: int, generator: torch.Generator
) -> Float[Tensor, " {count}"]:
    """Stratified noise levels of a batch, in random order.

    Args:
        levels: Their distribution.
        count: Videos of the batch.
        generator: A CPU generator.
    """
    places = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    places = places[torch.randperm(count, generator=generator)]
    if levels.kind == "cosine":
        return interpolated_cosine(places, levels)
    share = levels.uniform_share
    uniform = places < share
    low, high = levels.uniform_range
    flat = low + (high - low) * places / max(share, 1e-9)
    inside = ((places - share) / max(1 - share, 1e-9)).clamp(1e-6, 1 - 1e-6)
    bell = levels.normal_mean + levels.normal_deviation * torch.special.ndtri(inside)
    return torch.where(uniform, flat, bell).exp()


def interpolated_cosine(places: Float[Tensor, " n"], levels: NoiseLevels) -> Float[Tensor, " n"]:
    """Quantiles of the interpolated, shifted cosine schedule; they fall from the highest level.

    Args:
        places: Where in the distribution, in 0..1.
        levels: Range and shifts.

    Source: Hoogeboom et al. 2023 (arXiv 2301.11093), equations 4 to 6; StableAnimator 020e7f2,
    train.py:174, whose `noise_d_low` is `noise_side_high` here.
    """
    least = -2 * math.log(levels.sigma_max / levels.sigma_data)  # log SNR
    most = -2 * math.log(levels.sigma_min / levels.sigma_data)

    def shifted(noise_side: float) -> Tensor:
        shift = 2 * math.log(noise_side / levels.image_side)
        start = math.atan(math.exp(-0.5 * (least - shift)))
        stop = math.atan(math.exp(-0.5 * (most - shift)))
        return shift - 2 * torch.log(torch.tan(start + places * (stop - start)))

    first, last = shifted(levels.noise_side_high), shifted(levels.noise_side_low)
    return levels.sigma_data * torch.exp(-0.5 * torch.lerp(first, last, places))
