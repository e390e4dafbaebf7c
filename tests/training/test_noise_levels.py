"""Noise levels of training, beside the reference's."""

import numpy as np
import pytest
import torch

from animator_core.errors import ConfigError
from animator_core.training.noise_levels import NoiseLevels, draw_sigmas, interpolated_cosine

# StableAnimator 020e7f2, train.py: rand_cosine_interpolated(image_d=64, noise_d_low=32,
# noise_d_high=64, sigma_data=.5, min_value=.002, max_value=700), with stratified_uniform
# replaced by torch.linspace(.001, .999, 9)
REFERENCE_SIGMAS = [
    333.6456604003906,
    4.558474540710449,
    2.023129463195801,
    1.1536272764205933,
    0.7084718346595764,
    0.4352647066116333,
    0.24859963357448578,
    0.11098507791757584,
    0.002783720614388585,
]


@pytest.mark.parity
def test_the_cosine_schedule_is_the_references():
    sigmas = interpolated_cosine(torch.linspace(0.001, 0.999, 9), NoiseLevels())
    np.testing.assert_allclose(sigmas, REFERENCE_SIGMAS, rtol=1e-5)


def test_levels_stay_in_their_range():
    levels = NoiseLevels()
    sigmas = draw_sigmas(levels, 4096, torch.Generator().manual_seed(0))
    assert sigmas.min() >= levels.sigma_min * 0.999
    assert sigmas.max() <= levels.sigma_max * 1.001
    assert torch.isfinite(sigmas).all()


def test_the_mixture_is_what_it_says():
    levels = NoiseLevels(kind="mixture", uniform_share=0.25)
    logs = draw_sigmas(levels, 8192, torch.Generator().manual_seed(1)).log()
    assert logs.min() > -6.5  # of the normal part, which has no hard end
    expected = 0.75 * 0.8 + 0.25 * 1.0
    assert float(logs.mean()) == pytest.approx(expected, abs=0.01)
    only = draw_sigmas(
        NoiseLevels(kind="mixture", uniform_share=0.0), 8192, torch.Generator().manual_seed(1)
    ).log()
    assert float(only.std()) == pytest.approx(1.5, abs=0.02)
    flat = draw_sigmas(
        NoiseLevels(kind="mixture", uniform_share=1.0), 8192, torch.Generator().manual_seed(1)
    ).log()
    assert -4.5 <= float(flat.min()) < -4.4
    assert 6.4 < float(flat.max()) <= 6.5


def test_every_batch_covers_the_distribution():
    for seed in range(3):
        sigmas = draw_sigmas(NoiseLevels(), 16, torch.Generator().manual_seed(seed))
        assert (sigmas > 2).any()
        assert (sigmas < 0.25).any()
        assert not torch.equal(sigmas, sigmas.sort().values)


@pytest.mark.parametrize(
    "wrong", [{"kind": "flat"}, {"sigma_min": 0.0}, {"sigma_max": 0.001}, {"uniform_share": 2.0}]
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        NoiseLevels(**wrong)
