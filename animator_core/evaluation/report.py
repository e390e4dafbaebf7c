"""Evaluations as JSON and as Markdown."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .. import __version__
from .intervals import MeanInterval
from .measures import ClipResult
from .registry import METRICS
from .run import ClipReport, Evaluation

__all__ = ["as_json", "as_markdown"]

_PACKAGES = ("torch", "numpy", "torchmetrics", "scipy", "onnxruntime", "insightface", "av")


def as_json(evaluation: Evaluation, settings: Mapping[str, Any] | None = None) -> str:
    """The whole evaluation: per clip and frame, means, intervals, protocols, versions.

    Values that do not exist are null.

    Args:
        evaluation: From `evaluate_clips`.
        settings: What it was run with, to be kept beside it.
    """
    content = {
        "metrics": {name: _mean(mean) for name, mean in evaluation.means.items()},
        "not_computed": dict(evaluation.not_computed),
        "clips": [_clip(clip) for clip in evaluation.clips],
        "protocol": {name: METRICS[name].protocol for name in _names(evaluation)},
        "settings": dict(settings or {}),
        "versions": _versions(),
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _names(evaluation: Evaluation) -> list[str]:
    return [m for m in METRICS if m in evaluation.means or m in evaluation.not_computed]


def _number(value: float) -> float | None:
    return None if math.isnan(value) or math.isinf(value) else float(value)


def _mean(mean: MeanInterval) -> dict[str, Any]:
    interval = None if math.isnan(mean.low) else [_number(mean.low), _number(mean.high)]
    return {
        "mean": _number(mean.mean),
        "interval": interval,
        "level": mean.level,
        "values": mean.count,
    }


def _clip(clip: ClipReport) -> dict[str, Any]:
    return {
        "name": clip.source.name,
        "frames": clip.num_frames,
        "width": clip.width,
        "height": clip.height,
        "metrics": {name: _result(result) for name, result in clip.results.items()},
    }


def _result(result: ClipResult) -> dict[str, Any]:
    content: dict[str, Any] = {"mean": _number(result.value), **result.counts}
    if result.frames:
        content["per_frame"] = [_number(value) for value in result.frames]
    if result.reason:
        content["reason"] = result.reason
    return content


def _versions() -> dict[str, str]:
    found = {"stableanimator": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def as_markdown(evaluation: Evaluation, strip: str | None = None) -> str:
    """A table of means with intervals, one of clips, and the protocols.

    Args:
        evaluation: From `evaluate_clips`.
        strip: Path of the picture strip, relative to the document.
    """
    frames = sum(clip.num_frames for clip in evaluation.clips)
    lines = [
        "# Evaluation",
        "",
        f"{len(evaluation.clips)} clip(s), {frames} frames. Means over clips with 95 % intervals "
        "(Student's t), where there are several clips.",
        "",
    ]
    if strip:
        lines += [f"![Target and generated frames]({strip})", ""]
    lines += [
        "| Metric | Mean | Better | StableAnimator's tables: TikTok / Unseen100 |",
        "|---|---|---|---|",
    ]
    for name, mean in evaluation.means.items():
        info = METRICS[name]
        lines.append(f"| {name} | {mean} | {info.better} | {info.published} |")
    lines += [f"| {name} | not computed | | |" for name in evaluation.not_computed]
    if evaluation.not_computed:
        lines += ["", *(f"- {n}: not computed: {r}" for n, r in evaluation.not_computed.items())]
    if len(evaluation.clips) > 1:
        lines += ["", *_clip_table(evaluation)]
    lines += ["", "## Protocol", ""]
    lines += [f"- **{name}**: {METRICS[name].protocol}." for name in _names(evaluation)]
    lines += ["", "Versions: " + ", ".join(f"{k} {v}" for k, v in _versions().items()) + "."]
    return "\n".join(lines) + "\n"


def _clip_table(evaluation: Evaluation) -> Iterable[str]:
    first = evaluation.clips[0].results
    names = [n for n in evaluation.means if n in first and n != "fvd"]
    yield "| Clip | Frames | " + " | ".join(names) + " |"
    yield "|---|---|" + "---|" * len(names)
    for clip in evaluation.clips:
        values = [clip.results[name].value for name in names]
        cells = ["" if math.isnan(value) else f"{value:.4g}" for value in values]
        yield f"| {clip.source.name} | {clip.num_frames} | " + " | ".join(cells) + " |"
