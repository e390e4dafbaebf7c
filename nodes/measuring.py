"""Between ComfyUI's socket values and the core's metrics."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..animator_core.errors import ConfigError, ShapeError
from ..animator_core.evaluation.clips import resize_picture
from ..animator_core.evaluation.csim import CsimMeasure
from ..animator_core.evaluation.curves import draw_metric_curves
from ..animator_core.evaluation.measures import Measure
from ..animator_core.evaluation.pose_error import PoseMeasure
from ..animator_core.evaluation.regions import Picture
from ..animator_core.evaluation.registry import Resources, open_measures
from ..animator_core.evaluation.report import as_json
from ..animator_core.evaluation.run import Evaluation, evaluate_frames
from .face_translation import open_analyzer
from .translation import Uint8Frames, driving_frames

if TYPE_CHECKING:
    from ..animator_core.interfaces import Monitor
    from .types import Identity

__all__ = ["SHOWN", "MetricInputs", "face_measure", "measure_frames"]

SHOWN = ("l1", "psnr", "ssim", "csim", "pose_error")
"""Metrics with an output of their own, in the outputs' order."""

_PIXELS = ("l1", "psnr", "ssim")
_PUBLISHED = ("l1_published", "psnr_published", "ssim_published")


@dataclass(frozen=True, kw_only=True)
class MetricInputs:
    """What is connected.

    Attributes:
        images: Generated IMAGE batch.
        target: IMAGE batch to compare with.
        csim: Compares faces with the identity.
        generated_poses: POSE_KEYPOINT of the generated frames.
        driven_poses: POSE_KEYPOINT that they should follow.
        published: Also measure as the published tables do.
        resize: Stretch generated frames to the target's size.
        trim: Compare the frames that both have.
    """

    images: Tensor
    target: Tensor | None = None
    csim: CsimMeasure | None = None
    generated_poses: Any = None
    driven_poses: Any = None
    published: bool = False
    resize: bool = False
    trim: bool = False


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the node gives out.

    Attributes:
        report: JSON.
        curve: IMAGE of the metrics over time.
        values: One per name of `SHOWN`; NaN where it was not measured.
        note: For the node's face.
    """

    report: str
    curve: Tensor
    values: tuple[float, ...]
    note: str


def face_measure(identity: Identity | None, threshold: float) -> CsimMeasure | None:
    """CSIM against an identity; None without one, and then no network is opened.

    Args:
        identity: The face; the networks that encoded it are used.
        threshold: Least detection score, 0..1.
    """
    if identity is None:
        return None
    return CsimMeasure(open_analyzer(identity.family, threshold), identity.face_embedding.numpy())


def measure_frames(inputs: MetricInputs, monitor: Monitor) -> Measured:
    """Measure everything that the inputs allow.

    Raises:
        ConfigError: If nothing is connected that frames could be compared with.
        ShapeError: If sizes or lengths differ.
    """
    measures = _measures(inputs)
    num_frames = _common_length(inputs)
    evaluation = evaluate_frames(
        _pairs(inputs, num_frames), measures, num_frames=num_frames, monitor=monitor
    )
    found = {name: mean.mean for name, mean in evaluation.means.items()}
    curve = torch.from_numpy(draw_metric_curves(evaluation.clips[0].results).copy())
    return Measured(
        report=as_json(evaluation),
        curve=curve[None].float() / 255,
        values=tuple(found.get(name, math.nan) for name in SHOWN),
        note=_note(evaluation, found),
    )


def _measures(inputs: MetricInputs) -> dict[str, Measure]:
    names: list[str] = []
    if inputs.target is not None:
        names = [*_PIXELS, *(_PUBLISHED if inputs.published else ())]
    measures = open_measures(names, Resources())[0] if names else {}
    if inputs.csim is not None:
        measures["csim"] = inputs.csim
    if (inputs.generated_poses is None) != (inputs.driven_poses is None):
        raise ConfigError(
            "The pose error needs both generated_poses (from Extract Poses of the generated "
            "frames) and driven_poses; connect the other one too, or neither."
        )
    if inputs.generated_poses is not None:
        generated = driving_frames(inputs.generated_poses)
        driven = driving_frames(inputs.driven_poses)
        measures["pose_error"] = PoseMeasure(
            lambda _, of_generated: (driven, generated)[of_generated]
        )
    if not measures:
        raise ConfigError(
            "There is nothing to compare the frames with; connect target frames, an identity, or "
            "generated and driven poses."
        )
    return measures


def _common_length(inputs: MetricInputs) -> int:
    frames = len(inputs.images)
    if inputs.target is None or frames == len(inputs.target):
        return frames
    if not inputs.trim:
        raise ShapeError(
            f"There are {frames} generated frames but {len(inputs.target)} target frames; make "
            "them alike, or switch trim on to compare those that both have."
        )
    return min(frames, len(inputs.target))


def _pairs(inputs: MetricInputs, num_frames: int) -> Iterator[tuple[Picture, Picture | None]]:
    generated = Uint8Frames(inputs.images[:num_frames])
    if inputs.target is None:
        for frame in generated:
            yield frame, None
        return
    for frame, target in zip(generated, Uint8Frames(inputs.target[:num_frames]), strict=True):
        size = (target.shape[1], target.shape[0])
        yield resize_picture(frame, size) if inputs.resize else frame, target


def _note(evaluation: Evaluation, found: Mapping[str, float]) -> str:
    lines = [f"{name}: {value:.4g}" for name, value in found.items()]
    lines += [f"{name}: {reason}" for name, reason in evaluation.not_computed.items()]
    for name, result in evaluation.clips[0].results.items():
        lines += [f"{name}, {k.replace('_', ' ')}: {v:.3g}" for k, v in result.counts.items()]
    return "\n".join(lines)
