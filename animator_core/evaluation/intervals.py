"""Means with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError

__all__ = ["MeanInterval", "mean_with_interval"]


@dataclass(frozen=True, kw_only=True)
class MeanInterval:
    """A mean and how well it is known.

    Attributes:
        mean: NaN if there was no value.
        low: Lower end of the interval; NaN with fewer than two values.
        high: Upper end.
        count: Values that went in.
        level: Share of such intervals that hold the true mean.
    """

    mean: float
    low: float
    high: float
    count: int
    level: float

    def __str__(self) -> str:
        """As for a table: mean and half width."""
        if math.isnan(self.low):
            return f"{self.mean:.4g}"
        return f"{self.mean:.4g} ± {(self.high - self.low) / 2:.2g}"


def mean_with_interval(values: Iterable[float], level: float = 0.95) -> MeanInterval:
    """Mean of independent values with Student's t interval.

    Values must be independent: clips are, the frames of one clip are not.

    Args:
        values: Any number; NaNs (not computed) are left out.
        level: Confidence level in 0..1, exclusive.

    Raises:
        ConfigError: If the level is out of range.
    """
    if not 0 < level < 1:
        raise ConfigError(f"The confidence level is {level} but must lie between 0 and 1.")
    known = np.array([v for v in values if not math.isnan(v)], dtype=np.float64)
    mean = float(known.mean()) if known.size else math.nan
    if known.size < 2:
        return MeanInterval(
            mean=mean, low=math.nan, high=math.nan, count=int(known.size), level=level
        )
    from scipy.stats import t

    error = float(known.std(ddof=1)) / math.sqrt(known.size)
    half = float(t.ppf(0.5 + level / 2, known.size - 1)) * error
    return MeanInterval(
        mean=mean, low=mean - half, high=mean + half, count=int(known.size), level=level
    )
