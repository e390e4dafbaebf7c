"""Videos as folders of pictures: the published layout, its faults named and skipped."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..checkpoints.state_dict import read_state_dict
from ..errors import CheckpointError, ConfigError, MediaError
from ..faces.analysis import FaceAnalyzer, find_antelope_files
from ..frames import load_picture
from .animation_config import FolderDataConfig, SamplesConfig

__all__ = [
    "EMBEDDINGS_FILE",
    "ClipFolder",
    "FolderClipSource",
    "Part",
    "Window",
    "find_clips",
    "load_window",
    "note_skipped",
    "random_window",
    "skipped_clips",
]

logger = logging.getLogger(__name__)

Part = Literal["rec", "vec"]

EMBEDDINGS_FILE = "face_embeddings.safetensors"
"""Beside `images`: `embeddings` [frames, features] and `found` [frames], in the frames' order."""

_FRAME = re.compile(r"(?:frame_)?(\d+)\.(?:png|jpg|jpeg)")
_ATTEMPTS = 20  # at a clip that can be read, before the data counts as broken
_ARCFACE_WIDTH = 512


@dataclass(frozen=True, kw_only=True)
class ClipFolder:
    """One video.

    Attributes:
        path: Its folder.
        part: Which size it is trained at.
        frames: Names of its pictures, in order.
    """

    path: str
    part: Part
    frames: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Window:
    """What is shown of a video.

    Attributes:
        reference: Index of the reference frame.
        frames: Indices of the frames to be generated.
    """

    reference: int
    frames: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class _Fault:
    clip: str
    reason: str


def _listed(root: Path, part: Part) -> list[Path]:
    """The folders of a part: those of its list if there is one, else all."""
    listing = root / f"video_{part}_path.txt"
    if listing.is_file():
        lines = [line.strip() for line in listing.read_text(encoding="utf-8").splitlines()]
        return [root / line for line in lines if line]  # absolute ones stay as they are
    folder = root / part
    return sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []


def find_clips(
    config: FolderDataConfig, clip_frames: int
) -> tuple[list[ClipFolder], list[tuple[str, str]]]:
    """All usable videos, and what is wrong with the others.

    Only names are looked at; pictures that cannot be read show when they are.

    Args:
        config: Where they are.
        clip_frames: Frames that a clip needs, besides the reference.

    Returns:
        The videos, and the folder and the fault of each one that is skipped.

    Raises:
        ConfigError: If there is none.
    """
    clips: list[ClipFolder] = []
    faults: list[tuple[str, str]] = []
    for part in get_args(Part):
        for path in _listed(Path(config.root), part):
            found = _inspect(path, part, config, clip_frames)
            if isinstance(found, _Fault):
                faults.append((found.clip, found.reason))
            else:
                clips.append(found)
    if not clips:
        named = "; ".join(f"{clip}: {reason}" for clip, reason in faults[:3])
        raise ConfigError(
            f"No usable video in {config.root}: expected rec/NNNNN or vec/NNNNN with images, poses "
            f"and faces, found {len(faults)} with faults. {named} `prepare-data` makes such "
            "folders from videos."
        )
    return clips, faults


def _inspect(
    path: Path, part: Part, config: FolderDataConfig, clip_frames: int
) -> ClipFolder | _Fault:
    names = _frame_names(path / "images")
    if names is None:
        return _Fault(clip=str(path), reason="there is no folder images")
    if len(names) < clip_frames + 1:
        reason = f"{len(names)} frames, but {clip_frames + 1} are needed"
        return _Fault(clip=str(path), reason=reason)
    for kind in ("poses", "faces"):
        there = set(_frame_names(path / kind) or ())
        lacking = [name for name in names if f"{Path(name).stem}.png" not in there]
        if lacking:
            reason = f"{len(lacking)} pictures missing in {kind}, the first {lacking[0]}"
            return _Fault(clip=str(path), reason=reason)
    if not config.faces and not (path / EMBEDDINGS_FILE).is_file():
        reason = f"no {EMBEDDINGS_FILE}; run prepare-data, or set `faces` to antelopev2's folder"
        return _Fault(clip=str(path), reason=reason)
    return ClipFolder(path=str(path), part=part, frames=names)


def _frame_names(folder: Path) -> tuple[str, ...] | None:
    """Pictures in the order of their numbers."""
    if not folder.is_dir():
        return None
    found = [(int(m[1]), n) for n in os.listdir(folder) if (m := _FRAME.fullmatch(n))]
    return tuple(name for _, name in sorted(found))


def random_window(
    lot: np.random.Generator, available: int, clip_frames: int, stride: int
) -> Window:
    """Frames at equal distances, as far apart as the video allows, and a reference beside them.

    Args:
        lot: Draws where they are.
        available: Frames of the video, more than `clip_frames`.
        clip_frames: Frames to be generated.
        stride: Their distance, if the video is long enough.

    Source: StableAnimator 020e7f2, animation_dataset.py:111.
    """
    length = min(available, (clip_frames - 1) * stride + 1)
    start = int(lot.integers(0, available - length + 1))
    frames = np.linspace(start, start + length - 1, clip_frames, dtype=int)
    others = np.setdiff1d(np.arange(available), frames)
    return Window(reference=int(lot.choice(others)), frames=tuple(frames.tolist()))


