from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from animator_core.config import FrameSize
from animator_core.errors import ConfigError, MediaError, ShapeError
from animator_core.frames import (
    fit_picture,
    fit_transform,
    from_model_range,
    load_picture,
    picture_to_uint8,
    to_model_range,
)

SIZE = FrameSize(width=128, height=192)
FITS: list[Any] = ["letterbox", "crop", "stretch"]


def _gradient(width: int, height: int) -> NDArray[np.uint8]:
    x = np.linspace(0, 255, width)[None, :].repeat(height, axis=0)
    y = np.linspace(0, 255, height)[:, None].repeat(width, axis=1)
    return np.stack([x, y, np.full_like(x, 99)], axis=2).astype(np.uint8)


def test_plain_rgb_file(tmp_path: Path) -> None:
    picture = _gradient(7, 5)
    Image.fromarray(picture).save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_picture(tmp_path / "a.png"), picture)


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    rgba = np.zeros((1, 3, 4), dtype=np.uint8)
    rgba[0, :, 0] = 200
    rgba[0, :, 3] = 255, 128, 0
    Image.fromarray(rgba).save(tmp_path / "a.png")
    assert load_picture(tmp_path / "a.png").tolist() == [
        [[200, 0, 0], [227, 127, 127], [255, 255, 255]]
    ]


def test_palette_with_transparent_colour(tmp_path: Path) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putdata([0, 1])
    picture.save(tmp_path / "a.png", transparency=0)
    assert load_picture(tmp_path / "a.png").tolist() == [[[255, 255, 255], [0, 0, 255]]]


@pytest.mark.parametrize(
    ("mode", "values", "expected"),
    [
        ("1", [0, 255], [[0, 0, 0], [255, 255, 255]]),
        ("L", [10, 200], [[10, 10, 10], [200, 200, 200]]),
        ("LA", [(10, 255), (200, 0)], [[10, 10, 10], [255, 255, 255]]),
        ("I;16", [0, 257 * 128], [[0, 0, 0], [128, 128, 128]]),
        ("I;16", [65535, 300], [[255, 255, 255], [1, 1, 1]]),
    ],
)
def test_grey_files(tmp_path: Path, mode: str, values: list[Any], expected: list[Any]) -> None:
    if mode == "I;16":
        picture = Image.fromarray(np.array([values], dtype=np.uint16))
    else:
        picture = Image.new(mode, (2, 1))
        picture.putdata(values)
    picture.save(tmp_path / "a.png")
    assert load_picture(tmp_path / "a.png").tolist() == [expected]


