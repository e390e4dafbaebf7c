"""The command `evaluate`: metrics of generated videos, and misaligned test pairs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from ..config import WindowConfig
from ..console import Console
from ..errors import ConfigError
from ..evaluation.clips import ReadConfig, find_pairs, with_companions
from ..evaluation.measures import ClipSource
from ..evaluation.registry import METRICS, Resources, open_measures
from ..evaluation.run import Evaluation, evaluate_clips
from ..pose.keypoints import FramePose, PoseSequence
from ..writing import write_text
from .models import make_devices
from .output import check_writable, save_picture

__all__ = ["run_evaluate"]

PosesOfClip = Callable[[Path], Sequence[FramePose]]


def run_evaluate(args: Any, console: Console) -> int:
    """Measure generated clips, or make misaligned test pairs.

    Raises:
        AnimatorError: If clips cannot be read or do not fit each other, or if none of the metrics
            that were asked for can be computed.
    """
    return _misalign(args, console) if args.protocol == "misalign" else _measure(args, console)


def _measure(args: Any, console: Console) -> int:
    output = Path(args.output)
    report = None if args.report is None else Path(args.report)
    names = _metric_names(args.metrics)
    for path in (output, report):
        if path is not None:
            check_writable(path)
    pairs = with_companions(
        find_pairs(args.generated, args.target),
        identity=args.identity,
        driven_poses=args.driven_poses,
        generated_poses=args.generated_poses,
    )
    reading = ReadConfig(resize=_size(args.resize), trim=args.trim)
    measures, reasons = open_measures(names, _resources(args, console))
    if not measures:
        raise _nothing_left(reasons)
    evaluation = _checked(evaluate_clips(pairs, measures, reading, console), reasons)
    _write(args, evaluation, reading)
    for name, mean in evaluation.means.items():
        console.result(f"{name}: {mean}")
    for name, reason in evaluation.not_computed.items():
        console.complain(f"WARNING: {name} is not computed: {reason}.")
    console.say(f"{output}: {len(pairs)} clip(s)")
    return 0


def _metric_names(text: str) -> list[str]:
    """Names of a list with commas, without repetitions.

    Raises:
        ConfigError: If one is unknown, or there is none.
    """
    names = list(dict.fromkeys(name.strip().lower() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in METRICS]
    if unknown or not names:
        raise ConfigError(
            f"--metrics {text}: {', '.join(unknown) or 'nothing'} is no metric; use some of "
            f"{', '.join(METRICS)}, separated by commas."
        )
    return names


def _checked(evaluation: Evaluation, reasons: dict[str, str]) -> Evaluation:
    """The evaluation with all reasons.

    Raises:
        ConfigError: If nothing could be computed.
    """
    not_computed = reasons | dict(evaluation.not_computed)
    if not evaluation.means:
        raise _nothing_left(not_computed)
    return Evaluation(clips=evaluation.clips, means=evaluation.means, not_computed=not_computed)


def _nothing_left(reasons: dict[str, str]) -> ConfigError:
    listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    return ConfigError(f"None of the metrics asked for can be computed. {listed}.")


def _size(text: str | None) -> tuple[int, int] | Literal["target"] | None:
    if text is None or text == "target":
        return text
    sides = re.fullmatch(r"(\d+)x(\d+)", text)
    if sides is None:
        raise ConfigError(f"--resize {text} is no size; use 'target', or such as 256x256.")
    return int(sides[1]), int(sides[2])


def _resources(args: Any, console: Console) -> Resources:
    weights = None if args.metric_weights is None else Path(args.metric_weights)
    if weights is not None and not weights.is_dir():
        raise ConfigError(f"--metric-weights {weights} is no folder; name one with weight files.")
    faces = [Path(args.faces)] if args.faces else [p for p in (weights, Path(args.models)) if p]
    find = _pose_finder(args, console)
    cached: dict[Path, Sequence[FramePose]] = {}

    def find_poses(source: ClipSource, generated: bool) -> PoseSequence:
        path = source.generated if generated else source.target
        assert find is not None
        assert path is not None
        if path not in cached:
            cached[path] = find(path)
        return cached[path]

    return Resources(
        weights_folder=weights,
        face_folders=faces,
        device=make_devices(args.device).device,
        windows=WindowConfig(frames=args.window, overlap=args.overlap, anchor=args.anchor),
        find_poses=None if find is None else find_poses,
    )


def _pose_finder(args: Any, console: Console) -> PosesOfClip | None:
    """Finds the poses in a clip with the networks of `--models`; None if they are not there."""
    from ..checkpoints.manifest import ONNX_FILES

    paths: list[Path] = []
    for group, name, places in ONNX_FILES:
        if group == "dwpose":
            found = [Path(args.models) / place / name for place in places]
            paths += [path for path in found if path.is_file()][:1]
    if len(paths) != 2:
        return None

    from ..pose.extraction import ExtractionConfig, PoseExtractor
    from ..video import read_frames

    opened: list[PoseExtractor] = []

    def find(clip: Path) -> Sequence[FramePose]:
        if not opened:  # only where a clip has no pose file
            opened.append(PoseExtractor(paths[0], paths[1]))
        return opened[0].extract(read_frames(clip), ExtractionConfig(people="all"), console)

    return find


def _write(args: Any, evaluation: Evaluation, reading: ReadConfig) -> None:
    from ..evaluation.report import as_json, as_markdown
    from ..evaluation.strip import picture_strip

    settings = {
        name: getattr(args, name)
        for name in ("generated", "target", "identity", "metrics", "resize", "trim")
    }
    if args.report is not None:
        report = Path(args.report)
        strip = report.with_name(f"{report.stem}_strip.png")
        picture = picture_strip(evaluation.clips, reading)
        write_text(as_markdown(evaluation, strip.name), report)
        save_picture(picture, strip)
    write_text(as_json(evaluation, settings), Path(args.output))


def _misalign(args: Any, console: Console) -> int:
    from ..evaluation.misalign import MisalignConfig, list_motions, write_pairs

    config = MisalignConfig(seed=args.seed)
    motions = list_motions(args.input)
    check_writable(Path(args.output) / "transforms.json")
    finder = _pose_finder(args, console)

    def find(clip: Path) -> Sequence[FramePose]:
        if finder is None:
            raise ConfigError(
                f"{clip} holds no keypoints, and the networks that find them are not in "
                f"{args.models}; name a folder with DWPose/ in it with --models, or extract the "
                "poses first."
            )
        return finder(clip)

    index = write_pairs(motions, args.output, config, find)
    console.say(f"{index}: {len(motions)} misaligned motion(s)")
    return 0
