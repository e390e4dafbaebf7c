"""The commands `demo` and `gallery`: drawn people, drawn motions, the built-in model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..console import Console
from ..demo.model import DEMO_STEPS
from ..errors import ConfigError
from ..evaluation.misalign import Misalignment
from ..pose.drawing import draw_pose
from ..training.drawn_clips import DrawnClipConfig
from ..video import VideoWriter
from ..writing import write_text
from .animate import describe_times
from .models import make_devices
from .output import check_writable, save_picture
from .panels import PANEL_PX, Picture, Row, panel, row_of_panels, sheet_of_rows
from .showcase import Performed, Scene, Theatre, stage

__all__ = ["demo_scene", "gallery_scenes", "run_demo", "run_gallery"]

DEMO_NUMBER, FACE_NUMBER, LONG_NUMBER, PAIR_NUMBER, ANIMAL_NUMBER = 5, 13, 12, 6, 8
"""Held-out clips of the scenes: chosen by what they show, before anything was generated."""

_LONG_FRAMES = 96
_SHEET_COLUMNS = 6
_WHOLE_BODIES = DrawnClipConfig(pairs=0.0, close_ups=0.0, half_bodies=1.0)


def demo_scene(frames: int, seed: int) -> Scene:
    """A held-out character and a held-out motion that does not fit it.

    Args:
        frames: Length.
        seed: Of the noise.
    """
    size = _WHOLE_BODIES.width
    return Scene(
        name="demo",
        title="a motion that does not fit, aligned",
        number=DEMO_NUMBER,
        data=replace(_WHOLE_BODIES, frames=frames),
        misalignment=Misalignment(
            angle_deg=14.0,
            scale=0.72,
            shift_px=(0.14 * size, -0.08 * size),
            centre_px=(size / 2, size / 2),
        ),
        seed=seed,
    )


def gallery_scenes(frames: int, seed: int) -> tuple[Scene, ...]:
    """What the demo leaves out: each part on and off, a long clip, two people, an animal.

    Args:
        frames: Length of all but the long one.
        seed: Of the noise.
    """
    misaligned = demo_scene(frames, seed)
    face = Scene(
        name="adapter_on",
        title="ID adapter on",
        number=FACE_NUMBER,
        data=DrawnClipConfig(frames=frames, pairs=0.0, close_ups=1.0, half_bodies=0.0),
        seed=seed,
    )
    return (
        replace(misaligned, name="unaligned", title="a motion that does not fit", aligned=False),
        replace(misaligned, name="aligned", title="the same, aligned"),
        replace(face, name="adapter_off", title="ID adapter off", identity="off"),
        face,
        replace(face, name="refined", title="ID adapter and HJB refinement", refine_iterations=3),
        Scene(
            name="long",
            title="96 frames in overlapping windows",
            number=LONG_NUMBER,
            data=replace(_WHOLE_BODIES, frames=_LONG_FRAMES),
            seed=seed,
        ),
        Scene(
            name="two_people",
            title="two people, each with its own face",
            number=PAIR_NUMBER,
            data=DrawnClipConfig(frames=frames, pairs=1.0, close_ups=0.0, half_bodies=1.0),
            seed=seed,
        ),
        Scene(
            name="animal",
            title="an animal",
            number=ANIMAL_NUMBER,
            data=replace(_WHOLE_BODIES, frames=frames),
            seed=seed,
        ),
    )


def run_demo(args: Any, console: Console) -> int:
    """Animate a drawn person by a drawn motion; write the video and a contact sheet.

    Raises:
        AnimatorError: If a setting is out of range, or the files cannot be written.
    """
    output = Path(args.output)
    if not output.suffix:
        raise ConfigError(f"{args.output} has no suffix; name a video file such as demo.mp4.")
    if args.frames < 1:
        raise ConfigError(f"{args.frames} frames are asked for; ask for at least 1.")
    sheet = output.with_name(f"{output.stem}_sheet.png")
    check_writable(output)
    theatre = _open_theatre(args, console)
    performed = _performed(theatre, demo_scene(args.frames, args.seed), args, console)
    _write_video(performed, output)
    save_picture(sheet_of_rows(_rows(performed)), sheet)
    console.say(f"{output} and {sheet}: {performed.caption}; {describe_times(console)}")
    return 0


def run_gallery(args: Any, console: Console) -> int:
    """Animate every scene; write the videos, one sheet with all of them, and their figures.

    Raises:
        AnimatorError: If a setting is out of range, or the files cannot be written.
    """
    folder = Path(args.output)
    check_writable(folder / "gallery.png")
    if args.frames < 1:
        raise ConfigError(f"{args.frames} frames are asked for; ask for at least 1.")
    folder.mkdir(parents=True, exist_ok=True)
    theatre = _open_theatre(args, console)
    rows: list[Row] = []
    figures: dict[str, Any] = {}
    for scene in gallery_scenes(args.frames, args.seed):
        console.say(scene.title)
        performed = _performed(theatre, scene, args, console)
        _write_video(performed, folder / f"{scene.name}.mp4")
        rows += _rows(performed)[-1:]
        figures[scene.name] = {
            "title": scene.title,
            "csim": [round(curve.mean, 4) for curve in performed.similarity],
            "psnr_db": round(performed.psnr.mean, 2),
        }
    save_picture(sheet_of_rows(rows), folder / "gallery.png")
    write_text(json.dumps(figures, indent=2) + "\n", folder / "gallery.json")
    console.say(f"{folder}: {len(rows)} videos, gallery.png, gallery.json")
    return 0


def _open_theatre(args: Any, console: Console) -> Theatre:
    with console.stage("loading the model"):
        return Theatre(console, make_devices(args.device))


def _performed(theatre: Theatre, scene: Scene, args: Any, console: Console) -> Performed:
    with console.stage("drawing and aligning"):
        staged = stage(scene)
    console.start_clock()
    return theatre.perform(staged, DEMO_STEPS if args.steps is None else args.steps)


def _write_video(performed: Performed, path: Path) -> None:
    staged = performed.staged
    titles = ["reference picture", "driving motion", "output"]
    if staged.scene.misalignment is not None and staged.scene.aligned:
        titles.insert(2, "aligned motion")
    reference = panel(staged.clip.reference)
    with VideoWriter(path, staged.scene.data.fps) as writer:
        for driving, pose, frame in zip(
            staged.driving, staged.poses, performed.frames, strict=True
        ):
            shown = [reference, draw_pose(driving, PANEL_PX, PANEL_PX, "fast"), panel(frame)]
            if len(titles) > len(shown):
                shown.insert(2, draw_pose(pose, PANEL_PX, PANEL_PX, "fast"))
            writer.write(row_of_panels(shown, titles, performed.caption))


def _rows(performed: Performed) -> list[Row]:
    """Sheet rows: the motion, what drives the model, the drawn truth, the output."""
    staged = performed.staged
    total = len(performed.frames)
    columns = np.linspace(0, total - 1, min(_SHEET_COLUMNS, total)).round().astype(int)
    reference = panel(staged.clip.reference)

    def skeletons(poses: Any) -> list[Picture]:
        return [draw_pose(poses[i], PANEL_PX, PANEL_PX, "fast") for i in columns]

    outputs = [panel(performed.frames[i]) for i in columns]
    truth = [panel(staged.clip.frames[i]) for i in columns]
    return [
        Row(
            title="reference picture, driving motion",
            pictures=[reference, *skeletons(staged.driving)],
        ),
        Row(title="what drives the model", pictures=[reference, *skeletons(staged.poses)]),
        Row(title="as it was drawn, which the model never saw", pictures=[reference, *truth]),
        Row(
            title=f"{staged.scene.title}: {performed.caption}",
            pictures=[reference, *outputs],
        ),
    ]
