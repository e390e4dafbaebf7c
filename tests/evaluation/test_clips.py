"""Pairing and reading clips: what fits, and what is refused with both names."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from animator_core.errors import ConfigError, MediaError
from animator_core.evaluation.clips import ReadConfig, find_pairs, read_pair, with_companions
from animator_core.video import write_video


def pictures(frames: int = 3, height: int = 16, width: int = 24, level: int = 40) -> list:
    return [np.full((height, width, 3), level + 10 * i, np.uint8) for i in range(frames)]


def pair_of(folder, first=None, second=None, suffix=""):
    write_video(folder / f"made{suffix}", first or pictures(), 8)
    write_video(folder / f"truth{suffix}", second or pictures(), 8)
    (pair,) = find_pairs(folder / f"made{suffix}", folder / f"truth{suffix}")
    return pair


@pytest.mark.parametrize("suffix", ["", ".mp4"])
def test_one_pair(tmp_path, suffix):
    pair = pair_of(tmp_path, suffix=suffix)
    assert pair.name == "made"
    assert len(list(read_pair(pair, ReadConfig()))) == 3


def test_one_picture_is_a_clip(tmp_path):
    for name in ("a.png", "b.png"):
        Image.fromarray(pictures()[0]).save(tmp_path / name)
    (pair,) = find_pairs(tmp_path / "a.png", tmp_path / "b.png")
    assert len(list(read_pair(pair, ReadConfig()))) == 1


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16"])
def test_other_kinds_of_pictures(tmp_path, mode):
    image = Image.fromarray(pictures()[0])
    image = image.quantize(8) if mode == "P" else image.convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    image.save(tmp_path / "other.png")
    Image.fromarray(pictures()[0]).save(tmp_path / "plain.png")
    (pair,) = find_pairs(tmp_path / "other.png", tmp_path / "plain.png")
    ((other, plain),) = read_pair(pair, ReadConfig())
    assert np.abs(other.astype(int) - plain).max() <= 1


def test_folders_of_clips_are_paired_by_name(tmp_path, caplog):
    for name in ("b.mp4", "a"):
        write_video(tmp_path / "made" / name, pictures(), 8)
    for name in ("a.mp4", "b", "c.mp4"):
        write_video(tmp_path / "truth" / name, pictures(), 8)
    (tmp_path / "made/notes.txt").write_text("x")
    pairs = find_pairs(tmp_path / "made", tmp_path / "truth")
    assert [(p.name, p.generated.name, p.target.name) for p in pairs] == [
        ("a", "a", "a.mp4"),
        ("b", "b.mp4", "b"),
    ]
    assert "1 of 3 targets" in caplog.text
    with pytest.raises(MediaError, match=r"1 of 3 clips.*: c"):
        find_pairs(tmp_path / "truth", tmp_path / "made")
    with pytest.raises(ConfigError, match=r"one clip but .* folder of clips"):
        find_pairs(tmp_path / "made", tmp_path / "truth/a.mp4")
    write_video(tmp_path / "made/b", pictures(), 8)
    with pytest.raises(MediaError, match="two clips named b"):
        find_pairs(tmp_path / "made", tmp_path / "truth")


def test_missing_and_empty(tmp_path):
    write_video(tmp_path / "a.mp4", pictures(), 8)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match=r"no video, picture or folder .*none\.mp4"):
        find_pairs(tmp_path / "none.mp4", tmp_path / "a.mp4")
    with pytest.raises(MediaError, match="empty holds no pictures"):
        find_pairs(tmp_path / "a.mp4", tmp_path / "empty")
    (tmp_path / "bad.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:100])
    (pair,) = find_pairs(tmp_path / "bad.mp4", tmp_path / "a.mp4")
    with pytest.raises(MediaError, match=r"bad\.mp4"):
        list(read_pair(pair, ReadConfig()))


@pytest.mark.parametrize("suffix", ["", ".mp4"])
def test_sizes_differ(tmp_path, suffix):
    pair = pair_of(tmp_path, pictures(height=32, width=48), suffix=suffix)
    with pytest.raises(MediaError, match=r"48x32 px .*truth.* 24x16; .*--resize"):
        list(read_pair(pair, ReadConfig()))
    for resize, shape in (("target", (16, 24, 3)), ((10, 20), (20, 10, 3))):
        frames = list(read_pair(pair, ReadConfig(resize=resize)))
        assert {f.shape for both in frames for f in both} == {shape}
        assert np.abs(frames[0][0].astype(int) - 40).max() <= 3
    with pytest.raises(ConfigError, match="at least 1"):
        ReadConfig(resize=(0, 5))


@pytest.mark.parametrize("suffix", ["", ".mp4"])
def test_lengths_differ(tmp_path, suffix):
    pair = pair_of(tmp_path, pictures(5), pictures(3), suffix)
    with pytest.raises(MediaError, match=r"has 5 frames .* has 3; .*--trim"):
        list(read_pair(pair, ReadConfig()))
    assert len(list(read_pair(pair, ReadConfig(trim=True)))) == 3
    pair = pair_of(tmp_path, pictures(2), pictures(4), suffix)
    with pytest.raises(MediaError, match=r"has 2 frames .* has 4"):
        list(read_pair(pair, ReadConfig()))


def test_companions(tmp_path):
    for name in ("a", "b"):
        for folder in ("made", "truth"):
            write_video(tmp_path / folder / f"{name}.mp4", pictures(), 8)
        (tmp_path / "poses").mkdir(exist_ok=True)
        (tmp_path / f"poses/{name}.json").write_text("[]")
    (tmp_path / "faces").mkdir()
    Image.fromarray(pictures()[0]).save(tmp_path / "faces/a.png")
    pairs = find_pairs(tmp_path / "made", tmp_path / "truth")
    found = with_companions(
        pairs, identity=tmp_path / "faces/a.png", driven_poses=tmp_path / "poses"
    )
    assert [p.identity.name for p in found] == ["a.png", "a.png"]
    assert [p.driven_poses.name for p in found] == ["a.json", "b.json"]
    with pytest.raises(MediaError, match="no file for the clip b"):
        with_companions(pairs, identity=tmp_path / "faces")
    with pytest.raises(MediaError, match="there are 2"):
        with_companions(pairs, generated_poses=tmp_path / "poses/a.json")
    single = pairs[:1]
    for path in ("poses/b.json", "faces"):
        (one,) = with_companions(single, generated_poses=tmp_path / path)
        assert one.generated_poses == tmp_path / path
    (one,) = with_companions(single, generated_poses=tmp_path / "poses")
    assert one.generated_poses.name == "a.json"
