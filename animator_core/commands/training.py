"""Commands that train networks, and that prepare what they are trained on."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from ..console import Console
from ..errors import CancelledError, ConfigError
from ..interfaces import Monitor, Progress
from .poses import network_paths

__all__ = ["run_encode_clips", "run_prepare_data", "run_train", "run_train_aligner"]

_TASKS: Mapping[str, tuple[str, str]] = {
    "animation": ("animation_run", "train_animation"),
    "vae": ("vae", "TASK"),
    "decoder": ("decoder", "TASK"),
    "family": ("family", "gather_family"),
    "recogniser": ("recogniser", "TASK"),
    "image_encoder": ("image_encoder", "TASK"),
    "face_detector": ("detectors_face", "TASK"),
    "person_detector": ("detectors_person", "TASK"),
    "pose_detector": ("detectors_pose", "TASK"),
}
"""`task` of a settings file → module in `training`, imported when asked for, and what runs it."""


class _StopAfter:
    """Cancels a training at a step; it saves and can be resumed.

    Args:
        monitor: Sees everything.
        step: The step, or None for never.
    """

    def __init__(self, monitor: Monitor, step: int | None) -> None:
        self._monitor = monitor
        self._step = step
        self.reached = False

    def update(self, progress: Progress) -> None:
        """Take one report."""
        self._monitor.update(progress)
        if progress.stage == "training" and self._step is not None:
            self.reached = progress.done >= self._step

    def raise_if_cancelled(self) -> None:
        """Raise if the user asked to stop, or the step is reached."""
        self._monitor.raise_if_cancelled()
        if self.reached:
            raise CancelledError(f"Stopped after step {self._step}, as asked.")


def _read(path: str) -> tuple[str, dict[str, Any]]:
    """Task and settings of a file.

    Raises:
        ConfigError: If it cannot be read, or its task is not known.
    """
    from ..training.settings import read_toml

    content = read_toml(path)
    task = content.pop("task", None)
    if task not in _TASKS:
        raise ConfigError(
            f"The task of {path} is {task!r}; write `task = ` with one of {', '.join(_TASKS)}."
        )
    return task, content


def run_train(args: Any, console: Console) -> int:
    """Train a network as a settings file says; goes on where it stopped.

    Raises:
        ConfigError: If the settings cannot be read.
    """
    task, content = _read(args.config)
    module, name = _TASKS[task]
    train = getattr(importlib.import_module(f"..training.{module}", __package__), name)
    monitor = _StopAfter(console, args.stop_after)
    try:
        folder = train(content, args.config, monitor)
    except CancelledError:
        if not monitor.reached:
            raise
        console.say(f"Stopped after step {args.stop_after}; run the same command to go on.")
        return 0
    console.result(str(folder))
    return 0


def run_encode_clips(args: Any, console: Console) -> int:
    """Encode the drawn clips of an animation training.

    Raises:
        ConfigError: If the settings are not those of such a training.
    """
    from ..training.animation_run import encode_training_clips

    task, content = _read(args.config)
    if task != "animation":
        raise ConfigError(f"{args.config} has the task {task}; encode-clips needs animation.")
    folder = encode_training_clips(content, args.config, part=_part(args.part), monitor=console)
    console.result(folder)
    return 0


def run_prepare_data(args: Any, console: Console) -> int:
    """Make training data in the published layout from videos.

    Raises:
        AnimatorError: If networks are missing, or no video could be used.
    """
    from ..faces.analysis import FaceAnalyzer, find_antelope_files
    from ..pose.extraction import PoseExtractor
    from ..training.preparation import PreparationConfig, VideoPreparer, prepare_videos

    config = PreparationConfig(
        output=args.output, max_frames=args.frames, least_seen=args.least_seen
    )
    detector, pose_model = network_paths(args)
    preparer = VideoPreparer(
        config,
        PoseExtractor(detector, pose_model),
        FaceAnalyzer(find_antelope_files(args.faces or args.models)),
    )
    report = prepare_videos(args.videos, preparer, console)
    for video, reason in report.skipped.items():
        console.complain(f"skipped {video}: {reason}")
    console.say(
        f"{args.output}: {report.made} videos prepared, {report.known} were there already, "
        f"{len(report.skipped)} skipped"
    )
    return 0


def _part(text: str) -> tuple[int, int]:
    try:
        index, count = (int(word) for word in text.split("/"))
    except ValueError:
        index, count = -1, 0
    if not 0 <= index < count:
        raise ConfigError(f"--part is {text!r}; give I/N with I from 0 to N - 1, such as 0/2.")
    return index, count


def run_train_aligner(args: Any, console: Console) -> int:
    """Train the pose aligner as a settings file says; goes on where it stopped.

    Raises:
        ConfigError: If the settings cannot be read.
    """
    from ..training.aligner import load_training_config, train

    path = train(load_training_config(args.config), monitor=console)
    console.result(str(path))
    return 0
