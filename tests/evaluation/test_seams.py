from __future__ import annotations

import math

import numpy as np
import pytest

from animator_core.config import WindowConfig
from animator_core.errors import ShapeError
from animator_core.evaluation.measures import ClipSource
from animator_core.evaluation.seams import SeamMeasure, jumps, seam_ratio, window_borders

PLAIN = WindowConfig(frames=8, overlap=2, anchor="none")


def clip(num_frames: int, borders: list[int], step: int = 2, jump: int = 6) -> np.ndarray:
    changes = [jump if frame in borders else step for frame in range(1, num_frames)]
    levels = np.concatenate([[0], np.cumsum(changes)])
    return np.broadcast_to(levels[:, None, None, None], (num_frames, 4, 4, 3)).astype(np.uint8)


def test_borders_are_where_windows_begin_and_end():
    assert window_borders(14, PLAIN) == [6, 8]  # windows 0..7 and 6..13
    anchored = WindowConfig(frames=8, overlap=2, anchor="first_frame")
    assert window_borders(14, anchored) == [7, 8]  # 0,1..7 and 0,7..13
    reference = WindowConfig(frames=8, overlap=2, anchor="reference_pose")
    assert window_borders(13, reference) == [6, 7]  # the same, without the frame dropped
    assert window_borders(8, PLAIN) == []
    assert window_borders(1, PLAIN) == []


def test_the_ratio_of_drawn_jumps():
    frames = clip(14, [6, 8])
    assert jumps(frames)[[0, 5]] == pytest.approx([2 / 255, 6 / 255])
    assert seam_ratio(jumps(frames), [6, 8]) == pytest.approx(3)
    assert seam_ratio(jumps(clip(14, [])), [6, 8]) == pytest.approx(1)
    assert math.isnan(seam_ratio(np.zeros(5), [2]))


@pytest.mark.parametrize("borders", [[], [1, 2, 3]])
def test_there_must_be_both(borders):
    with pytest.raises(ShapeError, match="some must"):
        seam_ratio(np.ones(3), borders)


def measured(frames: np.ndarray, config: WindowConfig = PLAIN):
    measure = SeamMeasure(config)
    for _ in range(2):  # nothing is left of the clip before
        measure.begin(ClipSource(name="clip"))
        for frame in frames:
            measure.add(frame, None)
        result = measure.end()
    return result


def test_the_measure():
    result = measured(clip(14, [6, 8]))
    assert result.value == pytest.approx(3)
    assert result.counts == {"window_borders": 2}
    assert "no seams" in measured(clip(8, [])).reason
    assert "no seams" in measured(clip(1, [])).reason
    assert "nothing moves" in measured(clip(14, [], step=0)).reason
