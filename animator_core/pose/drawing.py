"""Skeleton pictures of poses, in the style that PoseNet was trained on.

`exact` equals the reference pixel for pixel: everything is rasterised on a canvas whose shorter
side is 2160 px, then shrunk without anti-aliasing. Below 512 px its lines become thinner than a
pixel and fall to dots, which no PoseNet was trained on; `thick`, the default, draws them as thick
in pixels as they are at 512 px, and is `exact` from there on. `fast` rasterises at the final size
with anti-aliasing. All give RGB: the first limb is red.

Source: StableAnimator 020e7f2, DWPose/skeleton_extraction.py:17.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, DependencyError, ShapeError
from ..interfaces import Monitor, Progress, SilentMonitor
from .keypoints import FramePose, PoseSequence
from .skeletons import BODY_COLORS_RGB, BODY_LIMBS, HAND_BONES, NUM_BODY, NUM_FACE, NUM_HAND

__all__ = ["DRAW_MODE", "DrawMode", "draw_pose", "draw_poses", "overlay_pose"]

DrawMode = Literal["exact", "thick", "fast"]

DRAW_MODE: DrawMode = "thick"
"""How skeletons are drawn where nothing is said."""

Picture = NDArray[np.uint8]
Floats = NDArray[np.float64]
Renderer = Callable[[FramePose, Picture], None]
"""Draws a frame into a picture [height, width, 3], which it overwrites."""

CANVAS_SIDE = 2160
"""Shorter side of the drawing canvas [px]; all widths and radii below are meant at this size."""

THICK_ENLARGEMENT = CANVAS_SIDE / 512
"""Canvas pixels per picture pixel, at most, in mode `thick`."""

MIN_BODY_CONFIDENCE = 0.3
LIMB_HALF_WIDTH = 4
BONE_WIDTH = 2
JOINT_RADIUS = 4
FACE_RADIUS = 3
LIMB_BRIGHTNESS = 0.6
OVERLAY_SWELL = 2.5
"""Marks over a picture are thicker by this factor, to be seen on a busy background."""

HAND_JOINT_COLOR = np.array([0.0, 0.0, 1.0])
FACE_COLOR = np.array([1.0, 1.0, 1.0])
BODY_COLORS = np.array(BODY_COLORS_RGB, dtype=np.float64)
BONE_COLORS = np.array(
    [colorsys.hsv_to_rgb(bone / len(HAND_BONES), 1.0, 1.0) for bone in range(len(HAND_BONES))]
)

_PART_ENDS = np.cumsum([NUM_BODY, NUM_FACE, NUM_HAND])
_MAX_CANVAS_PIXELS = 2**28
_FAR = 60.0 * CANVAS_SIDE  # joints beyond are garbage; rasterising towards them takes seconds
_MAX_CONFIDENCE = 1e4  # far above the point where every colour is saturated
_SUBPIXEL_BITS = 4
_TURNS = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
_ELLIPSE = np.stack([np.cos(_TURNS), np.sin(_TURNS)], axis=1)


class _Painter(Protocol):
    """Puts marks, whose coordinates and sizes are those of the drawing canvas, on a picture.

    Lines are [n, 2, 2] (start and end, x and y), centres [n, 2], colours [n, 3] in 0..255.
    """

    def limbs(self, lines: Floats, colors: Floats) -> None: ...
    def bones(self, lines: Floats, colors: Floats) -> None: ...
    def dots(self, centers: Floats, radius: int, colors: Floats) -> None: ...


class _ExactPainter:
    """Whole-pixel marks without anti-aliasing, as the reference rasterises them."""

    def __init__(self, canvas: Picture) -> None:
        self._canvas = canvas
        self._cv2 = _opencv()

    def limbs(self, lines: Floats, colors: Floats) -> None:
        for ((x1, y1), (x2, y2)), color in zip(lines.tolist(), colors.tolist(), strict=True):
            length = ((y1 - y2) ** 2 + (x1 - x2) ** 2) ** 0.5
            angle = math.degrees(math.atan2(y1 - y2, x1 - x2))
            middle = (int((x1 + x2) / 2), int((y1 + y2) / 2))
            axes = (int(length / 2), LIMB_HALF_WIDTH)
            outline = self._cv2.ellipse2Poly(middle, axes, int(angle), 0, 360, 1)
            self._cv2.fillConvexPoly(self._canvas, outline, color)

    def bones(self, lines: Floats, colors: Floats) -> None:
        for (start, end), color in zip(lines.astype(int).tolist(), colors.tolist(), strict=True):
            self._cv2.line(self._canvas, start, end, color, thickness=BONE_WIDTH)

    def dots(self, centers: Floats, radius: int, colors: Floats) -> None:
        for center, color in zip(centers.astype(int).tolist(), colors.tolist(), strict=True):
            self._cv2.circle(self._canvas, center, radius, color, thickness=-1)


class _SmoothPainter:
    """Anti-aliased marks at the picture's own size.

    Args:
        picture: [H, W, 3], painted in place.
        shrink: Picture pixels per pixel of the drawing canvas.
        swell: Factor on widths and radii.
    """

    def __init__(self, picture: Picture, shrink: float, swell: float) -> None:
        self._picture = picture
        self._shrink = shrink
        self._thickness = shrink * swell
        self._cv2 = _opencv()
        self._style = {"lineType": self._cv2.LINE_AA, "shift": _SUBPIXEL_BITS}

    def limbs(self, lines: Floats, colors: Floats) -> None:
        lines = self._to_picture(lines)
        along = (lines[:, 0] - lines[:, 1]) / 2
        across = np.stack([-along[:, 1], along[:, 0]], axis=1)
        across *= self._radius(LIMB_HALF_WIDTH) / np.maximum(np.hypot(*along.T), 1e-9)[:, None]
        outlines = lines.mean(axis=1)[:, None] + _ELLIPSE @ np.stack([along, across], axis=1)
        for outline, color in zip(_subpixels(outlines), colors.tolist(), strict=True):
            self._cv2.fillConvexPoly(self._picture, outline, color, **self._style)

    def bones(self, lines: Floats, colors: Floats) -> None:
        width = max(round(BONE_WIDTH * self._thickness), 1)
        ends = _subpixels(self._to_picture(lines)).tolist()
        for (start, end), color in zip(ends, colors.tolist(), strict=True):
            self._cv2.line(self._picture, start, end, color, thickness=width, **self._style)

    def dots(self, centers: Floats, radius: int, colors: Floats) -> None:
        size = round(self._radius(radius) * 2**_SUBPIXEL_BITS)
        middles = _subpixels(self._to_picture(centers)).tolist()
        for middle, color in zip(middles, colors.tolist(), strict=True):
            self._cv2.circle(self._picture, middle, size, color, thickness=-1, **self._style)

    def _to_picture(self, points: Floats) -> Floats:
        # the centre of the canvas's first pixel lies half a pixel from the edge
        return (points + 0.5) * self._shrink - 0.5

    def _radius(self, radius: float) -> float:
        # anti-aliasing spreads every edge outwards by about half a pixel
        return max(radius * self._thickness - 0.5, 0.0)


def draw_pose(
    frame: FramePose, width: int, height: int, mode: DrawMode = DRAW_MODE
) -> NDArray[np.uint8]:
    """Draw one frame's people on black; the pose is stretched to the picture.

    Body joints count from confidence 0.3; hands and faces have no threshold, but fade with
    their confidence. Confidences above 1 look like 1.

    Args:
        frame: Any number of people.
        width: Of the picture [px].
        height: Of the picture [px].
        mode: Equal to the reference, or that with thick lines in small pictures, or smooth and
            about twice as fast.

    Returns:
        uint8 RGB [height, width, 3].

    Raises:
        ConfigError: If the size or the mode is out of range.
        DependencyError: If OpenCV is missing.
    """
    return draw_poses([frame], width, height, mode)[0]


def draw_poses(
    frames: PoseSequence,
    width: int,
    height: int,
    mode: DrawMode = DRAW_MODE,
    monitor: Monitor | None = None,
) -> NDArray[np.uint8]:
    """Draw a clip; see `draw_pose`.

    Args:
        frames: T frames.
        width: Of the pictures [px].
        height: Of the pictures [px].
        mode: "exact", "thick" or "fast".
        monitor: Told of every frame.

    Returns:
        uint8 RGB [T, height, width, 3].

    Raises:
        ConfigError: If the size or the mode is out of range.
        DependencyError: If OpenCV is missing.
    """
    monitor = monitor or SilentMonitor()
    render = _renderer(width, height, mode)
    pictures = np.empty((len(frames), height, width, 3), dtype=np.uint8)
    for index, frame in enumerate(frames):
        monitor.raise_if_cancelled()
        render(frame, pictures[index])
        monitor.update(Progress(stage="drawing poses", done=index + 1, total=len(frames)))
    return pictures


def overlay_pose(picture: NDArray[np.uint8], frame: FramePose) -> NDArray[np.uint8]:
    """Draw a pose over a picture, for previews; the pose is stretched to the picture.

    Args:
        picture: uint8 RGB [H, W, 3]; left unchanged.
        frame: Any number of people.

    Returns:
        uint8 RGB [H, W, 3].

    Raises:
        ShapeError: If the picture is not uint8 RGB.
        DependencyError: If OpenCV is missing.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ShapeError(
            f"A preview needs a uint8 RGB picture [height, width, 3] but got {picture.dtype} "
            f"{list(picture.shape)}; convert it with frames.picture_to_uint8."
        )
    painted = np.array(picture, order="C")
    _paint_smooth(frame, painted, OVERLAY_SWELL)
    return painted


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise DependencyError(
            "Drawing poses needs OpenCV, which cannot be imported; it comes with insightface, "
            f"or run: pip install opencv-python-headless ({error})."
        ) from error
    return cv2


