"""Between ComfyUI's socket values and the core's face analysis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..animator_core.errors import NoPoseError
from ..animator_core.faces.analysis import (
    FaceAnalyzer,
    average_faces,
    choose_face,
    find_antelope_files,
)
from ..animator_core.faces.crops import similarity_to_template, warp_faces
from ..animator_core.faces.masks import PersonPart, part_boxes, soft_masks
from ..animator_core.faces.similarity import SimilarityCurve, face_similarity
from ..animator_core.frames import from_model_range, to_model_range
from ..animator_core.interfaces import Monitor
from ..animator_core.people import PersonIdentity, check_people
from ..animator_core.pose.keypoints import part_array, scale_to_canvas
from .families import family_folder
from .translation import Uint8Frames, driving_frames
from .types import Family, Identity

__all__ = [
    "EncodedFaces",
    "combined_people",
    "encode_faces",
    "open_analyzer",
    "people_note",
    "person_masks",
    "similarity_curves",
]


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedFaces:
    """One identity from one or several photographs.

    Attributes:
        embedding: [512], not normalised.
        preview: IMAGE batch of the aligned faces.
        note: What was found, for the node's face.
    """

    embedding: NDArray[np.float32]
    preview: Tensor
    note: str


def open_analyzer(family: Family, threshold: float) -> FaceAnalyzer:
    """Face detector and recogniser of a family.

    Args:
        family: Whose.
        threshold: Least detection score, 0..1.

    Raises:
        CheckpointError: If they are not installed.
    """
    return FaceAnalyzer(find_antelope_files(family_folder(family)), threshold=threshold)


def encode_faces(images: Tensor, analyzer: FaceAnalyzer, index: int | None) -> EncodedFaces:
    """Find and encode the face of every picture, and average them.

    Args:
        images: IMAGE batch of one person.
        analyzer: Finds and embeds faces.
        index: Which face, from the left; None for the largest.

    Raises:
        NoFaceError: If a picture shows no such face.
    """
    names = [f"picture {number}" for number in range(len(images))]
    faces, crops = [], []
    for name, picture in zip(names, Uint8Frames(images), strict=True):
        face = choose_face(analyzer.analyze(picture), picture=name, index=index)
        points = np.column_stack([face.points_px, np.ones(5)]).astype(np.float64)
        matrix = similarity_to_template(points)
        crops.append(warp_faces(to_model_range(picture[None]), [matrix]))
        faces.append(face)
    averaged = average_faces(faces, names)
    sizes = ", ".join(f"{face.height_px:.0f} px" for face in faces)
    left_out = len(faces) - sum(averaged.used)
    note = f"{len(faces)} face(s), {sizes} high"
    return EncodedFaces(
        embedding=averaged.embedding,
        preview=from_model_range(torch.cat(crops)),
        note=f"{note}; {left_out} unlike the others left out" if left_out else note,
    )


def person_masks(
    poses: Any, person: int, part: PersonPart, *, grow: float, feather: float
) -> tuple[Tensor, int]:
    """MASK batch of a part of one person, and in how many frames it is not seen.

    Args:
        poses: POSE_KEYPOINT value.
        person: Index of the person.
        part: Which part.
        grow: Share of the sides that is added on every side.
        feather: Width of the soft edge as a share of the shorter side.

    Raises:
        NoPoseError: If there is no such person in any frame.
    """
    frames = driving_frames(poses)
    most = max(len(frame.people) for frame in frames)
    if person >= most:
        raise NoPoseError(
            f"Person {person} is in none of the {len(frames)} frames, which show at most {most}; "
            "people are counted from 0."
        )
    height, width = frames[0].height, frames[0].width
    frames = [scale_to_canvas(frame, width, height) for frame in frames]
    body, face = part_array(frames, "body", person), part_array(frames, "face", person)
    boxes = part_boxes(body, face, part, height, width)
    grown = [None if box is None else box.grown(grow) for box in boxes]
    return soft_masks(grown, height, width, feather=feather), sum(box is None for box in boxes)


def combined_people(identities: Sequence[Identity]) -> tuple[PersonIdentity, ...]:
    """All people of several identities.

    Raises:
        ConfigError: If two of them claim the same place.
    """
    people = tuple(person for identity in identities for person in identity.people)
    check_people(people)
    return people


def people_note(people: Sequence[PersonIdentity]) -> str:
    """Whose face goes where, for the node's face."""
    lines = []
    for number, identity in enumerate(people):
        if identity.region is not None:
            place = "where its mask is white"
        elif identity.person is None:
            place = "everywhere else"
        else:
            place = f"at the head of person {identity.person}"
        lines.append(f"face {number}: {place}")
    return "\n".join(lines)


def similarity_curves(
    images: Tensor, people: Sequence[PersonIdentity], analyzer: FaceAnalyzer, monitor: Monitor
) -> list[SimilarityCurve]:
    """Per person the similarity of an IMAGE batch's faces to theirs."""
    several = len(people) > 1
    curves = []
    for number, person in enumerate(people):
        reference = person.face_embedding.numpy()
        curve = face_similarity(Uint8Frames(images), reference, analyzer, monitor)
        curves.append(replace(curve, name=f"face {number}") if several else curve)
    return curves
