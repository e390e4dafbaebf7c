"""Pairs of generated and target clips, read frame by frame."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from ..errors import ConfigError, MediaError
from ..video import PICTURE_SUFFIXES, probe, read_frames
from .measures import ClipSource
from .regions import Picture

__all__ = [
    "ReadConfig",
    "find_pairs",
    "holds_pictures",
    "list_clips",
    "read_pair",
    "resize_picture",
    "with_companions",
]

_logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".gif"})
_LISTED = 5


@dataclass(frozen=True, kw_only=True)
class ReadConfig:
    """How pairs of unequal size or length are treated.

    Attributes:
        resize: None refuses unequal sizes; "target" stretches generated frames to the target's
            size, as the published tables' script does; (width, height) stretches both.
        trim: Compare the frames that both have, instead of refusing unequal lengths.
    """

    resize: tuple[int, int] | Literal["target"] | None = None
    trim: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.resize, tuple) and min(self.resize) < 1:
            raise ConfigError(
                f"Frames are to be resized to {self.resize[0]}x{self.resize[1]} px; both sides "
                "must be at least 1."
            )


def _visible(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]


def holds_pictures(folder: Path) -> bool:
    """Whether a folder is a clip: pictures lie directly in it."""
    return any(file.suffix.lower() in PICTURE_SUFFIXES for file in _visible(folder))


def _is_one_clip(path: Path) -> bool:
    """Whether a path is a file, or a folder of pictures.

    Raises:
        MediaError: If it is missing, or a folder without anything in it that could be a clip.
    """
    if not path.exists():
        raise MediaError(f"There is no video, picture or folder {path}.")
    if path.is_file():
        return True
    if holds_pictures(path):
        return True
    if not list_clips(path):
        raise MediaError(
            f"The folder {path} holds no pictures, videos or folders of pictures; name a clip or "
            "a folder of clips."
        )
    return False


def list_clips(folder: Path) -> dict[str, Path]:
    """The videos and folders of pictures in a folder, by their names without suffix.

    Raises:
        MediaError: If two have the same name.
    """
    found: dict[str, Path] = {}
    for path in _visible(folder):
        if path.is_dir():
            usable, name = holds_pictures(path), path.name
        else:
            usable, name = path.suffix.lower() in VIDEO_SUFFIXES, path.stem
        if usable and name in found:
            raise MediaError(
                f"{folder} holds two clips named {name} ({found[name].name} and {path.name}); "
                "remove or rename one of them."
            )
        if usable:
            found[name] = path
    return found


def find_pairs(generated: str | Path, target: str | Path) -> list[ClipSource]:
    """Clips that belong together.

    Args:
        generated: A video, a picture, a folder of pictures, or a folder of such clips.
        target: The same kind of thing; clips of folders belong together by their names.

    Raises:
        MediaError: If one is missing or empty, or a generated clip has no target.
        ConfigError: If one is a clip and the other a folder of clips.
    """
    generated, target = Path(generated), Path(target)
    single = (_is_one_clip(generated), _is_one_clip(target))
    if single == (True, True):
        name = generated.stem if generated.is_file() else generated.name
        return [ClipSource(name=name, generated=generated, target=target)]
    if single != (False, False):
        one, many = (generated, target) if single[0] else (target, generated)
        raise ConfigError(
            f"{one} is one clip but {many} is a folder of clips; name two clips, or two folders."
        )
    clips, targets = list_clips(generated), list_clips(target)
    missing = [name for name in clips if name not in targets]
    if missing:
        raise MediaError(
            f"{len(missing)} of {len(clips)} clips in {generated} have no target of the same name "
            f"in {target}: {', '.join(missing[:_LISTED])}. Name clips and targets alike."
        )
    unused = [name for name in targets if name not in clips]
    if unused:
        _logger.warning(
            "%d of %d targets in %s have no generated clip and are left out: %s",
            len(unused),
            len(targets),
            target,
            ", ".join(unused[:_LISTED]),
        )
    return [
        ClipSource(name=name, generated=path, target=targets[name]) for name, path in clips.items()
    ]


def with_companions(
    pairs: list[ClipSource],
    *,
    identity: str | Path | None = None,
    driven_poses: str | Path | None = None,
    generated_poses: str | Path | None = None,
) -> list[ClipSource]:
    """Pairs together with their identity pictures and pose files.

    Args:
        pairs: From `find_pairs`.
        identity: Picture for all clips, or folder with a picture of each clip's name.
        driven_poses: For one clip a JSON file or a folder of OpenPose files; for several a folder
            with a JSON file or OpenPose folder of each clip's name.
        generated_poses: Likewise.

    Raises:
        MediaError: If something is missing.
    """
    found = pairs
    if identity is not None:
        path = Path(identity)
        found = [
            replace(p, identity=_by_name(path, p.name, PICTURE_SUFFIXES) if path.is_dir() else path)
            for p in found
        ]
    if driven_poses is not None:
        path = Path(driven_poses)
        found = [replace(p, driven_poses=_pose_path(path, p.name, len(pairs))) for p in found]
    if generated_poses is not None:
        path = Path(generated_poses)
        found = [replace(p, generated_poses=_pose_path(path, p.name, len(pairs))) for p in found]
    return found


def _pose_path(path: Path, name: str, num_pairs: int) -> Path:
    if num_pairs == 1 and not (path / f"{name}.json").is_file():
        return path
    if not path.is_dir():
        raise MediaError(
            f"{path} holds poses of one clip but there are {num_pairs}; name a folder with a "
            ".json file for each."
        )
    return path / name if (path / name).is_dir() else _by_name(path, name, frozenset({".json"}))


def _by_name(folder: Path, name: str, suffixes: frozenset[str]) -> Path:
    for path in _visible(folder):
        if path.stem == name and path.suffix.lower() in suffixes:
            return path
    raise MediaError(
        f"{folder} holds no file for the clip {name}; expected {name} with one of "
        f"{', '.join(sorted(suffixes))}."
    )


def expected_frames(pairs: list[ClipSource]) -> int:
    """Frames to come, as far as the files say; at least 1. For progress bars."""
    counts = [probe(p.generated).num_frames or 0 for p in pairs if p.generated is not None]
    return max(sum(counts), 1)


def read_pair(source: ClipSource, config: ReadConfig) -> Iterator[tuple[Picture, Picture]]:
    """Frame pairs of a clip.

    Args:
        source: Has a generated and a target clip.
        config: What to do where they are unequal.

    Yields:
        Generated and target frame, uint8 RGB [H, W, 3] of one size.

    Raises:
        MediaError: If a clip cannot be read, or their sizes or lengths differ; both are named.
    """
    assert source.generated is not None
    assert source.target is not None
    _check_known(source, config)
    generated, target = read_frames(source.generated), read_frames(source.target)
    for index in itertools.count():
        first, second = next(generated, None), next(target, None)
        if first is None or second is None:
            if (first is None) != (second is None) and not config.trim:
                rest = sum(1 for _ in (target if first is None else generated)) + 1
                counts = (index, index + rest) if first is None else (index + rest, index)
                raise _unequal_lengths(source, *counts)
            return
        yield _fitted(source, first, second, config)


def _check_known(source: ClipSource, config: ReadConfig) -> None:
    """Refuse what the files' headers already show, before time is spent."""
    assert source.generated is not None
    assert source.target is not None
    first, second = probe(source.generated), probe(source.target)
    sizes = ((first.width, first.height), (second.width, second.height))
    if config.resize is None and sizes[0] != sizes[1]:
        raise _unequal_sizes(source, *sizes)
    exact = first.fps is None and second.fps is None  # a video's header may be wrong
    if exact and not config.trim and first.num_frames != second.num_frames:
        raise _unequal_lengths(source, first.num_frames or 0, second.num_frames or 0)


