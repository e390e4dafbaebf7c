"""Pictures: reading files, value ranges, memory layouts, and fitting them to the frame size.

Three forms occur. Pictures are uint8 RGB [H, W, 3]. ComfyUI's IMAGE is float 0..1 [B, H, W, C].
Networks take float -1..1 [..., 3, H, W].
"""

from __future__ import annotations

import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from .config import Fit, FrameSize
from .errors import ConfigError, MediaError, ShapeError

__all__ = [
    "BACKGROUND",
    "MAX_PICTURE_PIXELS",
    "FitTransform",
    "fit_picture",
    "fit_transform",
    "from_model_range",
    "load_picture",
    "picture_to_uint8",
    "to_model_range",
]

BACKGROUND = 255
"""Transparent parts of a picture are laid over white: most cut-outs were made on it."""

MAX_PICTURE_PIXELS = 100_000_000
"""Larger pictures are refused as decompression bombs; 8000x8000 px still passes."""

_SIXTEEN_BIT = 65535
_OVERSHOOT = 0.5  # sharpening resizers leave 0..1 a little; more is another value range
_BROKEN_FILE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)


def load_picture(path: str | Path) -> NDArray[np.uint8]:
    """Read a picture file as RGB.

    The camera's orientation is applied, transparency is laid over white, 16-bit greyscale is
    scaled to 8 bits, and of an animation the first frame is taken.

    Args:
        path: Any format that Pillow reads.

    Returns:
        uint8 RGB [H, W, 3].

    Raises:
        MediaError: If the file is missing, damaged, too large, or no picture.
    """
    path = Path(path)
    if not path.is_file():
        raise MediaError(f"There is no picture file {path}.")
    if path.stat().st_size == 0:
        raise MediaError(f"{path} is empty (0 bytes); a picture is expected.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                _refuse_giant(picture, path)
                picture.load()
                return _to_rgb(ImageOps.exif_transpose(picture), path)
    except Image.DecompressionBombError as error:
        raise MediaError(f"{path} is refused: {error} Shrink the picture first.") from error
    except Image.UnidentifiedImageError as error:
        raise MediaError(
            f"{path} is not a picture in a known format; use PNG, JPEG or WebP."
        ) from error
    except _BROKEN_FILE as error:
        raise MediaError(
            f"{path} cannot be read as a picture: {error}. It may be cut off; fetch it again."
        ) from error


def picture_to_uint8(picture: Tensor | NDArray[Any]) -> NDArray[np.uint8]:
    """Turn ComfyUI's IMAGE, or anything like it, into 8-bit RGB.

    Args:
        picture: [..., H, W, C] with 1 (grey), 3 (RGB) or 4 (RGBA, laid over white) channels;
            float 0..1 or uint8 0..255.

    Returns:
        uint8 RGB [..., H, W, 3]. Floats are rounded; those slightly outside 0..1 are clipped.

    Raises:
        ShapeError: If the shape, the type or the range is another, or a value is not finite.
    """
    if isinstance(picture, Tensor):
        tensor = picture.detach().cpu()
        values = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    else:
        values = picture
    if values.ndim < 3 or values.shape[-1] not in (1, 3, 4) or values.size == 0:
        raise ShapeError(
            f"A picture has shape {list(values.shape)} but [..., height, width, channels] with "
            "1, 3 or 4 channels is expected, none of them empty."
        )
    pixels = values.astype(np.uint8) if values.dtype == np.uint8 else _quantized(values)
    if pixels.shape[-1] == 1:
        return np.repeat(pixels, 3, axis=-1)
    if pixels.shape[-1] == 4:
        alpha = pixels[..., 3:].astype(np.float32) / 255.0
        blended = pixels[..., :3] * alpha + BACKGROUND * (1.0 - alpha)
        return np.rint(blended).astype(np.uint8)
    return pixels


@dataclass(frozen=True, kw_only=True)
class FitTransform:
    """The map from a picture's pixels to those of the fitted picture: `scale * x + shift`.

    Coordinates are continuous: 0 is the left or upper edge of the first pixel.

    Attributes:
        scale_x: Fitted pixels per original pixel.
        scale_y: Fitted pixels per original pixel.
        shift_x: In fitted pixels.
        shift_y: In fitted pixels.
    """

    scale_x: float
    scale_y: float
    shift_x: float
    shift_y: float

    @property
    def matrix(self) -> NDArray[np.float64]:
        """[2, 2], for `p -> matrix @ p + shift`."""
        return np.diag([self.scale_x, self.scale_y])

    @property
    def shift(self) -> NDArray[np.float64]:
        """[2], in fitted pixels."""
        return np.array([self.shift_x, self.shift_y])


def fit_transform(width: int, height: int, size: FrameSize, fit: Fit) -> FitTransform:
    """Where `fit_picture` puts the points of a picture.

    Args:
        width: Of the original picture [px].
        height: Of the original picture [px].
        size: Of the fitted picture.
        fit: As for `fit_picture`.

    Raises:
        ShapeError: If the original has no pixels.
        ConfigError: If the fit is unknown.
    """
    if width < 1 or height < 1:
        raise ShapeError(f"The picture is {width}x{height} px; both sides must be at least 1.")
    to_width, to_height = size.width / width, size.height / height
    if fit == "stretch":
        return FitTransform(scale_x=to_width, scale_y=to_height, shift_x=0.0, shift_y=0.0)
    if fit == "crop":
        scale = max(to_width, to_height)
        return FitTransform(
            scale_x=scale,
            scale_y=scale,
            shift_x=(size.width - width * scale) / 2,
            shift_y=(size.height - height * scale) / 2,
        )
    if fit != "letterbox":
        raise ConfigError(f"The fit is {fit!r}; use 'letterbox', 'crop' or 'stretch'.")
    scale = min(to_width, to_height)
    inner_width, inner_height = max(round(width * scale), 1), max(round(height * scale), 1)
    return FitTransform(
        scale_x=inner_width / width,
        scale_y=inner_height / height,
        shift_x=float((size.width - inner_width) // 2),
        shift_y=float((size.height - inner_height) // 2),
    )


def fit_picture(
    picture: NDArray[np.uint8],
    size: FrameSize,
    fit: Fit,
    pad_color: tuple[int, int, int] = (0, 0, 0),
) -> NDArray[np.uint8]:
    """Bring a picture to the frame size with Lanczos resampling.

    Args:
        picture: uint8 RGB [H, W, 3].
        size: The wanted size.
        fit: `letterbox` keeps the whole picture and pads, `crop` cuts off what sticks out on
            both sides, `stretch` changes the aspect ratio (as the reference does).
        pad_color: RGB of the letterbox bars.

    Returns:
        uint8 RGB [size.height, size.width, 3].

    Raises:
        ShapeError: If the picture is not uint8 RGB, or has no pixels.
        ConfigError: If the fit is unknown.
    """
    _check_rgb(picture)
    height, width = picture.shape[:2]
    transform = fit_transform(width, height, size, fit)
    image = Image.fromarray(np.ascontiguousarray(picture))
    if fit == "letterbox":
        inner = (round(transform.scale_x * width), round(transform.scale_y * height))
        canvas = Image.new("RGB", (size.width, size.height), pad_color)
        corner = (int(transform.shift_x), int(transform.shift_y))
        canvas.paste(image.resize(inner, Image.Resampling.LANCZOS), corner)
        return np.array(canvas)
    left = -transform.shift_x / transform.scale_x
    top = -transform.shift_y / transform.scale_y
    box = (max(left, 0.0), max(top, 0.0), min(width - left, width), min(height - top, height))
    fitted = image.resize((size.width, size.height), Image.Resampling.LANCZOS, box=box)
    return np.array(fitted)


def to_model_range(
    frames: Tensor | NDArray[np.uint8],
) -> Float[Tensor, "*batch 3 height width"]:
    """Turn 8-bit pictures into network input.

    Args:
        frames: uint8 RGB [..., H, W, 3].

    Returns:
        float32 in -1..1.

    Raises:
        ShapeError: If the frames are not uint8 RGB.
    """
    pixels = frames if isinstance(frames, Tensor) else torch.from_numpy(np.asarray(frames))
    if pixels.dtype != torch.uint8 or pixels.ndim < 3 or pixels.shape[-1] != 3:
        raise ShapeError(
            f"Frames are {pixels.dtype} {list(pixels.shape)} but uint8 [..., height, width, 3] "
            "is expected; convert them with picture_to_uint8."
        )
    return pixels.movedim(-1, -3).float().div(127.5).sub(1.0).contiguous()


def from_model_range(
    frames: Float[Tensor, "*batch 3 height width"],
) -> Float[Tensor, "*batch height width 3"]:
    """Turn network output into ComfyUI's IMAGE layout; `picture_to_uint8` makes 8 bits of it.

    Args:
        frames: Nominally -1..1; anything beyond is clipped.

    Returns:
        float32 in 0..1.

    Raises:
        ShapeError: If the third dimension from the end is not 3.
    """
    if frames.ndim < 3 or frames.shape[-3] != 3:
        raise ShapeError(
            f"Frames have shape {list(frames.shape)} but [..., 3, height, width] is expected."
        )
    return frames.float().mul(0.5).add(0.5).clamp(0.0, 1.0).movedim(-3, -1).contiguous()


def _refuse_giant(picture: Image.Image, path: Path) -> None:
    width, height = picture.size
    if width * height > MAX_PICTURE_PIXELS:
        raise MediaError(
            f"{path} has {width}x{height} px; at most {MAX_PICTURE_PIXELS // 10**6} megapixels "
            "are accepted. Shrink the picture first."
        )


def _to_rgb(picture: Image.Image, path: Path) -> NDArray[np.uint8]:
    if picture.mode.startswith("I;16") or picture.mode == "I":
        return _grey_to_rgb(np.asarray(picture).astype(np.int64), path)
    if picture.mode == "F":
        raise MediaError(
            f"{path} holds floating-point grey values of unknown range; save it as 8-bit or "
            "16-bit PNG first."
        )
    if "A" in picture.getbands() or "a" in picture.getbands() or "transparency" in picture.info:
        cut_out = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (BACKGROUND, BACKGROUND, BACKGROUND, 255))
        picture = Image.alpha_composite(white, cut_out)
    return np.array(picture.convert("RGB"))


def _grey_to_rgb(values: NDArray[np.int64], path: Path) -> NDArray[np.uint8]:
    if values.min() < 0 or values.max() > _SIXTEEN_BIT:
        raise MediaError(
            f"{path} holds whole numbers from {values.min()} to {values.max()}; grey values of "
            "at most 16 bits (0 to 65535) are expected. Save it as 8-bit PNG first."
        )
    grey = np.rint(values * (255.0 / _SIXTEEN_BIT)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def _quantized(values: NDArray[Any]) -> NDArray[np.uint8]:
    if not np.issubdtype(values.dtype, np.floating):
        raise ShapeError(
            f"A picture holds {values.dtype} values; floats in 0..1 or uint8 are expected."
        )
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        count = int((~np.isfinite(values)).sum())
        raise ShapeError(
            f"A picture holds {count} values that are not finite (NaN or infinite); a network "
            "before it probably overflowed in fp16, so run that in fp32 or bf16."
        )
    if low < -_OVERSHOOT or high > 1.0 + _OVERSHOOT:
        raise ShapeError(
            f"A picture's values reach from {low:.3g} to {high:.3g} but floats in 0..1 are "
            "expected; rescale them first."
        )
    return np.rint(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)


def _check_rgb(picture: NDArray[np.uint8]) -> None:
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ShapeError(
            f"A picture is {picture.dtype} {list(picture.shape)} but uint8 RGB "
            "[height, width, 3] is expected; convert it with picture_to_uint8."
        )
