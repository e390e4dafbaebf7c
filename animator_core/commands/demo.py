"""The command `demo`: a drawn person, a drawn motion, the small model, every stage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..config import SamplingConfig
from ..console import Console
from ..demo.character import draw_character
from ..demo.identity import Character
from ..demo.model import DEMO_NOTICE, DEMO_SIZE, demo_face_embedding, load_demo_models
from ..demo.motion import dance_motion, standing_pose
from ..driving import DrivingMotion
from ..errors import ConfigError
from ..frames import picture_to_uint8
from ..interfaces import resolve_dtype
from ..pipeline import AnimationRequest, Animator
from ..pose.drawing import draw_pose
from ..pose.keypoints import PoseSequence
from ..video import VideoWriter
from .animate import describe_times
from .models import make_devices
from .output import check_writable, save_picture

__all__ = ["run_demo"]

Picture = NDArray[np.uint8]

DEMO_FPS = 8
_CANVAS = 512  # of the motion [px]
_PANEL = 256  # side of one picture in the video [px]
_MARGIN = 8
_LINE = 26  # height of a line of text [px]
_PAPER, _TEXT, _WARNING = (250, 248, 244), (52, 46, 50), (176, 40, 40)
_TITLES = ("reference picture", "driving motion", "model output")
_CAPTION = "UNTRAINED model with random weights: its output is noise"
_SHEET_COLUMNS = 6


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """What the finished video shows in one frame, each [_PANEL, _PANEL, 3]."""

    reference: Picture
    skeleton: Picture
    output: Picture

    def panels(self) -> tuple[Picture, Picture, Picture]:
        return self.reference, self.skeleton, self.output


def run_demo(args: Any, console: Console) -> int:
    """Run every stage on what the pack draws itself; write the video and a contact sheet.

    Raises:
        AnimatorError: If a setting is out of range, or the files cannot be written.
    """
    output = Path(args.output)
    if not output.suffix:
        raise ConfigError(f"{args.output} has no suffix; name a video file such as demo.mp4.")
    sheet = output.with_name(f"{output.stem}_sheet.png")
    sampling = SamplingConfig(steps=args.steps, seed=args.seed)
    if args.frames < 1:
        raise ConfigError(f"{args.frames} frames are asked for; ask for at least 1.")
    check_writable(output)
    writer = VideoWriter(output, DEMO_FPS)
    console.say(DEMO_NOTICE)

    character = Character()
    with console.stage("drawing"):
        reference = draw_character(
            character, standing_pose(character, _CANVAS, _CANVAS), _CANVAS, _CANVAS
        )
        poses = dance_motion(
            character, args.frames, DEMO_FPS, width=_CANVAS, height=_CANVAS, seed=args.seed
        )
    devices = make_devices(args.device)
    with console.stage("loading the model"):
        models = load_demo_models(resolve_dtype("auto", devices.device))
    request = AnimationRequest(
        reference=reference,
        motion=DrivingMotion(poses=poses),
        face_embedding=demo_face_embedding(),
        size=DEMO_SIZE,
        sampling=sampling,
    )
    animator = Animator(models, devices, console)
    console.start_clock()
    latents = animator.sample(request)
    kept: list[_Shown] = []
    columns = set(np.linspace(0, args.frames - 1, _SHEET_COLUMNS).round().astype(int).tolist())
    with writer:
        outputs = (frame for chunk in animator.decode(latents) for frame in picture_to_uint8(chunk))
        for index, shown in enumerate(_shown(reference, poses, outputs)):
            writer.write(np.asarray(_compose(shown)))
            if index in columns:
                kept.append(shown)
        save_picture(_sheet(kept), sheet)
    console.say(f"{output} and {sheet}: {writer.num_frames} frames; {describe_times(console)}")
    return 0


def _shown(reference: Picture, poses: PoseSequence, outputs: Iterator[Picture]) -> Iterator[_Shown]:
    still = _panel(reference)
    for pose, output in zip(poses, outputs, strict=True):
        skeleton = draw_pose(pose, _PANEL, _PANEL, "fast")
        yield _Shown(reference=still, skeleton=skeleton, output=_panel(output))


def _panel(picture: Picture) -> Picture:
    image = Image.fromarray(picture)
    return np.asarray(image.resize((_PANEL, _PANEL), Image.Resampling.LANCZOS))


def _column(index: int) -> int:
    return _MARGIN + index * (_PANEL + _MARGIN)


def _compose(shown: _Shown) -> Image.Image:
    """Three pictures side by side, with their titles above and the caption below."""
    page = Image.new("RGB", (_column(3), 2 * _LINE + _PANEL), _PAPER)
    for index, (picture, title) in enumerate(zip(shown.panels(), _TITLES, strict=True)):
        page.paste(Image.fromarray(picture), (_column(index), _LINE))
        _write(page, title, (_column(index) + _PANEL / 2, _LINE / 2), _TEXT)
    _write(page, _CAPTION, (page.width / 2, page.height - _LINE / 2), _WARNING)
    return page


def _sheet(kept: list[_Shown]) -> Image.Image:
    """Frames from left to right, one row for each kind of picture."""
    row = _PANEL + _LINE
    page = Image.new("RGB", (_column(len(kept)), 3 * row + _LINE), _PAPER)
    for line, title in enumerate(_TITLES):
        _write(page, title, (_column(0) + _PANEL / 2, line * row + _LINE / 2), _TEXT)
        for index, shown in enumerate(kept if line else kept[:1]):
            page.paste(Image.fromarray(shown.panels()[line]), (_column(index), line * row + _LINE))
    _write(page, _CAPTION, (page.width / 2, page.height - _LINE / 2), _WARNING)
    return page


def _write(
    page: Image.Image, text: str, center: tuple[float, float], color: tuple[int, int, int]
) -> None:
    font = ImageFont.load_default(size=15)
    ImageDraw.Draw(page).text(center, text, fill=color, font=font, anchor="mm")
