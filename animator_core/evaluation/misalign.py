"""MisAlign-style test pairs: driving motions that do not fit the reference."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, MediaError, NoPoseError
from ..pose.interchange import holds_keypoints, load_poses
from ..pose.keypoints import FramePose, PoseSequence, map_points, save_pose_file
from ..writing import write_text
from .clips import holds_pictures, list_clips

__all__ = [
    "PROTOCOL",
    "MisalignConfig",
    "Misalignment",
    "list_motions",
    "misalign",
    "random_misalignment",
    "write_pairs",
]

PROTOCOL = (
    "Each sequence is turned, scaled and shifted once, about the middle of its canvas: angle "
    "uniform, scale log-uniform, shift uniform in x and y. The original poses are the truth that "
    "an alignment should bring back. MisAlign100 itself was not published; the ranges are ours."
)


@dataclass(frozen=True, kw_only=True)
class MisalignConfig:
    """Ranges of the random transforms.

    Attributes:
        rotation_deg: Largest turn to either side.
        scale: Least and largest factor.
        shift: Largest shift, as a share of the canvas's width and height.
        seed: Of all sequences; each one also depends on its own name, and on nothing else.
    """

    rotation_deg: float = 30.0
    scale: tuple[float, float] = (0.4, 2.5)
    shift: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ConfigError(
                f"Scales range from {self.scale[0]} to {self.scale[1]}; positive numbers in "
                "ascending order are expected."
            )
        if self.seed < 0:
            raise ConfigError(f"The seed is {self.seed} but must be 0 or more.")


@dataclass(frozen=True, kw_only=True)
class Misalignment:
    """A similarity: `p -> scale * rotation(angle) @ (p - centre) + centre + shift`.

    Attributes:
        angle_deg: Turn, clockwise on the screen (y points down).
        scale: Factor.
        shift_px: x and y.
        centre_px: What is turned and scaled about: the middle of the canvas.
    """

    angle_deg: float
    scale: float
    shift_px: tuple[float, float]
    centre_px: tuple[float, float]

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The linear part, [2, 2]."""
        cos, sin = (f(math.radians(self.angle_deg)) for f in (math.cos, math.sin))
        return self.scale * np.array([[cos, -sin], [sin, cos]])

    @property
    def offset_px(self) -> NDArray[np.float64]:
        """Where the origin goes, [2]."""
        centre = np.array(self.centre_px)
        return centre + np.array(self.shift_px) - self.matrix @ centre


def random_misalignment(
    name: str, width: int, height: int, config: MisalignConfig | None = None
) -> Misalignment:
    """The transform of a sequence; the same for the same name, canvas and seed.

    Args:
        name: Of the sequence.
        width: Of its canvas [px].
        height: Of its canvas [px].
        config: Ranges and seed.
    """
    config = config or MisalignConfig()
    rng = np.random.default_rng([config.seed, zlib.crc32(name.encode())])
    angle, x, y = rng.uniform(-1, 1, 3)
    scale = math.exp(rng.uniform(math.log(config.scale[0]), math.log(config.scale[1])))
    return Misalignment(
        angle_deg=float(angle) * config.rotation_deg,
        scale=scale,
        shift_px=(float(x) * config.shift * width, float(y) * config.shift * height),
        centre_px=(width / 2, height / 2),
    )


def misalign(frames: PoseSequence, transform: Misalignment) -> list[FramePose]:
    """A sequence under a transform; its canvas stays, joints may leave it.

    Args:
        frames: Poses of one canvas size.
        transform: What to do.
    """
    return [
        replace(
            frame,
            people=tuple(
                map_points(person, transform.matrix, transform.offset_px) for person in frame.people
            ),
        )
        for frame in frames
    ]


def list_motions(path: str | Path) -> dict[str, Path]:
    """Pose files, folders of OpenPose files and clips in a folder, by name.

    A file, or a folder of pictures, is a single motion.

    Where a clip and a pose file have one name, the poses are taken.

    Raises:
        MediaError: If there are none.
    """
    path = Path(path)
    if not path.exists():
        raise MediaError(f"There is no folder of clips or poses {path}.")
    if path.is_file():
        return {path.stem: path}
    if holds_pictures(path):
        return {path.name: path}
    found = list_clips(path)
    found |= {p.name: p for p in sorted(path.iterdir()) if p.is_dir() and holds_keypoints(p)}
    found |= {p.stem: p for p in sorted(path.glob("*.json"))}
    if not found:
        raise MediaError(
            f"{path} holds neither pose files (.json) nor clips; a folder with driving motions is "
            "expected."
        )
    return dict(sorted(found.items()))


def write_pairs(
    motions: dict[str, Path],
    output: str | Path,
    config: MisalignConfig,
    find_poses: Callable[[Path], Sequence[FramePose]],
) -> Path:
    """Write original and misaligned poses and the transforms.

    Args:
        motions: From `list_motions`.
        output: Folder; gets `original/NAME.json`, `misaligned/NAME.json`, `transforms.json`.
        config: Ranges and seed.
        find_poses: Finds poses in a clip.

    Returns:
        The file of transforms.

    Raises:
        MediaError: If poses cannot be read or written.
        NoPoseError: If a motion shows nobody.
    """
    output = Path(output)
    sequences: list[dict[str, Any]] = []
    for name, path in motions.items():
        keypoints = path.suffix.lower() == ".json" or (path.is_dir() and holds_keypoints(path))
        frames = list(load_poses(path) if keypoints else find_poses(path))
        if all(person.is_empty for frame in frames for person in frame.people):
            raise NoPoseError(f"Nobody is seen in {path}; leave this motion out.")
        transform = random_misalignment(name, frames[0].width, frames[0].height, config)
        for folder, poses in (("original", frames), ("misaligned", misalign(frames, transform))):
            (output / folder).mkdir(parents=True, exist_ok=True)
            save_pose_file(poses, output / folder / f"{name}.json")
        sequences.append(_entry(name, path, len(frames), transform))
    content = {
        "protocol": PROTOCOL,
        "seed": config.seed,
        "rotation_deg": config.rotation_deg,
        "scale": list(config.scale),
        "shift": config.shift,
        "sequences": sequences,
    }
    index = output / "transforms.json"
    write_text(json.dumps(content, indent=2) + "\n", index)
    return index


def _entry(name: str, path: Path, frames: int, transform: Misalignment) -> dict[str, Any]:
    return {
        "name": name,
        "source": path.name,
        "frames": frames,
        "angle_deg": transform.angle_deg,
        "scale": transform.scale,
        "shift_px": list(transform.shift_px),
        "centre_px": list(transform.centre_px),
        "matrix": transform.matrix.tolist(),
        "offset_px": transform.offset_px.tolist(),
    }
