"""The published alignment: one line fitted through all heights, and one shift per axis.

Differences from the reference are only where it crashes; see `fit_line`.
"""

from __future__ import annotations

import numpy as np

from ..errors import NoPoseError
from .keypoints import FramePose, PoseSequence
from .similarity import FloatArray, PlanarMap

__all__ = ["fit_line"]

_JOINTS = np.array([0, 1, 2, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17])
_CONFIDENCE = 0.3  # of the reference's joints; the driving joints' confidence is not looked at


def _body(frame: FramePose) -> FloatArray:
    """Joints of the first person relative to the canvas, [18, 3]; NaN where there is none."""
    body = frame.people[0].body.copy()
    absent = ~body.any(axis=1)
    body[:, :2] /= [frame.width, frame.height]
    body[absent, :2] = np.nan
    return body


def fit_line(driving: PoseSequence, reference: FramePose) -> PlanarMap:
    """The reference's rescaling as a map from driving to reference pixels.

    Frames with exactly one person are used, as in the reference. Clips without such a frame, where
    the reference crashes, use the first person of every frame.

    Args:
        driving: T frames.
        reference: The pose to match.

    Raises:
        NoPoseError: If the reference or the clip has too few joints for a line.

    Source: StableAnimator 020e7f2, DWPose/skeleton_extraction.py:155.
    """
    if not reference.people:
        raise NoPoseError(
            "The reference pose has no person; 'rescale' needs a body there. "
            "Choose another reference picture or method 'none'."
        )
    goal = _body(reference)
    frames = [f for f in driving if len(f.people) == 1] or [f for f in driving if f.people]
    joints = _JOINTS[(goal[_JOINTS, 2] > _CONFIDENCE) & np.isfinite(goal[_JOINTS, 0])]
    bodies = np.array([_body(f)[joints, :2] for f in frames]).reshape(-1, 2)
    goals = np.tile(goal[joints, :2], (len(frames), 1))
    known = np.isfinite(bodies).all(axis=1)
    bodies, goals = bodies[known], goals[known]
    if len(bodies) < 2 or np.ptp(bodies[:, 1]) == 0:
        raise NoPoseError(
            "'rescale' fits a line through body joints that clip and reference share, but there "
            f"are {len(bodies)} usable ones; 2 at different heights are needed. Choose method "
            "'learned', which can also align by the face, or 'none'."
        )
    scale, shift_y = np.polyfit(bodies[:, 1], goals[:, 1], 1)
    shift_x = np.mean(goals[:, 0] - bodies[:, 0] * scale)
    first = driving[0]
    return PlanarMap(
        scale_x=float(scale * reference.width / first.width),
        scale_y=float(scale * reference.height / first.height),
        shift_x_px=float(shift_x * reference.width),
        shift_y_px=float(shift_y * reference.height),
    )
