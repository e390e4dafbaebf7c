"""Videos and folders of numbered pictures: reading and writing frame by frame.

Only one frame is held at a time, so the length of a clip does not matter. What is written appears
under its final name only when it is complete.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray
from PIL import Image

from .errors import ConfigError, MediaError, ShapeError
from .frames import load_picture, picture_to_uint8
from .writing import PartialFile, partial_path

__all__ = ["VideoInfo", "VideoWriter", "probe", "read_frames", "write_video"]

_logger = logging.getLogger(__name__)

Picture = NDArray[np.uint8]

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})

_H264 = ("libx264", {"crf": "17", "preset": "medium"})
_ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    ".mp4": _H264,
    ".mov": _H264,
    ".mkv": _H264,
    ".webm": ("libvpx-vp9", {"crf": "24", "b": "0", "cpu-used": "4", "row-mt": "1"}),
}
_MIN_FPS, _MAX_FPS = 0.01, 1000
_FPS_DENOMINATOR = 1001  # broadcast rates are n * 1000 / 1001


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a clip looks like.

    Attributes:
        width: Of the frames, upright [px].
        height: Of the frames, upright [px].
        fps: Frames per second; None for pictures.
        num_frames: As the file states it; None if it does not.
    """

    width: int
    height: int
    fps: Fraction | None
    num_frames: int | None


def probe(path: str | Path) -> VideoInfo:
    """Look at a video file, a picture, or a folder of numbered pictures.

    Raises:
        MediaError: If there is no readable frame.
    """
    path = _existing(path)
    pictures = _picture_files(path)
    if pictures:
        height, width = load_picture(pictures[0]).shape[:2]
        return VideoInfo(width=width, height=height, fps=None, num_frames=len(pictures))
    with _decoding(path) as (container, stream):
        first = next(container.decode(stream), None)
        if first is None:
            raise MediaError(f"{path} has no video frames.")
        width, height = first.width, first.height
        if _quarter_turns(first) % 2:
            width, height = height, width
        return VideoInfo(
            width=width,
            height=height,
            fps=stream.average_rate or stream.guessed_rate,
            num_frames=stream.frames or None,
        )


def read_frames(path: str | Path, max_frames: int | None = None) -> Iterator[NDArray[np.uint8]]:
    """Read a video file, a picture, or a folder of numbered pictures frame by frame.

    Frames come upright (as the camera's orientation says), with transparency laid over white.
    In a folder frame_2.png comes before frame_10.png.

    Args:
        path: A video (mp4, mov, webm, gif, whatever FFmpeg reads), a picture, or a folder.
        max_frames: Stop after so many frames.

    Yields:
        uint8 RGB [H, W, 3], all of one size.

    Raises:
        MediaError: If it is missing, empty, damaged, or holds no frames.
        ConfigError: If max_frames is below 1.
    """
    if max_frames is not None and max_frames < 1:
        raise ConfigError(f"At most {max_frames} frames were asked for; ask for at least 1.")
    path = _existing(path)
    pictures = _picture_files(path)
    frames = map(load_picture, pictures) if pictures else _decoded(path)
    return _of_one_size(itertools.islice(frames, max_frames), path)


def write_video(
    path: str | Path, frames: Iterable[NDArray[np.uint8]], fps: Fraction | float
) -> int:
    """Write frames to a video file or a folder; see `VideoWriter`.

    Returns:
        The number of frames written.
    """
    with VideoWriter(path, fps) as writer:
        for frame in frames:
            writer.write(frame)
    return writer.num_frames