def _renderer(width: int, height: int, mode: DrawMode) -> Renderer:
    if width < 1 or height < 1:
        raise ConfigError(
            f"A skeleton picture of {width}x{height} px was asked for; "
            "both sides must be at least 1."
        )
    enlarge = CANVAS_SIDE / min(width, height)
    if mode == "exact":
        return _exact_renderer(width, height, enlarge)
    if mode == "thick":
        return _exact_renderer(width, height, min(enlarge, THICK_ENLARGEMENT))
    if mode == "fast":
        return _render_smooth
    raise ConfigError(f"The drawing mode is {mode!r}; use 'exact', 'thick' or 'fast'.")


def _exact_renderer(width: int, height: int, enlarge: float) -> Renderer:
    canvas_width, canvas_height = int(width * enlarge), int(height * enlarge)
    if canvas_width * canvas_height > _MAX_CANVAS_PIXELS:
        raise ConfigError(
            f"A picture of {width}x{height} px is too long and narrow for mode 'exact', which "
            f"would draw it at {canvas_width}x{canvas_height} px; use mode 'fast'."
        )
    cv2 = _opencv()
    canvas = np.zeros((canvas_height, canvas_width, 3), dtype=np.uint8)
    painter = _ExactPainter(canvas)

    def render(frame: FramePose, out: Picture) -> None:
        canvas.fill(0)
        _paint(frame, painter, canvas_width, canvas_height)
        cv2.resize(canvas, (width, height), dst=out)

    return render


