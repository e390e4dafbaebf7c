"""Whose face belongs where: per-person identities, their regions and their fade over time."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .checkpoints.writing import write_safetensors
from .config import LATENT_SCALE, Fit, FrameSize
from .driving import DrivingMotion, fit_pose
from .errors import CheckpointError, ConfigError, NoPoseError, ShapeError
from .faces.masks import part_boxes, soft_masks
from .faces.visibility import face_visibility
from .frames import fit_picture
from .pose.keypoints import FramePose, part_array

__all__ = [
    "IDENTITY_SUFFIX",
    "PersonIdentity",
    "check_people",
    "fit_mask",
    "identity_fade",
    "identity_regions",
    "load_identity",
    "save_identity",
]

IDENTITY_SUFFIX = ".safetensors"
"""Of files that hold one encoded face."""

log = logging.getLogger(__name__)

_FACE_KEY = "face_embedding"
_REGION_GROWTH = 0.1
_REGION_FEATHER = 0.3
"""A tracked region is the head's box, grown and feathered by these shares of its sides."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PersonIdentity:
    """One person's face, and where it belongs.

    Attributes:
        face_embedding: Raw (not normalised) embedding of the face recogniser [d].
        person: Whom of the motion it belongs to, an index into each frame's people; None for
            nobody in particular.
        region: Where it acts, [frames or 1, H, W] in 0..1, fitted into the output as the motion's
            pictures are. None: everywhere for a single identity; among several the driven
            person's head, or, with `person` None, wherever no other identity acts.
    """

    face_embedding: Tensor
    person: int | None = 0
    region: Tensor | None = None


def check_people(people: Sequence[PersonIdentity]) -> None:
    """Raise if the identities contradict each other.

    Raises:
        ConfigError: If two follow the same person, or two claim the rest of the frame.
        ShapeError: If a region is no mask, or their embeddings differ in width.
    """
    for number, person in enumerate(people):
        region = person.region
        if region is not None and (region.ndim != 3 or 0 in region.shape):
            raise ShapeError(
                f"The region of identity {number} has shape {tuple(region.shape)} but [frames or "
                "1, height, width] is expected; connect a mask."
            )
        if person.person is not None and person.person < 0:
            raise ConfigError(
                f"Identity {number} belongs to person {person.person}; people are counted from 0."
            )
    followed = [p.person for p in people if p.region is None]
    if len(set(followed)) < len(followed):
        raise ConfigError(
            f"Several identities belong to the same person of the motion ({followed}); give each "
            "its own person, or a region of its own."
        )


def identity_regions(
    people: Sequence[PersonIdentity],
    motion: DrivingMotion,
    num_frames: int,
    size: FrameSize,
    fit: Fit,
    *,
    lead_frames: int = 0,
) -> Float[Tensor, "frames people h w"] | None:
    """How much each identity counts at each latent pixel.

    Where regions overlap by more than 1 in sum they share; the sum is never above 1.

    Args:
        people: The identities.
        motion: The driving motion; without keypoints regions cannot follow people.
        num_frames: Frames to animate.
        size: Output size.
        fit: How the motion is fitted into it.
        lead_frames: Frames in the reference's own pose that come before. There a followed person
            is where that pose has it, if it does, and a mask is the first one.

    Returns:
        [lead_frames + num_frames, people, h, w], float32, on the CPU; None where a single
        identity acts everywhere.

    Raises:
        NoPoseError: If a region should follow a person but the motion has no keypoints.
        ShapeError: If a region has another number of frames than the motion.
        ConfigError: If an identity acts nowhere.
    """
    check_people(people)
    if len(people) == 0 or (len(people) == 1 and people[0].region is None):
        return None
    height, width = size.height // LATENT_SCALE, size.width // LATENT_SCALE
    regions = torch.zeros(lead_frames + num_frames, len(people), height, width)
    rest: int | None = None
    for number, person in enumerate(people):
        if person.region is not None:
            masks = _matching_masks(person.region, number, motion, num_frames)
            fitted = [F.avg_pool2d(fit_mask(m, size, fit)[None], LATENT_SCALE)[0] for m in masks]
            regions[:lead_frames, number] = fitted[0]
            regions[lead_frames:, number] = torch.stack(fitted)
        elif person.person is None:
            rest = number
        else:
            poses = _followed_poses(person.person, motion, num_frames, lead_frames)
            fitted_poses = [fit_pose(pose, size, fit) for pose in poses]
            regions[:, number] = _head_region(person.person, fitted_poses)
    regions = regions / regions.sum(dim=1, keepdim=True).clamp_min(1.0)
    if rest is not None:
        regions[:, rest] = (1 - regions.sum(dim=1)).clamp_min(0)
    for number in range(len(people)):
        if not (regions[:, number] > 0).any():
            raise ConfigError(
                f"Identity {number} acts nowhere: its region is black in all {num_frames} frames, "
                "or its person is never seen; give another region or person, or leave it out."
            )
    return regions


