"""The Euler loop, its hook, and the guided denoiser."""

from __future__ import annotations

import pytest
import torch

from animator_core.config import GuidanceConfig, WindowConfig
from animator_core.diffusion.denoiser import GuidedDenoiser, guidance_scales
from animator_core.diffusion.noise import initial_noise_scale, karras_sigmas
from animator_core.diffusion.sampler import iterate_euler
from animator_core.diffusion.windows import plan_windows
from animator_core.errors import CancelledError
from animator_core.interfaces import ClipConditioning


def exact_velocity(clean):
    """v of a network that knows the clean latents."""

    def predict(noisy, sigma):
        variance = sigma**2 + 1
        return (noisy / variance - clean) * variance**0.5 / sigma

    return predict


def test_the_loop_finds_what_the_network_knows():
    clean = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    start = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(1))
    states = list(
        iterate_euler(exact_velocity(clean), start * initial_noise_scale(), karras_sigmas(8))
    )
    torch.testing.assert_close(states[-1].latents, clean, rtol=0, atol=2e-4)
    assert [s.step.index for s in states] == list(range(8))
    assert {s.step.total for s in states} == {8}


def test_the_hook_changes_what_the_step_continues_from():
    clean, other = torch.zeros(1, 4, 2, 2), torch.full((1, 4, 2, 2), 3.0)
    seen = []

    def correct(denoised, step):
        seen.append((step.index, step.sigma))
        return other if step.index == step.total - 1 else denoised

    start = torch.ones_like(clean) * initial_noise_scale()
    *_, last = iterate_euler(exact_velocity(clean), start, karras_sigmas(4), correct)
    torch.testing.assert_close(last.latents, other)
    assert [index for index, _ in seen] == [0, 1, 2, 3]
    assert seen[0][1] == pytest.approx(700.0)


class RecordingNetwork:
    """Returns a known number per frame and branch, and remembers its calls."""

    def __init__(self):
        self.calls = []

    def __call__(self, sample, timestep, conditioning):
        self.calls.append((sample, timestep, conditioning))
        branch = conditioning.image_tokens.mean(dim=(1, 2))  # 0 unconditional, 1 conditional
        noisy = sample[:, :, :4]
        return noisy * 0 + branch[:, None, None, None, None] * 2 + 1


def make_denoiser(num_frames=6, window=4, together=True, guidance=None, **others):
    clip = ClipConditioning(
        image_tokens=torch.ones(1, 1, 8),
        identity_tokens=torch.ones(1, 4, 8),
        added_time_ids=torch.tensor([[6.0, 127.0, 0.02]]),
        reference_latents=torch.ones(4, 2, 2),
        pose_features=torch.arange(num_frames).float()[:, None, None, None].expand(-1, 5, 2, 2),
        identity_scale=others.pop("identity_scale", 1.0),
    )
    network = RecordingNetwork()
    denoiser = GuidedDenoiser(
        network=network,
        conditioning=clip,
        windows=plan_windows(num_frames, WindowConfig(frames=window, overlap=1)),
        guidance=guidance,
        together=together,
        device=torch.device("cpu"),
        dtype=torch.float32,
        **others,
    )
    return denoiser, network


@pytest.mark.parametrize("together", [True, False])
def test_guidance_rises_over_the_frames(together):
    scales = guidance_scales(6, GuidanceConfig(minimum=1.0, maximum=3.0))
    denoiser, network = make_denoiser(together=together, guidance=scales)
    out = denoiser(torch.zeros(6, 4, 2, 2), 1.0)
    # unconditional 1, conditional 3
    expected = 1 + scales * 2
    torch.testing.assert_close(out[:, 0, 0, 0], expected)
    calls_per_window = 1 if together else 2
    assert len(network.calls) == len(denoiser.windows) * calls_per_window


@pytest.mark.parametrize("together", [True, False])
def test_the_unconditional_branch_sees_no_reference_tokens_or_pose(together):
    denoiser, network = make_denoiser(together=together, guidance=torch.full((6,), 3.0))
    denoiser(torch.ones(6, 4, 2, 2), 1.0)
    sample, _, conditioning = network.calls[0]
    assert (sample[0, :, 4:] == 0).all()
    assert (conditioning.image_tokens[0] == 0).all()
    assert (conditioning.identity_tokens[0] == 0).all()
    pose = conditioning.pose_features
    assert pose is None or (pose[0] == 0).all()
    sample, _, conditioning = network.calls[0 if together else 1]
    assert (sample[-1, :, 4:] == 1).all()
    assert (conditioning.pose_features[-1, :, 0, 0, 0] == torch.tensor([0.0, 1, 2, 3])).all()


def test_without_guidance_there_is_no_unconditional_pass():
    denoiser, network = make_denoiser(guidance=None)
    out = denoiser(torch.zeros(6, 4, 2, 2), 1.0)
    assert (out == 3).all()
    assert all(call[0].shape[0] == 1 for call in network.calls)
    assert not GuidanceConfig(minimum=1.0, maximum=1.0).is_active
    assert GuidanceConfig(minimum=1.0, maximum=2.0).is_active
    assert GuidanceConfig(minimum=0.5, maximum=0.5).is_active


def test_identity_scale_can_differ_per_frame():
    scale = torch.linspace(0, 1, 6)
    denoiser, network = make_denoiser(guidance=torch.full((6,), 2.0), identity_scale=scale)
    denoiser(torch.zeros(6, 4, 2, 2), 1.0)
    window = denoiser.windows[-1]
    got = network.calls[-1][2].identity_scale
    torch.testing.assert_close(got, scale[window].repeat(2))


def test_cancel_stops_between_windows():
    def stop(done):
        if done == 1:
            raise CancelledError("stopped")

    denoiser, network = make_denoiser(on_window=stop)
    with pytest.raises(CancelledError):
        denoiser(torch.zeros(6, 4, 2, 2), 1.0)
    assert len(network.calls) == 1
