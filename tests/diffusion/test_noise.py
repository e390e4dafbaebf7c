"""Noise levels, preconditioning and noise tiling."""

from __future__ import annotations

import math

import pytest
import torch
from golden_files import golden_cases, load_case
from hypothesis import given
from hypothesis import strategies as st

from animator_core.diffusion.noise import (
    c_in,
    c_noise,
    draw_noise,
    initial_noise_scale,
    karras_sigmas,
    predict_denoised,
    tile_noise,
)
from animator_core.errors import ConfigError


@pytest.mark.parity
@pytest.mark.parametrize("name", golden_cases("12_"))
def test_levels_equal_the_reference(name):
    case, _ = load_case(name)
    for steps, expected in case["steps"].items():
        sigmas = karras_sigmas(int(steps))
        torch.testing.assert_close(sigmas, torch.tensor(expected["sigmas"]), rtol=2e-5, atol=1e-9)
        timesteps = torch.tensor([c_noise(s) for s in sigmas[:-1].tolist()])
        torch.testing.assert_close(
            timesteps, torch.tensor(expected["timesteps"]), rtol=0, atol=3e-5
        )
        assert initial_noise_scale() == pytest.approx(expected["init_noise_sigma"], rel=1e-7)


@given(st.integers(1, 200))
def test_levels_fall_strictly_to_zero(steps):
    sigmas = karras_sigmas(steps)
    assert len(sigmas) == steps + 1
    assert (sigmas[:-1] > sigmas[1:]).all()
    assert sigmas[-1] == 0


@pytest.mark.parametrize("steps", [0, -3])
def test_no_steps_is_an_error(steps):
    with pytest.raises(ConfigError, match="at least 1"):
        karras_sigmas(steps)


@given(st.floats(0.002, 700.0))
def test_a_perfect_v_prediction_gives_the_clean_latents(sigma):
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(2, 4, 3, 3, generator=generator, dtype=torch.float64)
    noise = torch.randn(2, 4, 3, 3, generator=generator, dtype=torch.float64)
    noisy = clean + sigma * noise
    # v of the variance-preserving form: noisy * c_in = cos * clean + sin * noise
    cosine, sine = 1 / math.sqrt(1 + sigma**2), sigma / math.sqrt(1 + sigma**2)
    velocity = cosine * noise - sine * clean
    denoised = predict_denoised(velocity, noisy, sigma)
    torch.testing.assert_close(denoised, clean, rtol=0, atol=1e-9 * (1 + sigma))
    assert c_in(sigma) == pytest.approx(cosine)


def test_a_seed_fixes_the_noise_and_the_first_frames_of_any_length():
    first, second = (draw_noise((4, 4, 2, 2), torch.Generator().manual_seed(7)) for _ in "ab")
    assert torch.equal(first, second)
    short, long = tile_noise(first, 3), tile_noise(first, 11)
    assert torch.equal(long[:3], short)
    assert torch.equal(long[4:8], first)
    assert len(long) == 11
