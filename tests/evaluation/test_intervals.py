from __future__ import annotations

import math

import numpy as np
import pytest

from animator_core.errors import ConfigError
from animator_core.evaluation.intervals import mean_with_interval


def test_by_the_table():
    found = mean_with_interval([1, 2, 3, 4, 5])
    half = 2.7764451 * math.sqrt(2.5) / math.sqrt(5)  # t(.975, 4)
    assert (found.mean, found.count, found.level) == (3, 5, 0.95)
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half))
    assert str(found) == "3 ± 2"


def test_it_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        found = mean_with_interval(rng.normal(7, 2, 6), 0.9)
        hits += found.low <= 7 <= found.high
    assert hits / 2000 == pytest.approx(0.9, abs=0.02)


def test_few_values():
    assert math.isnan(mean_with_interval([]).mean)
    one = mean_with_interval([2.0, math.nan])
    assert (one.mean, one.count) == (2.0, 1)
    assert math.isnan(one.low)
    assert str(one) == "2"
    same = mean_with_interval([2.0, 2.0])
    assert (same.low, same.high) == (2.0, 2.0)


@pytest.mark.parametrize("level", [0, 1, 95])
def test_levels_are_shares(level):
    with pytest.raises(ConfigError, match="between 0 and 1"):
        mean_with_interval([1, 2], level)
