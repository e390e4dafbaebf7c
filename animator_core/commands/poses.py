"""Commands on poses alone: `draw-poses`, `align-poses` and `extract-poses`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..console import Console
from ..errors import ConfigError, NoPoseError
from ..interfaces import Progress
from ..pose.interchange import load_poses
from ..pose.keypoints import PoseSequence, save_pose_file
from .output import check_writable

__all__ = ["network_paths", "run_align_poses", "run_draw_poses", "run_extract_poses"]

_CHUNK = 16


def run_draw_poses(args: Any, console: Console) -> int:
    """Draw keypoints as skeleton pictures.

    Raises:
        AnimatorError: If the poses cannot be read, or the pictures not written.
    """
    from ..pose.drawing import draw_poses
    from ..video import VideoWriter

    frames = load_poses(args.poses)
    if not frames:
        raise NoPoseError(f"{args.poses} holds no frame; there is nothing to draw.")
    width, height = _drawing_size(frames, args.width, args.height)
    check_writable(args.output)
    with VideoWriter(args.output, args.fps) as writer:
        for start in range(0, len(frames), _CHUNK):
            console.raise_if_cancelled()
            for picture in draw_poses(frames[start : start + _CHUNK], width, height, args.mode):
                writer.write(picture)
            done = writer.num_frames
            console.update(Progress(stage="drawing poses", done=done, total=len(frames)))
    console.say(f"{args.output}: {writer.num_frames} frames of {width}x{height} px")
    return 0


def _drawing_size(frames: PoseSequence, width: int | None, height: int | None) -> tuple[int, int]:
    """The size asked for; a side that was not given follows from the canvas."""
    canvas = frames[0]
    if width is None and height is None:
        return canvas.width, canvas.height
    if width is None:
        return max(round(canvas.width * (height or 0) / canvas.height), 1), height or 0
    return width, max(round(canvas.height * width / canvas.width), 1) if height is None else height


def run_align_poses(args: Any, console: Console) -> int:
    """Align driving poses to the reference's; prints the transform as JSON.

    Raises:
        AnimatorError: If poses cannot be read or share nothing to align by.
    """
    from ..pose.alignment import AlignmentConfig, align

    config = AlignmentConfig(method=args.method) if args.method else AlignmentConfig()
    reference, driving = load_poses(args.reference), load_poses(args.driving)
    if not reference:
        raise NoPoseError(f"{args.reference} holds no frame; the reference's pose is needed.")
    check_writable(args.output)
    aligned = align(driving, reference[0], config)
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    save_pose_file(aligned.frames, args.output)
    console.result(json.dumps(aligned.as_dict(), indent=2))
    return 0


def run_extract_poses(args: Any, console: Console) -> int:
    """Find the poses of the people in a video or picture.

    Raises:
        AnimatorError: If the networks or the video cannot be read.
    """
    from ..pose.extraction import ExtractionConfig, PoseExtractor
    from ..video import read_frames

    config = ExtractionConfig(people=_people(args.people), confidence=args.confidence)
    check_writable(args.output)
    detector, pose_model = network_paths(args)
    extractor = PoseExtractor(detector, pose_model)
    console.say(f"Running on {' and '.join(extractor.providers)}")
    frames = extractor.extract(read_frames(args.input, args.frames or None), config, console)
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    save_pose_file(frames, args.output)
    seen = sum(any(not p.is_empty for p in frame.people) for frame in frames)
    console.say(f"{args.output}: {len(frames)} frames, people in {seen} of them")
    return 0


def _people(choice: str) -> Any:
    return int(choice) if choice.isdecimal() else choice


def network_paths(args: Any) -> tuple[Path, Path]:
    """Detector and pose network: named, or found in the models folder."""
    from ..checkpoints.manifest import ONNX_FILES

    found: list[Path] = []
    known = [(name, places) for group, name, places in ONNX_FILES if group == "dwpose"]
    for given, (name, places) in zip((args.detector, args.pose_model), known, strict=True):
        if given is not None:
            found.append(Path(given))
            continue
        paths = [Path(args.models) / place / name for place in places]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            raise ConfigError(
                f"{name} is not at {paths[0]}; `python -m animator_core download --components "
                "dwpose` fetches it, or name the file with --detector and --pose-model."
            )
        found.append(path)
    return found[0], found[1]
