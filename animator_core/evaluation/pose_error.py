"""How closely generated frames follow the driving pose."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ShapeError
from ..pose.interchange import load_poses
from ..pose.keypoints import FramePose, PersonPose, PoseSequence, scale_to_canvas
from ..pose.skeletons import BODY_JOINTS
from .measures import ClipResult, ClipSource, Measure, MetricUnavailableError
from .regions import Picture

__all__ = ["PoseError", "PoseMeasure", "pose_error", "torso_length"]

_NECK = BODY_JOINTS.index("neck")
_HIPS = (BODY_JOINTS.index("right_hip"), BODY_JOINTS.index("left_hip"))

FindPoses = Callable[[ClipSource, bool], PoseSequence]
"""Poses of a clip's generated (True) or target (False) frames."""


@dataclass(frozen=True, kw_only=True)
class PoseError:
    """Pose error of a clip.

    Attributes:
        frames: Mean distance of the joints found in both, as a share of the torso's length; NaN
            where they have no joint in common.
        missed_joints: Share of the driven joints that were not found in the generated frames.
        frames_without_pose: Frames in which a driven person, but no generated one was found.
    """

    frames: tuple[float, ...]
    missed_joints: float
    frames_without_pose: int

    @property
    def mean(self) -> float:
        """Mean over the frames that have an error; NaN if none has."""
        known = [v for v in self.frames if not math.isnan(v)]
        return math.fsum(known) / len(known) if known else math.nan


def torso_length(frames: PoseSequence, person: int = 0) -> float:
    """Median distance from the neck to the middle of the hips [px]; NaN if never seen.

    Args:
        frames: Poses of a clip.
        person: Index into each frame's people.
    """
    lengths: list[float] = []
    for frame in frames:
        if person >= len(frame.people):
            continue
        body = frame.people[person].body
        hips = [body[hip, :2] for hip in _HIPS if body[hip, 2] > 0]
        if body[_NECK, 2] > 0 and hips:
            lengths.append(float(np.linalg.norm(np.mean(hips, axis=0) - body[_NECK, :2])))
    return float(np.median(lengths)) if lengths else math.nan


def pose_error(generated: PoseSequence, driven: PoseSequence) -> PoseError:
    """Distance between the poses of generated frames and those that drove them.

    Protocol: the 18 body joints, on the driven poses' canvas; per frame the mean distance over
    joints that both have, divided by the person's median torso length (neck to mid-hip) in the
    driven clip. Every driven person is compared with the nearest generated one; a frame's error
    is the mean over its people. Joints that only the driven pose has are not in the mean, but
    counted.

    Args:
        generated: T poses, as found in the generated frames.
        driven: T poses.

    Raises:
        ShapeError: If the clips have different lengths.
    """
    if len(generated) != len(driven):
        raise ShapeError(
            f"There are poses of {len(generated)} generated frames but of {len(driven)} driven "
            "ones; give equally many."
        )
    torsos = _torsos(driven)
    values: list[float] = []
    wanted = missed = without = 0
    for found, truth in zip(generated, driven, strict=True):
        people = [p for p in scale_to_canvas(found, truth.width, truth.height).people if _has(p)]
        errors: list[float] = []
        aims = [(p, torsos[i]) for i, p in enumerate(truth.people) if _has(p)]
        without += bool(aims) and not people
        for aim, torso in aims:
            joints = int((aim.body[:, 2] > 0).sum())
            wanted += joints
            distance, common = _nearest(people, aim)
            missed += joints - common
            if common and torso > 0:
                errors.append(distance / torso)
        values.append(math.fsum(errors) / len(errors) if errors else math.nan)
    return PoseError(
        frames=tuple(values),
        missed_joints=missed / wanted if wanted else math.nan,
        frames_without_pose=without,
    )


def _torsos(driven: PoseSequence) -> list[float]:
    """Torso length of each person; one who never shows a torso has the others' median."""
    count = max((len(frame.people) for frame in driven), default=0)
    lengths = [torso_length(driven, person) for person in range(count)]
    known = [v for v in lengths if v > 0]
    usual = float(np.median(known)) if known else math.nan
    return [v if v > 0 else usual for v in lengths]


def _has(person: PersonPose) -> bool:
    return bool((person.body[:, 2] > 0).any())


def _nearest(people: list[PersonPose], aim: PersonPose) -> tuple[float, int]:
    """Mean joint distance [px] to the nearest person, and the number of common joints."""
    best, most = math.inf, 0
    for person in people:
        common: NDArray[np.bool_] = (person.body[:, 2] > 0) & (aim.body[:, 2] > 0)
        if not common.any():
            continue
        offsets = person.body[common, :2] - aim.body[common, :2]
        distance = float(np.linalg.norm(offsets, axis=1).mean())
        if distance < best:
            best, most = distance, int(common.sum())
    return best, most


class PoseMeasure(Measure):
    """`pose_error` of clips whose poses are in files or are found by networks.

    Args:
        find: Finds poses where there is no file; None if there are no networks.
    """

    needs_target = False

    def __init__(self, find: FindPoses | None = None) -> None:
        self._find = find
        self._poses: tuple[PoseSequence, PoseSequence] = ((), ())
        self._frames = 0

    def begin(self, source: ClipSource) -> None:
        """Read or find the poses.

        Raises:
            MetricUnavailableError: If there is neither a file nor a network.
            MediaError: If a file cannot be read.
        """
        generated = source.generated_poses and load_poses(source.generated_poses)
        driven = source.driven_poses and load_poses(source.driven_poses)
        if self._find is None and (generated is None or driven is None):
            raise MetricUnavailableError(
                "needs poses of the generated and the driven frames: name files with "
                "--generated-poses and --driven-poses, or a folder with DWPose's networks with "
                "--models"
            )
        if self._find is not None:
            generated = self._find(source, True) if generated is None else generated
            driven = self._find(source, False) if driven is None else driven
        self._poses = (generated or (), driven or ())
        self._frames = 0

    def add(self, generated: Picture, target: Picture | None) -> None:  # noqa: ARG002
        """Count the frame; its pose is known already."""
        self._frames += 1

    def end(self) -> ClipResult:
        """Mean over the frames."""
        generated, driven = (self._cut(poses) for poses in self._poses)
        error = pose_error(generated, driven)
        counts = {"frames_without_pose": float(error.frames_without_pose)}
        if not math.isnan(error.missed_joints):
            counts["missed_joints"] = error.missed_joints
        reason = "no frame shows joints in both, or the driven pose never shows a torso"
        return ClipResult.of_frames(list(error.frames), counts, reason)

    def _cut(self, poses: PoseSequence) -> list[FramePose]:
        """As many poses as there were frames.

        Raises:
            ShapeError: If there are fewer.
        """
        if len(poses) < self._frames:
            raise ShapeError(
                f"There are poses of {len(poses)} frames for a clip of {self._frames}; give one "
                "per frame."
            )
        return list(poses[: self._frames])
