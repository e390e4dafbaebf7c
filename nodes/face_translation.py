"""Between ComfyUI's socket values and the core's face analysis."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..animator_core.faces.analysis import (
    FaceAnalyzer,
    average_embedding,
    choose_face,
    find_antelope_files,
)
from ..animator_core.faces.crops import similarity_to_template, warp_faces
from ..animator_core.frames import from_model_range, to_model_range
from .translation import Uint8Frames

__all__ = ["EncodedFaces", "encode_faces", "open_analyzer"]


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


def open_analyzer(folder: Path, threshold: float) -> FaceAnalyzer:
    """Face detector and recogniser of a folder."""
    return FaceAnalyzer(find_antelope_files(folder), threshold=threshold)


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
    embedding = average_embedding(faces, names)
    sizes = ", ".join(f"{face.height_px:.0f} px" for face in faces)
    return EncodedFaces(
        embedding=np.asarray(embedding, dtype=np.float32),
        preview=from_model_range(torch.cat(crops)),
        note=f"{len(faces)} face(s), {sizes} high",
    )