class VideoWriter:
    """Writes frames to a video or to a folder, which appears when the `with` block ends well.

    If the block is left by an exception nothing is written, and what was there stays.

    Args:
        path: A .mp4, .mov or .mkv (H.264), or .webm (VP9) file. A path without suffix or with a
            slash at its end is a folder for frame_0.png, frame_1.png and so on; older numbered
            frames in it are replaced, other files stay.
        fps: Frames per second; folders do not store it.

    Raises:
        ConfigError: If fps is not in 0.01..1000.
        MediaError: If the kind of file is unknown or it cannot be written; or, at the end, if
            there was no frame.
        ShapeError: If a frame is not uint8 RGB or has another size than the first.
    """

    def __init__(self, path: str | Path, fps: Fraction | float) -> None:
        if not _MIN_FPS <= fps <= _MAX_FPS:
            raise ConfigError(f"The frame rate is {fps} but must lie in {_MIN_FPS}..{_MAX_FPS}.")
        self._path = Path(path)
        self._is_folder = _means_folder(path)
        if not self._is_folder and self._path.suffix.lower() not in _ENCODERS:
            raise MediaError(
                f"{self._path} has the suffix {self._path.suffix!r}; use {', '.join(_ENCODERS)}, "
                "or a folder for PNG pictures."
            )
        rate = fps if isinstance(fps, Fraction) else Fraction(float(fps))
        self._fps = rate.limit_denominator(_FPS_DENOMINATOR)
        self._sink: _Sink | None = None
        self._size: tuple[int, int] | None = None
        self.num_frames = 0

    def __enter__(self) -> VideoWriter:
        return self

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Append a frame, uint8 RGB [H, W, 3]."""
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0:
            raise ShapeError(
                f"Frame {self.num_frames} is {frame.dtype} {list(frame.shape)} but uint8 RGB "
                "[height, width, 3] is expected; convert it with picture_to_uint8."
            )
        height, width = frame.shape[:2]
        with _writing(self._path):
            if self._sink is None:
                self._size = (width, height)
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._sink = (
                    _FolderSink(self._path)
                    if self._is_folder
                    else _MovieSink(self._path, self._fps, width, height)
                )
            if self._size != (width, height):
                raise ShapeError(
                    f"Frame {self.num_frames} has {width}x{height} px but the first one had "
                    f"{self._size}; bring all frames to one size."
                )
            self._sink.add(frame)
        self.num_frames += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._sink is None:
            if kind is None:
                raise MediaError(f"There is no frame to write to {self._path}.")
            return
        if kind is not None:
            self._sink.abort()
            return
        try:
            with _writing(self._path):
                self._sink.finish()
        except BaseException:
            self._sink.abort()
            raise


class _Sink(Protocol):
    def add(self, picture: Picture) -> None: ...
    def finish(self) -> None: ...
    def abort(self) -> None: ...


class _MovieSink:
    """Encodes to a hidden file beside the target, and renames that at the end."""

    def __init__(self, path: Path, fps: Fraction, width: int, height: int) -> None:
        codec, options = _ENCODERS[path.suffix.lower()]
        # FFmpeg chooses the container by the suffix
        self._partial = PartialFile(path, suffix=path.suffix)
        self._num_frames = 0
        flags = {"movflags": "+faststart"} if path.suffix.lower() in (".mp4", ".mov") else {}
        self._container = av.open(str(self._partial.path), "w", options=flags)
        stream = self._container.add_stream(codec, rate=fps, options=options)
        if not isinstance(stream, av.VideoStream):
            raise TypeError(f"{codec} is no video codec.")
        # half the colour resolution needs even sides
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace = Colorspace.ITU709
        stream.codec_context.color_range = ColorRange.MPEG
        stream.codec_context.color_primaries = ColorPrimaries.BT709
        stream.codec_context.color_trc = ColorTrc.BT709
        self._stream = stream

    def add(self, picture: Picture) -> None:
        height, width = picture.shape[:2]
        even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
        self._container.mux(self._stream.encode(frame))
        self._num_frames += 1

    def finish(self) -> None:
        self._container.mux(self._stream.encode())
        self._container.close()
        # a full disk can go unnoticed until here, because FFmpeg buffers
        with av.open(str(self._partial.path)) as written:
            found = written.streams.video[0].frames
        if found not in (0, self._num_frames):
            raise OSError(f"only {found} of {self._num_frames} frames arrived on the disk")
        self._partial.complete()

    def abort(self) -> None:
        try:
            self._container.close()
        except (av.FFmpegError, OSError) as error:
            _logger.debug("Closing an unfinished video failed: %s", error)
        self._partial.discard()


class _FolderSink:
    """Collects PNG pictures in a hidden folder beside the target, and moves them at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = partial_path(path)
        self._num_frames = 0
        self._partial.mkdir()

    def add(self, picture: Picture) -> None:
        name = f"frame_{self._num_frames}.png"
        Image.fromarray(np.ascontiguousarray(picture)).save(self._partial / name)
        self._num_frames += 1

    def finish(self) -> None:
        self._path.mkdir(exist_ok=True)
        for file in self._partial.iterdir():
            file.replace(self._path / file.name)
        self._partial.rmdir()
        for file in self._path.glob("frame_*.png"):
            number = file.stem.removeprefix("frame_")
            if number.isdecimal() and int(number) >= self._num_frames:
                file.unlink()

    def abort(self) -> None:
        shutil.rmtree(self._partial, ignore_errors=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        raise MediaError(
            f"The frames cannot be written to {path}: {error}. Check that the folder may be "
            "written to and that the disk is not full."
        ) from error


@contextmanager
def _decoding(path: Path) -> Iterator[tuple[InputContainer, av.VideoStream]]:
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise MediaError(f"{path} has no video in it, only other streams.")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            yield container, stream
    except (av.FFmpegError, OSError) as error:
        raise MediaError(
            f"{path} cannot be read as a video: {error}. It may be cut off or of another kind."
        ) from error


def _decoded(path: Path) -> Iterator[Picture]:
    count = 0
    with _decoding(path) as (container, stream):
        for frame in container.decode(stream):
            yield _upright_rgb(frame)
            count += 1
        expected = stream.frames
    if count == 0:
        raise MediaError(f"{path} has no video frames.")
    if count < expected:  # no error: trimmed phone videos announce the frames cut off, too
        _logger.warning("%s announces %d frames but holds only %d.", path, expected, count)


def _upright_rgb(frame: av.VideoFrame) -> Picture:
    if any(component.is_alpha for component in frame.format.components):
        picture = picture_to_uint8(frame.to_ndarray(format="rgba"))
    else:
        picture = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    return np.ascontiguousarray(np.rot90(picture, _quarter_turns(frame)))


def _quarter_turns(frame: av.VideoFrame) -> int:
    """Counter-clockwise turns that put a frame of a phone's video upright."""
    return round(frame.rotation / 90) % 4


def _of_one_size(frames: Iterator[Picture], path: Path) -> Iterator[Picture]:
    first: tuple[int, ...] | None = None
    for index, frame in enumerate(frames):
        first = first or frame.shape
        if frame.shape != first:
            raise MediaError(
                f"Frame {index} of {path} has {frame.shape[1]}x{frame.shape[0]} px but the first "
                f"one has {first[1]}x{first[0]}; all frames must have one size."
            )
        yield frame


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.exists():
        raise MediaError(f"There is no video, picture or folder {path}.")
    if path.is_file() and path.stat().st_size == 0:
        raise MediaError(f"{path} is empty (0 bytes); a video or picture is expected.")
    return path


def _picture_files(path: Path) -> list[Path]:
    """The pictures of a folder in order, or a picture itself; empty for a video file."""
    if not path.is_dir():
        return [path] if path.suffix.lower() in PICTURE_SUFFIXES else []
    files = [file for file in path.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES]
    files = [file for file in files if not file.name.startswith(".")]
    if not files:
        raise MediaError(
            f"The folder {path} holds no pictures ({', '.join(sorted(PICTURE_SUFFIXES))})."
        )
    return sorted(files, key=_natural_key)


def _natural_key(file: Path) -> list[int | str]:
    parts = re.split(r"(\d+)", file.name.lower())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)]


def _means_folder(path: str | Path) -> bool:
    text = str(path)
    return text.endswith(("/", os.sep)) or not Path(path).suffix or Path(path).is_dir()