def fit_mask(
    mask: Float[Tensor, "height width"], size: FrameSize, fit: Fit
) -> Float[Tensor, "height2 width2"]:
    """Bring a mask to the output size as the motion's pictures are; bars are black.

    Args:
        mask: In 0..1; other values are clipped.
        size: Output size.
        fit: How it is fitted.
    """
    grey = (mask.detach().cpu().float().nan_to_num(0).clamp(0, 1) * 255).round().byte().numpy()
    picture = np.repeat(grey[..., None], 3, axis=2)
    return torch.from_numpy(fit_picture(picture, size, fit)[..., 0].copy()).float() / 255


def _matching_masks(region: Tensor, number: int, motion: DrivingMotion, num_frames: int) -> Tensor:
    if region.shape[0] not in (1, num_frames, motion.num_frames):
        raise ShapeError(
            f"The region of identity {number} has {region.shape[0]} masks; give one for all "
            f"frames, or {num_frames}, one for each."
        )
    return region[:num_frames]


def _followed_poses(
    person: int, motion: DrivingMotion, num_frames: int, lead_frames: int
) -> list[FramePose]:
    if motion.poses is None:
        raise NoPoseError(
            "Several identities follow their people by the motion's keypoints, but it has only "
            "skeleton pictures; connect the keypoints too, or give each identity a region."
        )
    poses = list(motion.poses[:num_frames])
    reference, first = motion.reference_pose, poses[0]
    if reference is not None and person < len(reference.people):
        first = reference
    return [first] * lead_frames + poses


def _head_region(person: int, poses: Sequence[FramePose]) -> Tensor:
    body, face = part_array(poses, "body", person), part_array(poses, "face", person)
    height, width = poses[0].height, poses[0].width
    boxes = part_boxes(body, face, "head", height, width)
    grown = [None if box is None else box.grown(_REGION_GROWTH) for box in boxes]
    return soft_masks(
        grown,
        height // LATENT_SCALE,
        width // LATENT_SCALE,
        feather=_REGION_FEATHER,
        scale=1 / LATENT_SCALE,
    )


def identity_fade(
    people: Sequence[PersonIdentity], motion: DrivingMotion, num_frames: int, fade: float
) -> Float[Tensor, "frames people"]:
    """What each identity's strength is multiplied by in each frame.

    Args:
        people: The identities; those of nobody in particular never fade.
        motion: The driving motion, with keypoints.
        num_frames: Frames to animate.
        fade: 0 for no fade, 1 to fade to nothing where the face cannot be seen.

    Raises:
        NoPoseError: If the motion has no keypoints.
    """
    if motion.poses is None:
        raise NoPoseError(
            "The identity fade looks at the driven faces, but the motion has only skeleton "
            "pictures; connect its keypoints too, or set the fade to 0."
        )
    poses = motion.poses[:num_frames]
    factors = torch.ones(num_frames, len(people))
    for number, identity in enumerate(people):
        if identity.person is None:
            continue
        body = part_array(poses, "body", identity.person)
        visible = face_visibility(body, part_array(poses, "face", identity.person))
        if not visible.any():
            log.warning(
                "the face of person %d is seen in no frame; its identity fades in all of them",
                identity.person,
            )
        factors[:, number] = 1 - fade * (1 - torch.from_numpy(visible).float())
    return factors


def save_identity(face_embedding: Float[Tensor, " d"], path: Path) -> None:
    """Write one encoded face; replaces the file.

    Raises:
        CheckpointError: If it cannot be written.
    """
    metadata = {"format": "pt", "kind": "stableanimator identity"}
    write_safetensors(path, {_FACE_KEY: face_embedding}, metadata=metadata, overwrite=True)


def load_identity(path: Path) -> Float[Tensor, " d"]:
    """Read one encoded face.

    Raises:
        CheckpointError: If the file is missing, damaged, or holds something else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"The identity {path} cannot be read: {error}.") from error
    face = state.get(_FACE_KEY)
    if len(state) != 1 or face is None or face.ndim != 1 or not face.isfinite().all():
        raise CheckpointError(
            f"{path} is no identity: it holds {', '.join(sorted(state)) or 'nothing'}, but one "
            f"finite vector {_FACE_KEY!r} is expected; write it with encode-face."
        )
    return face.float()