def _render_smooth(frame: FramePose, out: Picture) -> None:
    out.fill(0)
    _paint_smooth(frame, out, swell=1.0)


def _paint_smooth(frame: FramePose, picture: Picture, swell: float) -> None:
    height, width = picture.shape[:2]
    enlarge = CANVAS_SIDE / min(width, height)
    canvas_width, canvas_height = int(width * enlarge), int(height * enlarge)
    painter = _SmoothPainter(picture, min(width, height) / CANVAS_SIDE, swell)
    _paint(frame, painter, canvas_width, canvas_height)


def _paint(frame: FramePose, painter: _Painter, width: int, height: int) -> None:
    if not frame.people:
        return
    bodies, faces, left_hands, right_hands = _place(frame, width, height)
    _paint_bodies(bodies, painter)
    # the reference draws everybody's left hand before anybody's right one
    for hand in (*left_hands, *right_hands):
        _paint_hand(hand, painter)
    landmarks = faces.reshape(-1, 3)
    landmarks = landmarks[_is_on_canvas(landmarks)]
    painter.dots(landmarks[:, :2], FACE_RADIUS, _faded(FACE_COLOR, landmarks[:, 2]))


def _place(frame: FramePose, width: int, height: int) -> list[Floats]:
    """Joints of all people on the drawing canvas: [people, joints, 3] of the four parts."""
    parts = [np.concatenate([p.body, p.face, p.left_hand, p.right_hand]) for p in frame.people]
    # divide before multiplying: whole pixels must come out as in the reference
    with np.errstate(over="ignore", invalid="ignore"):
        joints = np.stack(parts) / (frame.width, frame.height, 1.0) * (width, height, 1.0)
    usable = (np.abs(joints[..., :2]) <= _FAR).all(axis=-1) & ~np.isnan(joints[..., 2])
    joints[~usable] = 0.0
    joints[..., 2] = joints[..., 2].clip(0.0, _MAX_CONFIDENCE)
    return np.split(joints, _PART_ENDS, axis=1)


