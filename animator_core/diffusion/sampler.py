"""The Euler loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ..interfaces import DenoisedCorrection, SamplerStep
from .noise import predict_denoised

__all__ = ["EulerState", "iterate_euler"]


@dataclass(frozen=True, kw_only=True)
class EulerState:
    """What one Euler step produced.

    Attributes:
        step: Which step it was.
        prediction: Guided v-prediction [frames, 4, h, w].
        denoised: Clean prediction that the step went on from, after any correction.
        latents: Latents after the step.
    """

    step: SamplerStep
    prediction: Tensor
    denoised: Tensor
    latents: Tensor


def iterate_euler(
    predict: Callable[[Tensor, float], Tensor],
    latents: Float[Tensor, "frames 4 h w"],
    sigmas: Float[Tensor, " steps+1"],
    correct_denoised: DenoisedCorrection | None = None,
) -> Iterator[EulerState]:
    """Solve the probability-flow equation with Euler steps, handing out every step.

    Args:
        predict: v-prediction from (noisy latents, sigma).
        latents: First latents: noise times `initial_noise_scale()`, float32.
        sigmas: Falling noise levels that end in 0.
        correct_denoised: Replaces the clean prediction before the step continues from it.

    Yields:
        The state after every step.

    Source: Karras et al. 2022, algorithm 1 without second-order correction.
    """
    levels = [float(sigma) for sigma in sigmas]
    total = len(levels) - 1
    for index in range(total):
        sigma, sigma_next = levels[index], levels[index + 1]
        step = SamplerStep(index=index, total=total, sigma=sigma)
        prediction = predict(latents, sigma)
        denoised = predict_denoised(prediction, latents, sigma)
        if correct_denoised is not None:
            denoised = correct_denoised(denoised, step)
        slope = (latents - denoised) / sigma
        latents = latents + slope * (sigma_next - sigma)
        yield EulerState(step=step, prediction=prediction, denoised=denoised, latents=latents)
