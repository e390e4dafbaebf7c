"""Small inputs and option lists for the tests of the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from animator_core.cli import main
from animator_core.demo.identity import Character
from animator_core.demo.motion import dance_motion, standing_pose
from animator_core.pose.keypoints import save_pose_file
from animator_core.video import write_video

SIZE = 32


def write_inputs(folder: Path) -> Path:
    person = Character()
    save_pose_file(dance_motion(person, 6, 8, width=96, height=96, seed=1), folder / "poses.json")
    save_pose_file([standing_pose(person, 80, 60)], folder / "reference.json")
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "person.png")
    skeletons = [np.full((48, 64, 3), 40 * i, np.uint8) for i in range(5)]
    write_video(folder / "skeleton.mp4", skeletons, 12)
    write_video(folder / "skeletons", skeletons, 12)
    return folder


def animate_options(inputs: Path, model: Path, output: Path, **changes: object) -> list[str]:
    options: dict[str, object] = {
        "reference": inputs / "person.png",
        "poses": inputs / "poses.json",
        "output": output,
        "model": model,
        "width": SIZE,
        "height": SIZE,
        "frames": 3,
        "steps": 1,
        "window": 2,
        "overlap": 1,
        "device": "cpu",
    }
    options |= changes
    words = ["animate", "--quiet"]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    return words


def assert_fails(words: list[str], capsys, *expected: str, code: int = 1) -> None:
    assert main(words) == code
    message = capsys.readouterr().err
    assert "Traceback" not in message
    for part in expected:
        assert part in message