def _resized(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    return np.array(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def load_window(clip: ClipFolder, window: Window, config: FolderDataConfig) -> dict[str, Tensor]:
    """Pictures, poses, face masks and the reference's face embedding.

    Args:
        clip: The video.
        window: What to load of it.
        config: Sizes.

    Returns:
        `frames` and `poses` uint8 [f, 3, H, W], `reference` uint8 [3, H, W], `face_masks` uint8
        [f, H, W], `face_embedding` [features] and `has_face`.

    Raises:
        MediaError: If a picture cannot be read.
    """
    size = config.rec_size if clip.part == "rec" else config.vec_size
    folder = Path(clip.path)

    def pictures(kind: str) -> Tensor:
        paths = [folder / kind / f"{Path(clip.frames[i]).stem}.png" for i in window.frames]
        if kind == "images":
            paths = [folder / kind / clip.frames[i] for i in window.frames]
        loaded = np.stack([_resized(load_picture(path), size) for path in paths])
        return torch.from_numpy(np.ascontiguousarray(loaded.transpose(0, 3, 1, 2)))

    reference = load_picture(folder / "images" / clip.frames[window.reference])
    embedding, found = _embedding(folder, window.reference, reference, config)
    resized = np.ascontiguousarray(_resized(reference, size).transpose(2, 0, 1))
    return {
        "frames": pictures("images"),
        "poses": pictures("poses"),
        "reference": torch.from_numpy(resized),
        "face_masks": pictures("faces")[:, 0],
        "has_face": torch.tensor(found),
        "face_embedding": embedding,
    }


def _embedding(
    folder: Path, index: int, reference: NDArray[np.uint8], config: FolderDataConfig
) -> tuple[Tensor, bool]:
    """The reference's face embedding, zeros if there is none, and whether there is one."""
    path = folder / EMBEDDINGS_FILE
    if path.is_file():
        embeddings, found = _read_embeddings(path)
        if index >= len(embeddings):
            raise MediaError(
                f"{path} knows {len(embeddings)} frames, but frame {index} was asked for; remove "
                "it and run prepare-data again."
            )
        return embeddings[index], bool(found[index])
    faces = _analyzer(config.faces).analyze(reference)
    if not faces:
        return torch.zeros(_ARCFACE_WIDTH), False
    largest = max(faces, key=lambda face: face.area_px)
    return torch.from_numpy(np.asarray(largest.embedding, dtype=np.float32)), True


@lru_cache(maxsize=256)
def _read_embeddings(path: Path) -> tuple[Tensor, Tensor]:
    state = read_state_dict(path)
    return state["embeddings"].float(), state["found"]


@lru_cache(maxsize=1)
def _analyzer(folder: str) -> FaceAnalyzer:
    """One per process: it is opened where it is used, as networks do not travel to workers."""
    return FaceAnalyzer(find_antelope_files(folder))


@dataclass(frozen=True)
class FolderClipSource:
    """Draws micro-batches from videos in the published layout.

    Attributes:
        data: Where the videos are.
        samples: What a micro-batch holds; its videos are all of one size.
        clips: The videos.
        skipped: File that is told of videos that cannot be read.
    """

    data: FolderDataConfig
    samples: SamplesConfig
    clips: tuple[ClipFolder, ...]
    skipped: str

    def __call__(self, step: int, seed: int) -> dict[str, Any]:  # noqa: ARG002
        """See `load_window`; stacked, and `image_only`."""
        lot = np.random.default_rng(seed)
        first = self.clips[int(lot.integers(len(self.clips)))]
        same = [clip for clip in self.clips if clip.part == first.part]
        rows = [self._row(lot, same) for _ in range(self.samples.clips)]
        batch: dict[str, Any] = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
        batch["image_only"] = self.samples.clip_frames == 1
        return batch

    def _row(self, lot: np.random.Generator, clips: Sequence[ClipFolder]) -> dict[str, Tensor]:
        for _ in range(_ATTEMPTS):
            clip = clips[int(lot.integers(len(clips)))]
            frames = self.samples.clip_frames
            window = random_window(lot, len(clip.frames), frames, self.data.stride)
            try:
                return load_window(clip, window, self.data)
            except (MediaError, CheckpointError) as error:
                note_skipped(self.skipped, [(clip.path, str(error))])
        raise MediaError(
            f"{_ATTEMPTS} videos in a row could not be read; see {self.skipped} for their faults."
        )


def note_skipped(path: str | Path, faults: Iterable[tuple[str, str]]) -> None:
    """Add videos and their faults to a file; several processes may do so at once."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    for clip, reason in faults:
        logger.warning("skipped %s: %s", clip, reason)
        with Path(path).open("a", encoding="utf-8") as file:  # one short write is never torn
            file.write(json.dumps({"clip": clip, "reason": reason}) + "\n")


def skipped_clips(path: str | Path) -> dict[str, str]:
    """Every video that was skipped, and its first fault."""
    if not Path(path).is_file():
        return {}
    faults: dict[str, str] = {}
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        faults.setdefault(entry["clip"], entry["reason"])
    return faults
