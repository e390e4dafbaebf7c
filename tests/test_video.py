from __future__ import annotations

import logging
import os
import struct
import weakref
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from animator_core.errors import ConfigError, MediaError, ShapeError
from animator_core.video import VideoWriter, probe, read_frames, write_video

COLORS = [(255, 0, 0), (0, 255, 0), (30, 60, 200), (255, 255, 255)]


def _bars(width: int = 64, height: int = 48, shift: int = 0) -> NDArray[np.uint8]:
    picture = np.zeros((height, width, 3), dtype=np.uint8)
    for index, color in enumerate(COLORS[shift:] + COLORS[:shift]):
        picture[:, index * width // 4 : (index + 1) * width // 4] = color
    return picture


def _clip(count: int, **options: int) -> list[NDArray[np.uint8]]:
    return [_bars(shift=i % 4, **options) for i in range(count)]


def _assert_looks_like(found: NDArray[np.uint8], expected: NDArray[np.uint8], within: int) -> None:
    assert found.shape == expected.shape
    height, width = expected.shape[:2]
    middles = [width // 8 + i * width // 4 for i in range(4)]  # away from the soft colour edges
    difference = found[height // 2, middles].astype(int) - expected[height // 2, middles]
    assert np.abs(difference).max() <= within, difference


@pytest.mark.parametrize(("suffix", "within"), [("mp4", 6), ("mov", 6), ("mkv", 6), ("webm", 12)])
def test_video_round_trip(tmp_path: Path, suffix: str, within: int) -> None:
    path = tmp_path / f"a clip.v1.{suffix}"
    frames = _clip(5)
    assert write_video(path, frames, 8) == 5
    found = list(read_frames(path))
    assert len(found) == 5
    for picture, expected in zip(found, frames, strict=True):
        _assert_looks_like(picture, expected, within)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # no leftovers


def test_mp4_is_playable_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, _clip(4), 24)
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")
        assert int(codec.colorspace) == int(codec.color_primaries) == 1  # BT.709
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # starts before it is loaded whole


@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        (7, Fraction(7)),
        (29.97, Fraction(2997, 100)),
        (Fraction(30000, 1001), Fraction(30000, 1001)),
        (np.float32(12.5), Fraction(25, 2)),
    ],
)
def test_frame_rate_is_kept(tmp_path: Path, fps: Any, expected: Fraction) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, _clip(3), fps)
    info = probe(path)
    assert info.fps == expected
    assert (info.width, info.height, info.num_frames) == (64, 48, 3)


@pytest.mark.parametrize(("width", "height"), [(65, 49), (64, 49), (33, 48)])
def test_odd_sizes_grow_by_one_pixel(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, _clip(2, width=width, height=height), 10)
    (first, _) = read_frames(path)
    assert first.shape == (height + height % 2, width + width % 2, 3)
    _assert_looks_like(first[:height, :width], _bars(width, height), 40)


def test_one_frame_and_an_iterator(tmp_path: Path) -> None:
    assert write_video(tmp_path / "a.mp4", iter(_clip(1)), 30) == 1
    assert len(list(read_frames(tmp_path / "a.mp4"))) == 1


@pytest.mark.parametrize("name", ["frames", "frames.v2/"])
def test_folder_round_trip_is_lossless(tmp_path: Path, name: str) -> None:
    path = f"{tmp_path}/{name}"
    frames = [np.full((5, 7, 3), i, dtype=np.uint8) for i in range(12)]
    write_video(path, frames, 30)
    assert sorted(os.listdir(path)) == sorted(f"frame_{i}.png" for i in range(12))
    np.testing.assert_array_equal(list(read_frames(path)), frames)
    info = probe(path)
    assert (info.width, info.height, info.fps, info.num_frames) == (7, 5, None, 12)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_second_run_replaces_frames_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    write_video(folder, _clip(6), 30)
    (folder / "notes.txt").write_text("mine")
    (folder / "frame_old.png").write_bytes((folder / "frame_1.png").read_bytes())
    write_video(folder, [np.zeros((8, 8, 3), dtype=np.uint8)] * 2, 30)
    assert sorted(os.listdir(folder)) == [
        "frame_0.png",
        "frame_1.png",
        "frame_old.png",
        "notes.txt",
    ]