def test_wide_integers_and_floats_of_unknown_range_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 70000]], dtype=np.int32)).save(tmp_path / "i.tif")
    with pytest.raises(MediaError, match="70000"):
        load_picture(tmp_path / "i.tif")
    Image.fromarray(np.array([[0.0, 3.0]], dtype=np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(MediaError, match="floating-point"):
        load_picture(tmp_path / "f.tif")


def test_cmyk_file(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    red, green, blue = load_picture(tmp_path / "a.jpg")[4, 4].astype(int)
    assert red > 240
    assert max(green, blue) < 15


def test_camera_orientation_is_applied(tmp_path: Path) -> None:
    picture = Image.new("RGB", (20, 10), (0, 0, 0))
    picture.paste((255, 255, 255), (0, 0, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    picture.save(tmp_path / "a.jpg", exif=exif, quality=100)
    upright = load_picture(tmp_path / "a.jpg")
    assert upright.shape == (20, 10, 3)
    assert upright[2, 5].min() > 240
    assert upright[17, 5].max() < 15


def test_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ((255, 0, 0), (0, 255, 0))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert load_picture(tmp_path / "a.gif")[0, 0].tolist() == [255, 0, 0]


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not a picture")
    for name, message in (
        ("none.png", "no picture file"),
        ("empty.png", "0 bytes"),
        ("text.png", "known format"),
        (".", "no picture file"),
    ):
        with pytest.raises(MediaError, match=message):
            load_picture(tmp_path / name)


@pytest.mark.filterwarnings("ignore:.*EXIF")  # Pillow, on the way to its error
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp"])
def test_truncated_files(tmp_path: Path, suffix: str) -> None:
    random = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(random).save(path)
    whole = path.read_bytes()
    for kept in (len(whole) // 2, 20):
        path.write_bytes(whole[:kept])
        with pytest.raises(MediaError, match="a\\." + suffix):
            load_picture(path)


def _png_claiming(width: int, height: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [11_000, 100_000])
def test_decompression_bombs_are_refused_before_they_are_decoded(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(_png_claiming(side, side))
    with pytest.raises(MediaError, match=r"bomb\.png"):
        load_picture(path)


def test_8000_pixels_square_are_accepted_and_fitted(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("L", (8000, 8000), 90).save(path)
    picture = load_picture(path)
    assert picture.shape == (8000, 8000, 3)
    fitted = fit_picture(picture, FrameSize(width=64, height=64), "crop")
    assert (fitted == 90).all()


def test_comfyui_pictures_round_trip() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3)).astype(np.uint8)
    as_float = torch.from_numpy(picture.astype(np.float32) / 255.0)
    np.testing.assert_array_equal(picture_to_uint8(as_float), picture)
    np.testing.assert_array_equal(picture_to_uint8(as_float.numpy()), picture)
    np.testing.assert_array_equal(picture_to_uint8(torch.from_numpy(picture)), picture)
    np.testing.assert_array_equal(picture_to_uint8(as_float[0].double()), picture[0])
    half = picture_to_uint8(as_float.to(torch.float16))
    assert np.abs(half.astype(int) - picture).max() <= 1


def test_channels_are_brought_to_rgb() -> None:
    grey = torch.full((2, 3, 4, 1), 0.5)
    assert (picture_to_uint8(grey) == 128).all()
    assert picture_to_uint8(grey).shape == (2, 3, 4, 3)
    rgba = torch.tensor([[[[1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0]]]])
    assert picture_to_uint8(rgba).tolist() == [[[[255, 0, 0], [255, 255, 255]]]]


def test_small_overshoot_is_clipped() -> None:
    assert picture_to_uint8(np.array([[[-0.1, 0.5, 1.1]]])).tolist() == [[[0, 128, 255]]]


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((4, 4)), r"\[4, 4\]"),
        (np.zeros((1, 4, 4, 2)), "1, 3 or 4 channels"),
        (np.zeros((0, 4, 4, 3)), "none of them empty"),
        (np.full((2, 2, 3), np.nan), "12 values that are not finite"),
        (np.full((2, 2, 3), np.inf), "not finite"),
        (np.full((2, 2, 3), 255.0), "from 255 to 255"),
        (np.full((2, 2, 3), -1.0), "from -1 to -1"),
        (np.zeros((2, 2, 3), dtype=np.int64), "int64"),
        (torch.zeros(2, 2, 3, dtype=torch.bool), "bool"),
    ],
)
def test_other_pictures_are_refused(picture: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        picture_to_uint8(picture)


def test_stretch_is_plain_lanczos() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8)
    expected = Image.fromarray(picture).resize((128, 192), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(fit_picture(picture, SIZE, "stretch"), np.array(expected))


@pytest.mark.parametrize("fit", FITS)
def test_a_picture_of_the_right_size_is_unchanged(fit: Any) -> None:
    picture = _gradient(128, 192)
    np.testing.assert_array_equal(fit_picture(picture, SIZE, fit), picture)
    transform = fit_transform(128, 192, SIZE, fit)
    np.testing.assert_array_equal(transform.matrix, np.eye(2))
    np.testing.assert_array_equal(transform.shift, [0, 0])


def test_letterbox_pads_and_keeps_everything() -> None:
    picture = np.full((50, 100, 3), 200, dtype=np.uint8)
    fitted = fit_picture(picture, SIZE, "letterbox")
    assert fitted.shape == (192, 128, 3)
    assert (fitted[64:128] == 200).all()
    assert not fitted[:64].any()
    assert not fitted[128:].any()
    coloured = fit_picture(picture, SIZE, "letterbox", pad_color=(1, 2, 3))
    assert coloured[0, 0].tolist() == [1, 2, 3]


def test_crop_keeps_the_middle() -> None:
    picture = np.zeros((50, 100, 3), dtype=np.uint8)
    picture[:, 40:60] = 255
    fitted = fit_picture(picture, SIZE, "crop")
    assert fitted.shape == (192, 128, 3)
    assert fitted[:, 30:98].min() > 240
    assert fitted[:, 0].max() < 5


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (3, 2), (777, 331)])
def test_any_size_can_be_fitted(fit: Any, size: tuple[int, int]) -> None:
    width, height = size
    picture = np.full((height, width, 3), 150, dtype=np.uint8)
    fitted = fit_picture(picture, SIZE, fit)
    assert fitted.shape == (192, 128, 3)
    assert fitted.max() == 150
    if fit != "letterbox":
        assert fitted.min() == 150


@given(st.integers(30, 300), st.integers(30, 300), st.sampled_from(FITS), st.floats(0.25, 0.75))
@settings(max_examples=30, deadline=None)
def test_points_are_where_the_transform_says(width: int, height: int, fit: Any, at: float) -> None:
    picture = _gradient(width, height)
    x, y = int(width * at), int(height * (1 - at))
    transform = fit_transform(width, height, SIZE, fit)
    place = transform.matrix @ (x + 0.5, y + 0.5) + transform.shift
    column, row = (int(v) for v in place)
    if not (2 <= column < 126 and 2 <= row < 190):
        return
    fitted = fit_picture(picture, SIZE, fit)
    tolerance = 3 + 255 * 1.5 / min(width, height) + 255 / 64
    assert np.abs(fitted[row, column, :2].astype(int) - picture[y, x, :2]).max() <= tolerance


def test_bad_fit_requests() -> None:
    picture = _gradient(8, 8)
    with pytest.raises(ConfigError, match="'letterbox', 'crop' or 'stretch'"):
        fit_picture(picture, SIZE, "zoom")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ShapeError, match="uint8 RGB"):
        fit_picture(picture[..., 0], SIZE, "crop")
    with pytest.raises(ShapeError, match="0x8"):
        fit_picture(picture[:, :0], SIZE, "crop")


def test_model_range_round_trip() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3)).astype(np.uint8)
    tensor = to_model_range(frames)
    assert tensor.shape == (3, 3, 4, 5)
    assert tensor.dtype == torch.float32
    assert float(tensor.min()) >= -1
    assert float(tensor.max()) <= 1
    np.testing.assert_allclose(tensor[1, 2, 3, 4], frames[1, 3, 4, 2] / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(picture_to_uint8(from_model_range(tensor)), frames)
    torch.testing.assert_close(to_model_range(torch.from_numpy(frames)), tensor)
    assert to_model_range(frames[0]).shape == (3, 4, 5)


def test_model_output_is_clipped() -> None:
    frames = torch.tensor([-3.0, 0.0, 3.0]).reshape(3, 1, 1).to(torch.bfloat16)
    assert from_model_range(frames).flatten().tolist() == [0.0, 0.5, 1.0]


def test_other_layouts_are_refused() -> None:
    with pytest.raises(ShapeError, match="uint8"):
        to_model_range(torch.zeros(2, 4, 4, 3))
    with pytest.raises(ShapeError, match=r"\[2, 3, 4, 4\]"):
        to_model_range(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))
    with pytest.raises(ShapeError, match=r"\[2, 4, 4, 3\]"):
        from_model_range(torch.zeros(2, 4, 4, 3))
