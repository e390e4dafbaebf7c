"""Training data without files: clips and portraits of drawn people, each from one number.

The number says everything: who it is, what they do and where the camera stands. `SPLIT_SEEDS`
keeps the numbers, and with them people and motions, of training, validation and test apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ..demo.casting import random_character, random_outfit, random_scene
from ..demo.character import draw_people
from ..demo.identity import Character
from ..demo.model import DEMO_SIZE
from ..errors import ConfigError
from ..faces.crops import similarity_to_template
from ..models.face_recognition import FACE_SIZE
from ..pose.keypoints import FramePose, PersonPose, PoseSequence
from .framing import Framing, face_box, fitted, random_framing
from .performances import Performance, dance, random_performance

__all__ = [
    "SPLIT_SEEDS",
    "DrawnClip",
    "DrawnClipConfig",
    "Portrait",
    "Split",
    "draw_clip",
    "draw_portrait",
    "five_points",
    "split_of",
    "visible_pose",
]

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]
Split = Literal["train", "validation", "test"]

SPLIT_SEEDS: dict[Split, range] = {
    "train": range(2**31),
    "validation": range(2**31, 2**31 + 2**20),
    "test": range(2**31 + 2**20, 2**31 + 2**21),
}
"""Seeds of clips and of characters. Nothing is ever trained on a seed outside `train`."""


@dataclass(frozen=True, kw_only=True)
class DrawnClipConfig:
    """What clips look like.

    Attributes:
        width: Of the pictures [px].
        height: Of the pictures [px].
        frames: Length of a clip.
        fps: Frames per second.
        dances: Share of clips with the demo's dance; the others are random motions.
        pairs: Share of clips with two people.
        close_ups: Share of clips whose heads fill 30 to 50 % of the height.
        half_bodies: Share of clips cut between hips and shins.

    Raises:
        ConfigError: If a size is below 16 px, a length or rate not positive, or a share not one.
    """

    width: int = DEMO_SIZE.width
    height: int = DEMO_SIZE.height
    frames: int = 8
    fps: float = 8.0
    dances: float = 0.25
    pairs: float = 0.08
    close_ups: float = 0.3
    half_bodies: float = 0.35

    def __post_init__(self) -> None:
        if min(self.width, self.height) < 16 or self.frames < 1 or not self.fps > 0:
            raise ConfigError(
                f"Drawn clips of {self.frames} frames of {self.width}x{self.height} px at "
                f"{self.fps} fps were asked for; give at least 16x16 px, one frame and a rate."
            )
        shares = (self.dances, self.pairs, self.close_ups, self.half_bodies)
        if min(shares) < 0 or max(shares) > 1 or self.close_ups + self.half_bodies > 1:
            raise ConfigError(
                f"Shares of drawn clips are {shares}; each must be in 0..1, and close-ups and half "
                "bodies together at most 1."
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnClip:
    """A clip, its reference picture and all that is known about them.

    Joints are exact also where they lie outside the picture or behind something; `visible_pose`
    removes those outside. The first person is the one in front.

    Attributes:
        reference: [H, W, 3] RGB, the same people and background in another pose.
        reference_pose: Their pose in it.
        frames: [T, H, W, 3] RGB.
        poses: T poses: 18 body joints, 68 face landmarks and both hands of every person.
        reference_face_boxes: [n, 4] as `face_boxes`.
        face_boxes: [T, n, 4] x0, y0, x1, y1 [px], clipped to the picture; 0 where no face is.
        face_masks: [T, H, W] bool, the boxes filled, as the published data has them.
        who: The n people.
        character_seeds: Their seeds.
    """

    reference: Pixels
    reference_pose: FramePose
    frames: Pixels
    poses: PoseSequence
    reference_face_boxes: Floats
    face_boxes: Floats
    face_masks: NDArray[np.bool_]
    who: tuple[Character, ...]
    character_seeds: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Portrait:
    """One picture of a face.

    Attributes:
        picture: [H, W, 3] RGB.
        points_px: [5, 2] eyes, nose tip and mouth corners, as seen left first.
        box: [4] x0, y0, x1, y1 of the face [px].
        crop: [112, 112, 3] RGB, aligned to the recogniser's template.
        pose: Of the person.
    """

    picture: Pixels
    points_px: Floats
    box: Floats
    crop: Pixels
    pose: FramePose


def split_of(seed: int) -> Split:
    """Which part of the data a seed belongs to.

    Raises:
        ConfigError: If it belongs to none.
    """
    for split, seeds in SPLIT_SEEDS.items():
        if seed in seeds:
            return split
    last = max(seeds.stop for seeds in SPLIT_SEEDS.values()) - 1
    raise ConfigError(f"The clip seed is {seed}; give one in 0..{last}.")


def draw_clip(
    seed: int,
    config: DrawnClipConfig | None = None,
    *,
    motion_seed: int | None = None,
    same_framing: bool = False,
) -> DrawnClip:
    """Draw a clip.

    Args:
        seed: One of `SPLIT_SEEDS`; equal seeds and configs give equal clips. The first person's
            character is that of the same seed.
        config: What clips look like.
        motion_seed: Of what they do, the framing and the second person, 0 or more; None takes
            `seed`.
        same_framing: Whether the reference is framed as the motion is. Otherwise it shows the
            person a little larger or smaller and elsewhere, as a picture from another time does.

    Raises:
        ConfigError: If the seed belongs to no split.
    """
    config = config or DrawnClipConfig()
    seeds = SPLIT_SEEDS[split_of(seed)]
    rng = np.random.default_rng([1, seed if motion_seed is None else motion_seed])
    who = [seed]
    if rng.random() < config.pairs:
        who.append(int(rng.integers(seeds.start, seeds.stop)))
    people = tuple(random_character(character) for character in who)
    framing = random_framing(rng, config.close_ups, config.half_bodies)
    stages = [
        _staged(rng, character, config, framing.beside(index, len(people)), same_framing)
        for index, character in enumerate(people)
    ]
    poses = [
        FramePose(people=row, width=config.width, height=config.height)
        for row in zip(*stages, strict=True)
    ]
    scene = people[0].scene
    pictures = np.stack(
        [draw_people(people, pose, config.width, config.height, scene) for pose in poses]
    )
    boxes = np.stack([[face_box(p, config.width, config.height) for p in x.people] for x in poses])
    return DrawnClip(
        reference=pictures[0],
        reference_pose=poses[0],
        frames=pictures[1:],
        poses=poses[1:],
        reference_face_boxes=boxes[0],
        face_boxes=boxes[1:],
        face_masks=_masks(boxes[1:], config.width, config.height),
        who=people,
        character_seeds=tuple(who),
    )


def _staged(
    rng: np.random.Generator,
    character: Character,
    config: DrawnClipConfig,
    framing: Framing,
    same_framing: bool,
) -> list[PersonPose]:
    """One person's reference pose and motion in the picture, [1 + T]."""
    size = (config.width, config.height)
    if rng.random() < config.dances:
        act = dance(character, config.frames, config.fps, int(rng.integers(2**31)))
    else:
        act = random_performance(rng, character, config.frames, config.fps)
    frames = fitted(act.frames, character.body, framing, size)
    varied = framing.varied(rng)  # drawn in any case: what follows must not depend on it
    reference = fitted([act.reference], character.body, framing if same_framing else varied, size)
    return [*reference, *frames]


