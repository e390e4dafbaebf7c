"""The aligner network: its start, its symmetries and its gradients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from animator_core.errors import CheckpointError, ConfigError
from animator_core.models.pose_aligner import PoseAligner, PoseAlignerConfig
from animator_core.pose.aligner_features import (
    CLIP_FEATURES,
    FRAME_FEATURES,
    JOINT_FEATURES,
    aligner_features,
    sample_frames,
)
from animator_core.pose.learned_fit import (
    DEFAULT_WEIGHTS,
    load_aligner,
    network_inputs,
    predict_maps,
)
from animator_core.pose.robust_fit import fit_clip
from animator_core.training.aligner_data import CaseConfig, make_cases


def network(**changes) -> PoseAligner:
    torch.manual_seed(0)
    settings = {
        "frame_features": FRAME_FEATURES,
        "joint_features": JOINT_FEATURES,
        "clip_features": CLIP_FEATURES,
        "dim": 32,
        "layers": 1,
    }
    return PoseAligner(PoseAlignerConfig(**{**settings, **changes})).eval()


def trained_a_little(**changes) -> PoseAligner:
    """A network whose output layers are not zero."""
    net = network(**changes)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in (net.frame_logits, net.joint_logits, net.correction):
            layer.weight.normal_(0, 0.05, generator=generator)
    return net


def cases(count=6, frames=9, seed=0):
    return make_cases(np.random.default_rng(seed), count, CaseConfig(frames=frames))


def test_untrained_network_is_the_robust_fit():
    pair = cases().pair
    fit = fit_clip(pair)
    factor, shift = predict_maps(network(), aligner_features(pair))
    # rejected joints keep a thousandth of their weight
    np.testing.assert_allclose(factor, fit.factor, rtol=0.03)
    moved = factor[:, None, None] * pair.driving + shift[:, None, None]
    wanted = fit.factor[:, None, None] * pair.driving + fit.shift[:, None, None]
    seen = pair.driving_confidence > 0
    assert (np.abs(moved - wanted) / fit.unit[:, None, None])[seen].mean() < 0.01


def test_answer_turns_scales_and_shifts_with_the_clip():
    pair = cases().pair
    net = trained_a_little()
    factor, shift = predict_maps(net, aligner_features(pair))
    turn, move = 1.7 * np.exp(0.3j), 3.0 - 2.0j
    seen = pair.driving_confidence > 0
    other = replace(pair, driving=np.where(seen, turn * pair.driving + move, 0))
    factor_2, shift_2 = predict_maps(net, aligner_features(other))
    np.testing.assert_allclose(factor_2 * turn, factor, rtol=1e-3)
    np.testing.assert_allclose(factor_2 * move + shift_2, shift, atol=1e-2)


def test_padding_frames_change_nothing():
    features = aligner_features(cases().pair)
    inputs = network_inputs(features)
    net = trained_a_little()

    def padded(values):
        extra = torch.full_like(values[:, :3], 0.7)
        return torch.cat([values, extra], dim=1)

    longer = replace(
        inputs,
        points=padded(inputs.points),
        base_weights=padded(inputs.base_weights),
        robust_weights=padded(0 * inputs.robust_weights),
        frames=padded(inputs.frames),
        frame_mask=torch.cat(
            [inputs.frame_mask, torch.zeros(len(inputs.frame_mask), 3, dtype=torch.bool)], dim=1
        ),
    )
    longer = replace(
        longer,
        robust_weights=torch.cat([inputs.robust_weights, longer.robust_weights[:, -3:] * 0], dim=1),
    )
    with torch.no_grad():
        torch.testing.assert_close(net(inputs).factor, net(longer).factor, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(net(inputs).shift, net(longer).shift, atol=1e-5, rtol=1e-4)


def test_missing_joints_get_no_weight():
    features = aligner_features(cases().pair)
    with torch.no_grad():
        weights = trained_a_little()(network_inputs(features)).weights.numpy()
    assert weights[features.base_weights == 0].max() < 1e-9
    np.testing.assert_allclose(weights.sum((1, 2)), 1, rtol=1e-5)


@pytest.mark.parametrize(("guided", "weighted"), [(True, True), (False, True), (True, False)])
def test_gradients_reach_every_parameter_that_is_used(guided, weighted):
    net = trained_a_little(guided=guided, weighted=weighted)
    output = net(network_inputs(aligner_features(cases().pair, guided=guided)))
    (output.factor.square().sum() + output.shift.square().sum()).backward()
    unused = {"frame_logits", "joint_logits"} if not weighted else set()
    for name, parameter in net.named_parameters():
        if name.split(".")[0] in unused:
            continue
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        # softmax does not see a constant added to all logits
        if not name.endswith(("joint_logits.bias", "self_attn.in_proj_bias")):
            assert parameter.grad.abs().max() > 0, name


def test_shipped_network_is_small_and_complete():
    net = load_aligner()
    assert sum(p.numel() for p in net.parameters()) <= 2_000_000
    assert DEFAULT_WEIGHTS.stat().st_size < 8_000_000
    assert all(torch.isfinite(p).all() for p in net.parameters())


def test_wrong_weight_files_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="missing"):
        load_aligner(tmp_path / "none.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes(DEFAULT_WEIGHTS.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="not a file of aligner weights"):
        load_aligner(tmp_path / "damaged.safetensors")


def test_architecture_is_checked():
    with pytest.raises(ConfigError, match="multiple of heads"):
        network(dim=30, heads=4)


def test_sampled_frames_are_spread_over_the_clip():
    assert sample_frames(5, 48).tolist() == [0, 1, 2, 3, 4]
    picked = sample_frames(2000, 48)
    assert len(picked) == 48
    assert picked[0] == 0
    assert picked[-1] == 1999