def _paint_bodies(bodies: Floats, painter: _Painter) -> None:
    # limb by limb over all people, then joint by joint
    limbs = bodies[:, np.array(BODY_LIMBS)].swapaxes(0, 1).reshape(-1, 2, 3)
    seen = limbs[..., 2].min(axis=-1) >= MIN_BODY_CONFIDENCE
    colors = np.repeat(BODY_COLORS[: len(BODY_LIMBS)], len(bodies), axis=0)
    colors = _weakened(colors[seen], limbs[seen, :, 2].prod(axis=-1))
    # the reference dims the canvas after the limbs; as they hide each other instead of
    # blending, dimming each colour gives the same pixels
    painter.limbs(limbs[seen, :, :2], np.floor(colors * LIMB_BRIGHTNESS))

    joints = bodies.swapaxes(0, 1).reshape(-1, 3)
    seen = joints[:, 2] > MIN_BODY_CONFIDENCE
    colors = np.repeat(BODY_COLORS, len(bodies), axis=0)[seen]
    painter.dots(joints[seen, :2], JOINT_RADIUS, _weakened(colors, joints[seen, 2]))


def _paint_hand(joints: Floats, painter: _Painter) -> None:
    bones = joints[np.array(HAND_BONES)]
    seen = _is_on_canvas(bones).all(axis=-1)
    colors = _faded(BONE_COLORS[seen], bones[seen, :, 2].prod(axis=-1))
    painter.bones(bones[seen, :, :2], colors)
    joints = joints[_is_on_canvas(joints)]
    painter.dots(joints[:, :2], JOINT_RADIUS, _faded(HAND_JOINT_COLOR, joints[:, 2]))


def _is_on_canvas(joints: Floats) -> Any:
    """False left of and above the canvas, and for absent joints, which have coordinates 0."""
    return np.all(joints[..., :2] >= 1.0, axis=-1)


def _weakened(colors: Floats, confidence: Floats) -> Floats:
    """Body colours 0..255 by their confidence; channels are cut to whole numbers."""
    return np.minimum(np.floor(colors * confidence[:, None]), 255.0)


def _faded(colors: Floats, confidence: Floats) -> Floats:
    """Colours 0..1 of hands and faces by their confidence; OpenCV rounds the channels."""
    return np.minimum(colors * np.floor(confidence * 255)[:, None], 255.0)


def _subpixels(points: Floats) -> NDArray[np.int32]:
    return np.rint(points * 2**_SUBPIXEL_BITS).astype(np.int32)