@pytest.mark.parametrize("name", ["a.mp4", "frames"])
def test_an_interrupted_run_leaves_what_was_there(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_video(path, _clip(3), 30)

    def stopping() -> Iterator[NDArray[np.uint8]]:
        yield from _clip(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(path, stopping(), 30)
    assert len(list(read_frames(path))) == 3
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.mp4", "frames"])
def test_no_frames_write_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(MediaError, match="no frame"):
        write_video(tmp_path / name, [], 30)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.mp4", "frames"])
def test_frames_of_another_size_or_type_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ShapeError, match="Frame 1 has 32x48"):
        write_video(tmp_path / name, [_bars(), _bars(32)], 30)
    with pytest.raises(ShapeError, match="Frame 0 is float64"):
        write_video(tmp_path / name, [np.zeros((4, 4, 3))], 30)  # pyright: ignore[reportArgumentType]
    assert not list(tmp_path.iterdir())


def test_bad_settings(tmp_path: Path) -> None:
    for fps in (0, -1, float("nan"), 1e9):
        with pytest.raises(ConfigError, match="frame rate"):
            VideoWriter(tmp_path / "a.mp4", fps)
    with pytest.raises(MediaError, match=r"\.mp4"):
        VideoWriter(tmp_path / "a.avi", 30)
    with pytest.raises(ConfigError, match="at least 1"):
        read_frames(tmp_path / "a.mp4", max_frames=0)


def test_missing_parents_are_made_and_impossible_places_are_named(tmp_path: Path) -> None:
    write_video(tmp_path / "new" / "folder" / "a.mp4", _clip(1), 30)
    blocker = tmp_path / "file"
    blocker.write_text("in the way")
    for name in ("a.mp4", "frames"):
        with pytest.raises(MediaError, match="may be written to"):
            write_video(blocker / name, _clip(1), 30)
    with pytest.raises(MediaError, match="cannot be written"):
        write_video(blocker, _clip(1), 30)
    assert blocker.read_text() == "in the way"


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "frames"])
def test_full_disk(tmp_path: Path, name: str) -> None:
    resource = pytest.importorskip("resource")  # POSIX only
    random = np.random.default_rng(0)
    frames = (random.integers(0, 256, (256, 256, 3)).astype(np.uint8) for _ in range(30))
    path = tmp_path / name
    write_video(path, _clip(1), 30)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))
    try:
        with pytest.raises(MediaError, match="disk is not full"):
            write_video(path, frames, 30)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(list(read_frames(path))) == 1
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_numbers_in_names_are_sorted_as_numbers(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / f"frame_{number}.png")
    (tmp_path / "readme.txt").write_text("no picture")
    assert [int(f[0, 0, 0]) for f in read_frames(tmp_path)] == [1, 2, 10]
    assert [int(f[0, 0, 0]) for f in read_frames(tmp_path, max_frames=2)] == [1, 2]


def test_folders_with_mixed_sizes_or_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="holds no pictures"):
        read_frames(tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "0.png")
    Image.new("RGB", (4, 6)).save(tmp_path / "1.png")
    with pytest.raises(MediaError, match=r"Frame 1 of .* has 4x6"):
        list(read_frames(tmp_path))


def test_a_picture_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    Image.new("RGB", (4, 6), (1, 2, 3)).save(tmp_path / "a.png")
    (frame,) = read_frames(tmp_path / "a.png")
    assert frame.shape == (6, 4, 3)
    assert probe(tmp_path / "a.png").num_frames == 1


def test_max_frames_of_a_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, _clip(8), 30)
    assert len(list(read_frames(path, max_frames=3))) == 3
    assert len(list(read_frames(path, max_frames=99))) == 8


def test_gif_with_transparency(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    pictures = []
    for x in (0, 8):
        picture = Image.new("P", (16, 8), 0)
        picture.putpalette([9, 9, 9, 255, 0, 0])
        picture.paste(1, (x, 0, x + 8, 8))
        pictures.append(picture)
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], transparency=0, disposal=2, duration=100
    )
    first, second = read_frames(path)
    assert first[4, 4].tolist() == second[4, 12].tolist() == [255, 0, 0]
    assert first[4, 12].tolist() == second[4, 4].tolist() == [255, 255, 255]
    assert probe(path).fps == 10


def _turn(path: Path, matrix: tuple[int, ...]) -> None:
    """Set the display matrix in the track header, as a phone held upright does."""
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 40
    content[start : start + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(bytes(content))


def test_videos_of_a_turned_phone_come_upright(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, [_bars()] * 2, 30)
    one, end = 1 << 16, 1 << 30
    _turn(path, (0, one, 0, -one, 0, 0, 48 * one, 0, end))  # clockwise by a quarter
    info = probe(path)
    assert (info.width, info.height) == (48, 64)
    first = next(read_frames(path))
    assert first.shape == (64, 48, 3)
    _assert_looks_like(np.rot90(first), _bars(), 6)


@pytest.mark.parametrize("use", [lambda path: list(read_frames(path)), probe])
def test_unreadable_videos(tmp_path: Path, use: Any) -> None:
    whole = tmp_path / "whole.mp4"
    write_video(whole, _clip(30), 30)
    content = whole.read_bytes()
    header = content[: content.index(b"mdat")]
    for name, bad in (
        ("empty.mp4", b""),
        ("text.mp4", b"this is not a video, only text" * 9),
        ("cut.mp4", header[: len(header) // 2]),
        ("zeros.mp4", bytes(5000)),
        ("scrambled.mp4", header + bytes(len(content) - len(header))),
    ):
        path = tmp_path / name
        path.write_bytes(bad)
        with pytest.raises(MediaError, match=name):
            use(path)
    with pytest.raises(MediaError, match="There is no video"):
        use(tmp_path / "none.mp4")


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono"
        )
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(MediaError, match="no video in it"):
        list(read_frames(path))


def test_a_clip_cut_short_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.mp4"
    random = np.random.default_rng(0)
    write_video(
        path, (random.integers(0, 256, (64, 64, 3)).astype(np.uint8) for _ in range(60)), 30
    )
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    with caplog.at_level(logging.WARNING):
        count = len(list(read_frames(path)))
    assert 0 < count < 60
    assert f"announces 60 frames but holds only {count}" in caplog.text


def test_long_clips_are_streamed(tmp_path: Path) -> None:
    alive: weakref.WeakValueDictionary[int, NDArray[np.uint8]] = weakref.WeakValueDictionary()
    most = 0

    def frames() -> Iterator[NDArray[np.uint8]]:
        nonlocal most
        for index in range(40):
            frame = _bars(shift=index % 4)
            alive[index] = frame
            most = max(most, len(alive))
            yield frame
            del frame

    write_video(tmp_path / "a.mp4", frames(), 30)
    assert most <= 2
