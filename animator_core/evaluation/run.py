"""Evaluating clips: every metric sees every frame once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..errors import MediaError
from ..interfaces import Monitor, Progress, SilentMonitor
from .clips import ReadConfig, expected_frames, read_pair
from .intervals import MeanInterval, mean_with_interval
from .measures import ClipResult, ClipSource, Measure, MetricUnavailableError
from .regions import Picture

__all__ = ["ClipReport", "Evaluation", "evaluate_clips", "evaluate_frames"]


@dataclass(frozen=True, kw_only=True)
class ClipReport:
    """What was measured on one clip.

    Attributes:
        source: The clip.
        num_frames: Frames that were compared.
        width: Of the compared frames [px].
        height: Of the compared frames [px].
        results: By metric.
    """

    source: ClipSource
    num_frames: int
    width: int
    height: int
    results: Mapping[str, ClipResult]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was measured on all clips.

    Attributes:
        clips: One entry per clip.
        means: By metric: mean over clips with its interval; one value without interval for
            metrics of all clips together.
        not_computed: By metric: why there is no value.
    """

    clips: tuple[ClipReport, ...]
    means: Mapping[str, MeanInterval]
    not_computed: Mapping[str, str]


def evaluate_clips(
    pairs: Sequence[ClipSource],
    measures: Mapping[str, Measure],
    reading: ReadConfig | None = None,
    monitor: Monitor | None = None,
) -> Evaluation:
    """Measure clips that lie in files.

    Args:
        pairs: Clips.
        measures: Metrics by name, used up by this call.
        reading: What to do with unequal sizes and lengths.
        monitor: Sees progress and may cancel.

    Raises:
        MediaError: If a clip cannot be read or two clips do not fit each other.
        AnimatorError: If a metric cannot make sense of a clip.
    """
    reading, monitor = reading or ReadConfig(), monitor or SilentMonitor()
    counter = _Counter(monitor, expected_frames(list(pairs)))
    open_measures = dict(measures)
    unavailable: dict[str, str] = {}
    reports: list[ClipReport] = []
    for pair in pairs:
        frames = counter.counted(read_pair(pair, reading))
        reports.append(_measure(pair, frames, open_measures, unavailable))
    return _summed_up(reports, open_measures, unavailable)


def evaluate_frames(
    frames: Iterable[tuple[Picture, Picture | None]],
    measures: Mapping[str, Measure],
    *,
    num_frames: int,
    source: ClipSource | None = None,
    monitor: Monitor | None = None,
) -> Evaluation:
    """Measure one clip that lies in memory.

    Args:
        frames: Generated and target frame; None for metrics that need no target.
        measures: Metrics by name, used up by this call.
        num_frames: How many frames will come, for the progress.
        source: What belongs to the clip.
        monitor: Sees progress and may cancel.
    """
    counter = _Counter(monitor or SilentMonitor(), num_frames)
    open_measures, unavailable = dict(measures), {}
    source = source or ClipSource(name="frames")
    report = _measure(source, counter.counted(frames), open_measures, unavailable)
    return _summed_up([report], open_measures, unavailable)


class _Counter:
    """Reports frames over all clips."""

    def __init__(self, monitor: Monitor, total: int) -> None:
        self._monitor, self._total, self._done = monitor, total, 0

    def counted(
        self, frames: Iterable[tuple[Picture, Picture | None]]
    ) -> Iterator[tuple[Picture, Picture | None]]:
        for pair in frames:
            self._monitor.raise_if_cancelled()
            yield pair
            self._done += 1
            total = max(self._total, self._done)  # a video may hold more than it announces
            self._monitor.update(Progress(stage="measuring", done=self._done, total=total))


def _measure(
    source: ClipSource,
    frames: Iterable[tuple[Picture, Picture | None]],
    measures: dict[str, Measure],
    unavailable: dict[str, str],
) -> ClipReport:
    for name in list(measures):
        try:
            measures[name].begin(source)
        except MetricUnavailableError as error:
            unavailable[name] = str(error)
            del measures[name]
    count, size = 0, (0, 0)
    for generated, target in frames:
        for measure in measures.values():
            measure.add(generated, target)
        count, size = count + 1, generated.shape[:2]
    if not count:
        raise MediaError(f"The clip {source.name} has no frames to compare; at least 1 is needed.")
    results = {name: measure.end() for name, measure in measures.items()}
    return ClipReport(
        source=source, num_frames=count, width=size[1], height=size[0], results=results
    )


def _summed_up(
    reports: list[ClipReport], measures: Mapping[str, Measure], unavailable: dict[str, str]
) -> Evaluation:
    means: dict[str, MeanInterval] = {}
    reasons = dict(unavailable)
    for name, measure in measures.items():
        pooled = measure.pooled()
        if pooled is None:
            results = [report.results[name] for report in reports]
            mean = mean_with_interval(result.value for result in results)
            reason = next((r.reason for r in results if r.reason), "")
        else:
            mean, reason = mean_with_interval([pooled.value]), pooled.reason
        if math.isnan(mean.mean):
            reasons[name] = reason
        else:
            means[name] = mean
    return Evaluation(clips=tuple(reports), means=means, not_computed=reasons)
