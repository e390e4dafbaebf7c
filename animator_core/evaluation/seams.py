"""How much more the picture jumps where windows meet than elsewhere."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from ..config import WindowConfig
from ..diffusion.windows import plan_windows
from ..errors import ShapeError
from .measures import ClipResult, ClipSource, Measure
from .regions import Picture

__all__ = ["SeamMeasure", "jumps", "seam_ratio", "window_borders"]


def jumps(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean absolute change from each frame to the next, [T-1] in 0..1.

    Args:
        frames: uint8 [T, H, W, 3].
    """
    return np.array([_jump(a, b) for a, b in itertools.pairwise(frames)])


def _jump(before: Picture, after: Picture) -> float:
    return float(np.abs(after.astype(np.int16) - before.astype(np.int16)).mean()) / 255.0


def window_borders(num_frames: int, config: WindowConfig) -> list[int]:
    """Frames at which the set of windows changes, in order.

    A border b lies between the frames b - 1 and b: a window begins with b, or one ended with
    b - 1. The anchor frame is in every window and makes no border.

    Args:
        num_frames: Frames of the clip.
        config: Windows that it was sampled with.
    """
    borders: set[int] = set()
    anchored = config.anchor != "none"
    dropped = 1 if config.anchor == "reference_pose" else 0  # an anchor that nobody sees
    for window in plan_windows(num_frames + dropped, config):
        own = window[1:] if anchored and len(window) > 1 else window
        borders |= {own[0] - dropped, own[-1] + 1 - dropped}
    # the first window begins beside the anchor, not at a seam
    first = 1 if config.anchor == "first_frame" else 0
    return sorted(b for b in borders if first < b < num_frames)


def seam_ratio(changes: NDArray[np.float64], borders: list[int]) -> float:
    """Mean change at borders over the mean change elsewhere.

    Protocol: mean absolute difference of consecutive generated frames; 1 means that seams do not
    show. The motion itself is not taken out.

    Args:
        changes: [T-1] from `jumps`.
        borders: Frame numbers in 1..T-1.

    Returns:
        NaN where nothing moves elsewhere.

    Raises:
        ShapeError: If there is no border, or nothing but borders.
    """
    at_border = np.zeros(len(changes), dtype=bool)
    at_border[[b - 1 for b in borders]] = True
    if not at_border.any() or at_border.all():
        raise ShapeError(
            f"Of {len(changes)} changes between frames {int(at_border.sum())} lie at window "
            "borders; some must and some must not."
        )
    elsewhere = float(changes[~at_border].mean())
    return float(changes[at_border].mean()) / elsewhere if elsewhere > 0 else math.nan


class SeamMeasure(Measure):
    """`seam_ratio` of generated clips.

    Args:
        config: Windows that the clips were sampled with.
    """

    needs_target = False

    def __init__(self, config: WindowConfig) -> None:
        self._config = config
        self._before: Picture | None = None
        self._changes: list[float] = []

    def begin(self, source: ClipSource) -> None:  # noqa: ARG002
        """Forget the clip before."""
        self._before, self._changes = None, []

    def add(self, generated: Picture, target: Picture | None) -> None:  # noqa: ARG002
        """Measure the change since the frame before."""
        if self._before is not None:
            self._changes.append(_jump(self._before, generated))
        self._before = generated

    def end(self) -> ClipResult:
        """Ratio of the clip."""
        num_frames = len(self._changes) + 1
        borders = window_borders(num_frames, self._config)
        if not borders or len(borders) >= len(self._changes):
            return ClipResult(
                reason=f"{num_frames} frames have no seams with windows of {self._config.frames}"
            )
        ratio = seam_ratio(np.array(self._changes), borders)
        reason = "nothing moves in the clip" if math.isnan(ratio) else ""
        return ClipResult(value=ratio, reason=reason, counts={"window_borders": len(borders)})
