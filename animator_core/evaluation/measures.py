"""What a metric is to the evaluation: something that sees a clip's frames one by one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import AnimatorError
from .regions import FrameFunction, Picture

__all__ = ["ClipResult", "ClipSource", "FrameMeasure", "Measure", "MetricUnavailableError"]


class MetricUnavailableError(AnimatorError):
    """A metric needs a network or a file that is not there; the others can still be computed."""


@dataclass(frozen=True, kw_only=True)
class ClipSource:
    """A clip and what belongs to it. Paths are None for what was not given.

    Attributes:
        name: For reports.
        generated: Video, picture, or folder of pictures.
        target: The same, to compare with.
        identity: Picture of the face that should be kept.
        driven_poses: Keypoint file of the motion that should be followed.
        generated_poses: Keypoint file of the generated frames.
    """

    name: str
    generated: Path | None = None
    target: Path | None = None
    identity: Path | None = None
    driven_poses: Path | None = None
    generated_poses: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ClipResult:
    """A metric of one clip, or of all.

    Attributes:
        value: NaN where it could not be computed.
        frames: Values per frame, NaN where a frame has none; empty for metrics of whole clips.
        counts: Numbers that belong to it, such as frames without a face.
        reason: Why there is no value.
    """

    value: float = math.nan
    frames: tuple[float, ...] = ()
    counts: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""

    @classmethod
    def of_frames(
        cls,
        frames: list[float],
        counts: Mapping[str, float] | None = None,
        reason: str = "no frame has a value",
    ) -> ClipResult:
        """Mean of the frames that have a value.

        Args:
            frames: One value per frame.
            counts: Numbers that belong to it.
            reason: What to say if no frame has a value.
        """
        known = [v for v in frames if not math.isnan(v)]
        return cls(
            value=math.fsum(known) / len(known) if known else math.nan,
            frames=tuple(frames),
            counts=counts or {},
            reason="" if known else reason,
        )


class Measure(ABC):
    """A metric that is fed frames."""

    needs_target = True
    """Whether frames to compare with are needed."""

    @abstractmethod
    def begin(self, source: ClipSource) -> None:
        """A clip begins."""

    @abstractmethod
    def add(self, generated: Picture, target: Picture | None) -> None:
        """The next frame."""

    @abstractmethod
    def end(self) -> ClipResult:
        """The clip is complete."""

    def pooled(self) -> ClipResult | None:
        """One value over all clips, for metrics that are no mean of clips."""
        return None


class FrameMeasure(Measure):
    """A pixel metric, averaged over the frames of a clip.

    Args:
        function: Such as `psnr`.
    """

    def __init__(self, function: FrameFunction) -> None:
        self._function = function
        self._values: list[float] = []

    def begin(self, source: ClipSource) -> None:  # noqa: ARG002
        """Forget the clip before."""
        self._values = []

    def add(self, generated: Picture, target: Picture | None) -> None:
        """Compare a pair."""
        assert target is not None
        self._values.append(self._function(generated, target, None))

    def end(self) -> ClipResult:
        """Mean over the frames."""
        return ClipResult.of_frames(self._values)
