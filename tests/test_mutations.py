"""Deliberate faults in the mathematics make the parity tests fail.

Each test breaks one thing and expects the golden comparison to notice; a golden set that could not
tell right from wrong would otherwise go unseen.
"""

from __future__ import annotations

import pytest
import test_pipeline_parity as pipeline_parity
import torch
from golden_files import golden_cases, load_case
from models import test_parity_models as parity

from animator_core.diffusion import denoiser
from animator_core.models import id_attention

ID_CASES = golden_cases("03_")


def blends(name):
    """Whether windows share a frame other than the anchor, so that their weights matter."""
    windows = load_case(name)[0]["window_indices"]
    return sum(len(w) - 1 for w in windows) > len({i for w in windows for i in w[1:]})


BLENDED_CASES = [name for name in pipeline_parity.PLAIN_CASES if blends(name)]


def check_identity_attention():
    with torch.no_grad():
        for name in ID_CASES:
            parity.test_identity_attention(name)


def biased(x):
    std, mean = torch.std_mean(x, dim=(1, 2), keepdim=True, correction=0)
    return id_attention.Moments(mean, std)


def per_channel(x):
    std, mean = torch.std_mean(x, dim=1, keepdim=True, correction=1)
    return id_attention.Moments(mean, std)


def swapped(query, image, identity, **options):
    return ORIGINAL(query, identity, image, **options)


ORIGINAL = id_attention.identity_attention


@pytest.mark.parity
@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("_EPSILON", 1e-3),
        ("_moments", biased),
        ("_moments", per_channel),
        ("identity_attention", swapped),
    ],
)
def test_faults_in_the_identity_attention_are_noticed(monkeypatch, name, fault):
    check_identity_attention()
    monkeypatch.setattr(id_attention, name, fault)
    with pytest.raises(AssertionError):
        check_identity_attention()


@pytest.mark.parity
def test_missing_window_weights_are_noticed(monkeypatch):
    monkeypatch.setattr(denoiser, "blend_weights", lambda length: torch.ones(length))
    with pytest.raises(AssertionError, match="noise_pred"):
        pipeline_parity.test_pipeline(BLENDED_CASES[0])


@pytest.mark.parity
def test_swapped_guidance_branches_are_noticed(monkeypatch):
    predict = denoiser.GuidedDenoiser._predict

    def backwards(self, branches, timestep):
        return predict(self, branches[::-1], timestep)

    monkeypatch.setattr(denoiser.GuidedDenoiser, "_predict", backwards)
    with pytest.raises(AssertionError, match="noise_pred"):
        pipeline_parity.test_pipeline(pipeline_parity.PLAIN_CASES[0])
