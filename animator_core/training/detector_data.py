"""Pictures of drawn people for the detectors, with all that is to be found in them.

Clips are drawn once; every sample puts one or four of their pictures on a canvas at other sizes,
so that faces and people of all sizes, in part and none at all occur.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..pose.keypoints import PersonPose
from ..pose.runtime import opencv
from ..pose.skeletons import NUM_BODY, NUM_FACE, NUM_HAND
from .drawn_clips import SPLIT_SEEDS, DrawnClipConfig, Split, draw_clip
from .drawn_pool import drawn_pool, open_pool

__all__ = [
    "NUM_JOINTS",
    "DetectorDataConfig",
    "PicturePool",
    "Scenery",
    "Shown",
    "compose",
    "draw_pictures",
    "weathered_picture",
]

Picture = NDArray[np.uint8]
Floats = NDArray[np.float64]

NUM_JOINTS = NUM_BODY + NUM_FACE + 2 * NUM_HAND
"""Body, face, left hand, right hand."""

_FACE = slice(NUM_BODY, NUM_BODY + NUM_FACE)
_PEOPLE = 2  # most in a picture
_LEAST_FACE, _LEAST_PERSON = 0.5, 0.25  # shares that must be seen
_FIVE = ((36, 42), (42, 48), (30, 31), (48, 49), (54, 55))  # landmarks of eyes, nose, mouth


@dataclass(frozen=True, kw_only=True)
class DetectorDataConfig:
    """Which pictures a detector learns from.

    Attributes:
        folder: Where the drawings are kept.
        clips: Clips to draw; each gives two pictures.
        held_out: Clips of people that training never sees.
        as_is: Share of samples that are one picture that fills the canvas.
        four: Share of samples that are four pictures.
        empty: Share of samples without people.
        blur_px: Largest deviation of the blur [px of the canvas].
        noise: Largest deviation of the noise, of 255.
        workers: Processes that draw.
        drawn: What the clips look like.
    """

    folder: str
    clips: int = 3000
    held_out: int = 200
    as_is: float = 0.35
    four: float = 0.2
    empty: float = 0.05
    blur_px: float = 1.2
    noise: float = 8.0
    workers: int = 1
    drawn: DrawnClipConfig = field(
        default_factory=lambda: DrawnClipConfig(width=192, height=192, frames=1, pairs=0.25)
    )

    def __post_init__(self) -> None:
        if self.clips < 1 or self.held_out < 1:
            raise ConfigError(
                f"clips is {self.clips} and held_out {self.held_out}; both must be at least 1."
            )
        if min(self.as_is, self.four, self.empty) < 0 or self.as_is + self.four + self.empty > 1:
            raise ConfigError(
                f"The shares as_is, four and empty are {self.as_is}, {self.four} and {self.empty}; "
                "they must be at least 0 and together at most 1."
            )


@dataclass(frozen=True)
class _DrawPictures:
    drawn: DrawnClipConfig
    split: Split

    def __call__(self, index: int) -> dict[str, NDArray[np.generic]]:
        clip = draw_clip(SPLIT_SEEDS[self.split][index], replace(self.drawn, frames=1))
        joints = np.zeros((2, _PEOPLE, NUM_JOINTS, 2), np.float32)
        boxes = np.zeros((2, _PEOPLE, 4), np.float32)
        for which, pose in enumerate((clip.reference_pose, clip.poses[0])):
            for number, person in enumerate(pose.people[:_PEOPLE]):
                joints[which, number] = _all_joints(person)
        boxes[0, : len(clip.who)] = clip.reference_face_boxes[:_PEOPLE]
        boxes[1, : len(clip.who)] = clip.face_boxes[0, :_PEOPLE]
        pictures = np.stack([clip.reference, clip.frames[0]])
        people = np.array(min(len(clip.who), _PEOPLE))
        return {"pictures": pictures, "joints": joints, "faces": boxes, "people": people}


def _all_joints(person: PersonPose) -> NDArray[np.float64]:
    parts = (person.body, person.face, person.left_hand, person.right_hand)
    return np.concatenate([part[:, :2] for part in parts])


def draw_pictures(config: DetectorDataConfig, split: Split) -> Path:
    """Folder of the pictures of a part of the data; drawn if need be."""
    folder = Path(config.folder) / split
    drawn_pool(
        folder,
        _DrawPictures(config.drawn, split),
        config.clips if split == "train" else config.held_out,
        settings={"split": split, "drawn": asdict(config.drawn)},
        workers=config.workers,
    )
    return folder


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """A person in a picture.

    Attributes:
        joints: [128, 2] body, face, left and right hand [px]; exact also outside the picture.
        frame: [4] left, top, right, bottom of the picture that shows the person [px].
        box: [4] left, top, right, bottom of what is to be seen of the person [px].
        face_box: [4] likewise of the face, or None where it is not to be seen.
    """

    joints: Floats
    frame: Floats
    box: Floats
    face_box: Floats | None

    @property
    def seen(self) -> NDArray[np.bool_]:
        """[128] which joints lie inside the picture."""
        inside = (self.joints >= self.frame[:2]) & (self.joints <= self.frame[2:])
        return inside[:, 0] & inside[:, 1]

    @property
    def face_points(self) -> Floats:
        """[5, 2] eyes, nose tip and mouth corners, as seen left first."""
        face = self.joints[_FACE]
        return np.stack([face[first:last].mean(axis=0) for first, last in _FIVE])


class PicturePool:
    """Drawn pictures on disk.

    Args:
        folder: From `draw_pictures`.
    """

    def __init__(self, folder: Path) -> None:
        self._arrays = open_pool(folder)

    def __len__(self) -> int:
        return 2 * len(self._arrays["pictures"])

    def picture(self, index: int) -> tuple[Picture, list[Shown]]:
        """A picture [H, W, 3] and its people."""
        at = divmod(index, 2)
        picture = self._arrays["pictures"][at]
        height, width = picture.shape[:2]
        found = []
        for number in range(int(self._arrays["people"][at[0]])):
            joints = self._arrays["joints"][at][number].astype(np.float64)
            face = self._arrays["faces"][at][number].astype(np.float64)
            shown = face if face[2] > face[0] else None
            full = _person_box(joints)
            frame = np.array([0.0, 0.0, width - 1, height - 1])
            box = full.clip(0, np.tile(frame[2:], 2))
            found.append(Shown(joints=joints, frame=frame, box=box, face_box=shown))
        return np.asarray(picture), found


def _person_box(joints: Floats) -> Floats:
    """Left, top, right, bottom [px] of everything that is drawn: hair and shoes are no joints."""
    face = joints[_FACE]
    unit = float(np.ptp(face[:, 1]))
    low, high = joints.min(axis=0), joints.max(axis=0)
    top = min(low[1] - 0.1 * unit, face[:, 1].min() - 0.55 * unit)
    return np.array([low[0] - 0.15 * unit, top, high[0] + 0.15 * unit, high[1] + 0.3 * unit])


@dataclass(frozen=True, kw_only=True)
class Scenery:
    """The canvas that a detector sees.

    Attributes:
        height: Of the canvas [px].
        width: Of the canvas [px].
        padding: Grey level of the detector's own padding.
    """

    height: int
    width: int
    padding: int


def compose(
    lot: np.random.Generator, pool: PicturePool, scenery: Scenery, config: DetectorDataConfig
) -> tuple[Picture, list[Shown]]:
    """One sample: a canvas and the people on it.

    Args:
        lot: Decides everything.
        pool: Pictures to choose from.
        scenery: The canvas.
        config: How often which kind occurs.
    """
    side = np.array([scenery.width, scenery.height], dtype=np.float64)
    kind = lot.random()
    canvas = np.empty((scenery.height, scenery.width, 3), np.uint8)
    canvas[:] = scenery.padding if lot.random() < 0.6 else lot.integers(0, 256, 3)
    people: list[Shown] = []
    if kind < config.as_is + config.four + config.empty:
        count = 4 if config.as_is <= kind < config.as_is + config.four else 1
        for part in range(count):
            share = 1.0 if count == 1 else float(lot.uniform(0.35, 0.6))
            corner = side * (part % 2, part // 2) / 2 if count == 4 else np.zeros(2)
            people += _put(lot, pool, canvas, (share, corner))
        if kind >= config.as_is + config.four:  # nobody: keep only a corner without people
            canvas, people = _without_people(lot, canvas, people)
    else:
        share = float(np.exp(lot.uniform(np.log(0.4), np.log(1.7))))
        room = side * (1 - share)
        corner = np.zeros(2) if share < 1 and lot.random() < 0.4 else lot.uniform(0, 1, 2) * room
        people += _put(lot, pool, canvas, (share, corner))
    return weathered_picture(lot, canvas, config), people


def _put(
    lot: np.random.Generator,
    pool: PicturePool,
    canvas: Picture,
    place: tuple[float, Floats],
) -> list[Shown]:
    """Paint a random picture on the canvas; returns who is to be seen."""
    share, corner = place
    picture, people = pool.picture(int(lot.integers(len(pool))))
    cv2 = opencv()
    height, width = canvas.shape[:2]
    zoom = share * min(height / picture.shape[0], width / picture.shape[1])
    if lot.random() < 0.6:  # as sharp as a smaller picture
        small = int(lot.integers(picture.shape[0] // 2, picture.shape[0]))
        shrunk = cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA)
        picture = cv2.resize(shrunk, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    if zoom < 0.7:
        picture = cv2.GaussianBlur(picture, (0, 0), 0.4 / zoom)
    # whole coordinates are centres of pixels
    shift = corner + 0.5 * zoom - 0.5
    matrix = np.array([[zoom, 0.0, shift[0]], [0.0, zoom, shift[1]]])
    cv2.warpAffine(picture, matrix, (width, height), dst=canvas, borderMode=cv2.BORDER_TRANSPARENT)
    first = np.maximum(corner, 0.0)
    last = np.minimum(corner + zoom * np.array(picture.shape[1::-1]), (width, height)) - 1
    moved = (_moved(person, zoom, shift, np.concatenate([first, last])) for person in people)
    return [person for person in moved if person is not None]


def _moved(person: Shown, zoom: float, shift: Floats, frame: Floats) -> Shown | None:
    """The person after scaling and shifting, as far as the frame [4] shows it."""

    def cut(box: Floats, least: float) -> Floats | None:
        whole = box * zoom + np.tile(shift, 2)
        seen = np.concatenate([
            np.maximum(whole[:2], frame[:2]), np.minimum(whole[2:], frame[2:])
        ])  # fmt: skip
        size = np.maximum(seen[2:] - seen[:2], 0.0)
        enough = size.prod() >= least * max((whole[2:] - whole[:2]).prod(), 1e-9)
        return seen if enough and size.min() >= 2 else None

    box = cut(person.box, _LEAST_PERSON)
    if box is None:
        return None
    face = None if person.face_box is None else cut(person.face_box, _LEAST_FACE)
    return Shown(joints=person.joints * zoom + shift, frame=frame, box=box, face_box=face)


def _without_people(
    lot: np.random.Generator, canvas: Picture, people: Sequence[Shown]
) -> tuple[Picture, list[Shown]]:
    """The canvas with everyone painted over by what is beside them, or by one colour."""
    canvas = canvas.copy()
    for person in people:
        left, top, right, bottom = np.rint(person.box).astype(int)
        strip = canvas[:, :left] if left > canvas.shape[1] - right else canvas[:, right + 1 :]
        if strip.shape[1] < 2:
            canvas[:] = lot.integers(0, 256, 3)
            return canvas, []
        size = (right - left + 1, bottom - top + 1)
        canvas[top : bottom + 1, left : right + 1] = opencv().resize(strip, size)
    return canvas, []


def weathered_picture(
    lot: np.random.Generator, picture: Picture, config: DetectorDataConfig
) -> Picture:
    """A picture in another light, a little blurred, with noise.

    Args:
        lot: Decides everything.
        picture: [H, W, 3].
        config: How strong blur and noise are.
    """
    image = picture.astype(np.float32)
    if lot.random() < 0.5:
        image = opencv().GaussianBlur(image, (0, 0), float(lot.uniform(0.3, config.blur_px)))
    if lot.random() < 0.6:
        image *= (lot.uniform(0.75, 1.2) * lot.normal(1.0, 0.05, 3)).astype(np.float32)
    if lot.random() < 0.5:
        grain = lot.standard_normal(image.shape, dtype=np.float32)
        image += np.float32(lot.uniform(0.0, config.noise)) * grain
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
