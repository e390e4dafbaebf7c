"""The window plan and its blending."""

from __future__ import annotations

import pytest
import torch
from golden_files import golden_cases, load_case
from hypothesis import given
from hypothesis import strategies as st

from animator_core.config import WindowConfig
from animator_core.diffusion.windows import blend_weights, plan_windows
from animator_core.errors import ConfigError


@st.composite
def plans(draw):
    frames = draw(st.integers(2, 24))
    config = WindowConfig(
        frames=frames,
        overlap=draw(st.integers(0, frames - 1)),
        anchor=draw(st.sampled_from(["first_frame", "reference_pose", "none"])),
    )
    return draw(st.integers(1, 500)), config


@given(plans())
def test_windows_cover_every_frame_with_equal_lengths(plan):
    num_frames, config = plan
    windows = plan_windows(num_frames, config)
    assert set().union(*windows) == set(range(num_frames))
    assert {len(w) for w in windows} == {min(config.frames, num_frames)}
    assert all(w == sorted(set(w)) for w in windows)
    if config.anchor != "none":
        assert all(w[0] == 0 for w in windows)


@given(plans())
def test_every_frame_gets_weight(plan):
    num_frames, config = plan
    windows = plan_windows(num_frames, config)
    weights = blend_weights(len(windows[0]))
    total = torch.zeros(num_frames)
    for window in windows:
        total[window] += weights
    assert (total > 0).all()


@pytest.mark.parity
@pytest.mark.parametrize("name", golden_cases("05_pipeline"))
def test_plan_equals_the_reference(name):
    case, _ = load_case(name)
    args = case["args"]
    config = WindowConfig(frames=args["tile_size"], overlap=args["tile_overlap"])
    assert plan_windows(args["num_frames"], config) == case["window_indices"]
    assert blend_weights(config.frames).tolist() == pytest.approx(case["window_weights"])


@given(st.integers(1, 64))
def test_weights_are_symmetric_and_positive(length):
    weights = blend_weights(length)
    torch.testing.assert_close(weights, weights.flip(0))
    assert ((weights > 0) & (weights <= 1)).all()


def test_a_short_clip_is_one_window():
    assert plan_windows(5, WindowConfig(frames=16, overlap=4)) == [[0, 1, 2, 3, 4]]
    assert plan_windows(1, WindowConfig()) == [[0]]


def test_anchored_windows_without_overlap_miss_no_frame():
    windows = plan_windows(9, WindowConfig(frames=4, overlap=0))
    assert set().union(*windows) == set(range(9))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"frames": 4, "overlap": 4}, "lower the overlap"),
        ({"frames": 0}, "at least 1"),
        ({"overlap": -1}, "at least 0"),
        ({"anchor": "middle"}, "first_frame"),
    ],
)
def test_bad_settings_say_what_to_do(settings, words):
    with pytest.raises(ConfigError, match=words):
        WindowConfig(**settings)


def test_bad_plans_say_what_to_do():
    with pytest.raises(ConfigError, match="at least 1"):
        plan_windows(0, WindowConfig())
    with pytest.raises(ConfigError, match="at least 2"):
        plan_windows(3, WindowConfig(frames=1, overlap=0))
    with pytest.raises(ConfigError, match="at least 1"):
        blend_weights(0)
