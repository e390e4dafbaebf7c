"""Noise levels and the EDM preconditioning for v-prediction.

Source: Karras et al. 2022 (arXiv 2206.00364), equation 5 and table 1; the v-prediction form is
Stable Video Diffusion's (c_skip = 1/(sigma^2+1), c_out = -sigma/sqrt(sigma^2+1)).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ConfigError

__all__ = [
    "SIGMA_MAX",
    "SIGMA_MIN",
    "c_in",
    "c_noise",
    "draw_noise",
    "initial_noise_scale",
    "karras_sigmas",
    "predict_denoised",
    "tile_noise",
]

SIGMA_MIN = 0.002
SIGMA_MAX = 700.0
_RHO = 7.0


def karras_sigmas(
    steps: int, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX
) -> Float[Tensor, " steps+1"]:
    """Noise levels from the largest to 0, in float32 on the CPU.

    Args:
        steps: Number of Euler steps.
        sigma_min: Last level before 0.
        sigma_max: First level.

    Returns:
        [steps + 1], strictly falling; the last is 0.

    Raises:
        ConfigError: If there are no steps.

    Source: Karras et al. 2022, equation 5, with rho = 7.
    """
    if steps < 1:
        raise ConfigError(f"The number of steps is {steps} but must be at least 1.")
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    low, high = sigma_min ** (1 / _RHO), sigma_max ** (1 / _RHO)
    sigmas = (high + ramp * (low - high)) ** _RHO
    return torch.cat((sigmas, torch.zeros(1, dtype=torch.float64))).float()


def initial_noise_scale(sigma_max: float = SIGMA_MAX) -> float:
    """Standard deviation of the sampler's first latents, sqrt(sigma_max^2 + 1)."""
    return math.sqrt(sigma_max**2 + 1)


def c_in(sigma: float) -> float:
    """Factor that brings noisy latents to unit variance before the network sees them."""
    return 1 / math.sqrt(sigma**2 + 1)


def c_noise(sigma: float) -> float:
    """The network's timestep for a noise level, 0.25 ln(sigma)."""
    return 0.25 * math.log(sigma)


def predict_denoised(
    prediction: Float[Tensor, "*shape"], noisy: Float[Tensor, "*shape"], sigma: float
) -> Float[Tensor, "*shape"]:
    """Clean prediction from a v-prediction.

    Args:
        prediction: The network's v.
        noisy: Noisy latents, not scaled.
        sigma: Their noise level.
    """
    c_out = -sigma / math.sqrt(sigma**2 + 1)
    c_skip = 1 / (sigma**2 + 1)
    return prediction * c_out + noisy * c_skip


def draw_noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Standard normal noise in float32, always drawn on the CPU.

    A seed therefore gives the same noise for every device and precision.
    """
    return torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")


def tile_noise(
    noise: Float[Tensor, "window 4 h w"], num_frames: int
) -> Float[Tensor, "frames 4 h w"]:
    """Repeat one window's noise over a clip of any length.

    Source: StableAnimator 020e7f2, inference_pipeline_animation.py:577.
    """
    repeats = -(-num_frames // noise.shape[0])
    return noise.repeat(repeats, 1, 1, 1)[:num_frames]