def _fitted(
    source: ClipSource, first: Picture, second: Picture, config: ReadConfig
) -> tuple[Picture, Picture]:
    sizes = [(picture.shape[1], picture.shape[0]) for picture in (first, second)]
    if config.resize is None:
        if sizes[0] != sizes[1]:
            raise _unequal_sizes(source, *sizes)
        return first, second
    size = sizes[1] if config.resize == "target" else config.resize
    return resize_picture(first, size), resize_picture(second, size)


def resize_picture(picture: Picture, size: tuple[int, int]) -> Picture:
    """Stretch a picture with Lanczos resampling.

    Args:
        picture: uint8 RGB [H, W, 3].
        size: Width and height [px].
    """
    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.array(image.resize(size, Image.Resampling.LANCZOS))


def _unequal_sizes(
    source: ClipSource, first: tuple[int, int], second: tuple[int, int]
) -> Exception:
    return MediaError(
        f"{source.generated} has {first[0]}x{first[1]} px but its target {source.target} has "
        f"{second[0]}x{second[1]}; make them alike, or choose a size with --resize."
    )


def _unequal_lengths(source: ClipSource, first: int, second: int) -> Exception:
    return MediaError(
        f"{source.generated} has {first} frames but its target {source.target} has {second}; "
        "make them alike, or compare the frames that both have with --trim."
    )