def _masks(boxes: Floats, width: int, height: int) -> NDArray[np.bool_]:
    masks = np.zeros((len(boxes), height, width), dtype=bool)
    for mask, faces in zip(masks, boxes, strict=True):
        for left, top, right, bottom in np.rint(faces).astype(int):
            if right > left:
                mask[top : bottom + 1, left : right + 1] = True
    return masks


def five_points(person: PersonPose) -> Floats:
    """Eyes, nose tip and mouth corners, as seen left first: [5, 2] in pixels."""
    face = person.face[:, :2]
    eyes = [face[36:42].mean(axis=0), face[42:48].mean(axis=0)]
    return np.stack([*eyes, face[30], face[48], face[54]])


def visible_pose(frame: FramePose) -> FramePose:
    """The pose without the joints outside the picture, as a detector would find it."""
    last = np.array([frame.width - 1, frame.height - 1])

    def part(points: Floats) -> Floats:
        inside = np.all((points[:, :2] >= 0) & (points[:, :2] <= last), axis=1)
        return np.where(inside[:, None], points, 0.0)

    people = tuple(
        PersonPose(
            body=part(person.body),
            face=part(person.face),
            left_hand=part(person.left_hand),
            right_hand=part(person.right_hand),
        )
        for person in frame.people
    )
    return replace(frame, people=people)


def draw_portrait(character_seed: int, rng: np.random.Generator, size: int = 128) -> Portrait:
    """Draw someone's face in a pose, a place, light, and often clothes, of the moment.

    Args:
        character_seed: Who it is.
        rng: Draws all that is not the person.
        size: Width and height of the picture [px].
    """
    character = random_character(character_seed)
    if rng.random() < 0.7:
        character = replace(character, outfit=random_outfit(rng), scene=random_scene(rng))
    act: Performance = random_performance(rng, character, 1, 8.0)
    framing = random_framing(rng, close_ups=0.6, half_bodies=0.4)
    pose = act.frames[0] if rng.random() < 0.7 else act.reference
    person = fitted([pose], character.body, framing, (size, size))[0]
    turn = rng.normal(0.0, 0.1)
    person = _turned(person, turn, size / 2)
    frame = FramePose(people=(person,), width=size, height=size)
    picture = _in_light(rng, draw_people((character,), frame, size, size, character.scene))
    points = five_points(person)
    matrix = similarity_to_template(points)
    crop = cv2.warpAffine(picture, matrix, (FACE_SIZE, FACE_SIZE), flags=cv2.INTER_LINEAR)
    return Portrait(
        picture=picture,
        points_px=points,
        box=face_box(person, size, size),
        crop=np.asarray(crop, dtype=np.uint8),
        pose=frame,
    )


def _turned(person: PersonPose, angle: float, middle: float) -> PersonPose:
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    shift = np.array([middle, middle, 0.0])
    return PersonPose(
        body=(person.body - shift) @ turn + shift,
        face=(person.face - shift) @ turn + shift,
        left_hand=(person.left_hand - shift) @ turn + shift,
        right_hand=(person.right_hand - shift) @ turn + shift,
    )


def _in_light(rng: np.random.Generator, picture: Pixels) -> Pixels:
    """Brightness, tint and sharpness of the moment."""
    gain = rng.uniform(0.75, 1.2) * rng.normal(1.0, 0.025, 3)
    levels = np.linspace(0.0, 1.0, 256)[:, None] ** rng.uniform(0.8, 1.25) * gain
    table = np.rint(255 * levels.clip(0, 1)).astype(np.uint8)
    lit = cv2.LUT(picture, table[:, None])
    if rng.random() < 0.4:
        lit = cv2.GaussianBlur(lit, (0, 0), rng.uniform(0.4, 1.2))
    return np.asarray(lit, dtype=np.uint8)
