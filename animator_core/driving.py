"""The driving motion as skeleton pictures, drawn or fitted a few frames at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .config import Fit, FrameSize
from .errors import ConfigError, NoPoseError
from .frames import fit_picture, fit_transform, picture_to_uint8
from .pose.drawing import DRAW_MODE, DrawMode, draw_poses
from .pose.keypoints import FramePose, PoseSequence, map_points

__all__ = ["DrivingMotion", "fit_pose", "select_frames"]

_CHUNK = 16


def fit_pose(frame: FramePose, size: FrameSize, fit: Fit) -> FramePose:
    """The same pose on the output canvas, carried along as a picture of its canvas would be.

    Args:
        frame: Pose in pixels of its own canvas.
        size: Output size.
        fit: How the canvas is fitted into it.
    """
    transform = fit_transform(frame.width, frame.height, size, fit)
    people = tuple(map_points(p, transform.matrix, transform.shift) for p in frame.people)
    return FramePose(people=people, width=size.width, height=size.height)


def select_frames(available: int, wanted: int | None) -> int:
    """How many frames to animate.

    Args:
        available: Frames of the motion.
        wanted: Frames asked for; None or 0 for all.

    Raises:
        NoPoseError: If the motion is empty.
        ConfigError: If more frames are asked for than there are, or fewer than none.
    """
    if wanted is not None and wanted < 0:
        raise ConfigError(f"{wanted} frames are asked for; ask for 1 or more, or 0 for all.")
    if available == 0:
        raise NoPoseError("The motion has no frames; give at least one pose or skeleton picture.")
    if wanted is not None and wanted > available:
        raise ConfigError(
            f"{wanted} frames are asked for but the motion has only {available}; "
            f"ask for {available} or fewer, or for 0 to use all."
        )
    return wanted or available


@dataclass(frozen=True, kw_only=True)
class DrivingMotion:
    """A motion, as keypoints, as ready-made skeleton pictures, or as both.

    With both, the pictures drive and the keypoints say where faces are.

    Attributes:
        poses: Keypoints, one entry per frame.
        skeletons: Skeleton pictures [frames, H, W, 3], uint8, or floats in 0..1.
        reference_pose: The reference picture's own pose, for the reference-pose anchor.
        draw_mode: How keypoints are drawn.

    Raises:
        NoPoseError: If there is no motion, or nobody in any of its frames.
        ConfigError: If poses and pictures disagree on the number of frames.
    """

    poses: PoseSequence | None = None
    skeletons: Any = None
    reference_pose: FramePose | None = None
    draw_mode: DrawMode = DRAW_MODE

    def __post_init__(self) -> None:
        if self.poses is None and self.skeletons is None:
            raise NoPoseError("There is no motion; give keypoints or skeleton pictures.")
        select_frames(self.num_frames, None)
        if self.poses is not None and self.skeletons is not None:
            self._check_equal_length(len(self.poses))
        elif self.poses is not None and all(p.is_empty for f in self.poses for p in f.people):
            raise NoPoseError(
                f"Nobody was found in any of the {len(self.poses)} frames of the motion; "
                "lower the confidence threshold of the extraction or choose another video."
            )

    def _check_equal_length(self, num_poses: int) -> None:
        num_pictures = len(self.skeletons)
        if num_poses != num_pictures:
            raise ConfigError(
                f"The motion has {num_pictures} skeleton pictures but {num_poses} frames of "
                "keypoints; give equally many, or only one of the two."
            )

    @property
    def num_frames(self) -> int:
        """Frames of the motion."""
        if self.skeletons is not None:
            return len(self.skeletons)
        return len(self.poses or ())

    def iter_pictures(
        self, num_frames: int, size: FrameSize, fit: Fit
    ) -> Iterator[NDArray[np.uint8]]:
        """Skeleton pictures of the first frames, a few at a time.

        Args:
            num_frames: How many frames.
            size: Output size.
            fit: How canvases of other proportions are fitted.

        Yields:
            uint8 [n, H, W, 3] RGB.
        """
        for start in range(0, num_frames, _CHUNK):
            stop = min(start + _CHUNK, num_frames)
            if self.skeletons is not None:
                pictures = picture_to_uint8(self.skeletons[start:stop])
                yield np.stack([fit_picture(p, size, fit) for p in pictures])
            else:
                yield self._draw((self.poses or ())[start:stop], size, fit)

    def reference_picture(self, size: FrameSize, fit: Fit) -> NDArray[np.uint8]:
        """Skeleton picture [1, H, W, 3] of the reference's own pose.

        Raises:
            NoPoseError: If that pose is unknown or empty.
        """
        pose = self.reference_pose
        if pose is None or all(p.is_empty for p in pose.people):
            raise NoPoseError(
                "The anchor 'reference_pose' needs the pose of the reference picture; connect it, "
                "or use the anchor 'first_frame'."
            )
        return self._draw([pose], size, fit)

    def _draw(self, poses: PoseSequence, size: FrameSize, fit: Fit) -> NDArray[np.uint8]:
        fitted = [fit_pose(p, size, fit) for p in poses]
        return draw_poses(fitted, size.width, size.height, self.draw_mode)
