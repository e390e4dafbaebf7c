"""Finding faces in photographs and embedding them, with insightface's networks."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CheckpointError, DependencyError, NoFaceError, ShapeError
from ..models.face_recognition import FACE_SIZE
from .crops import similarity_to_template

__all__ = [
    "AntelopeFiles",
    "AveragedFace",
    "DetectedFace",
    "FaceAnalyzer",
    "average_faces",
    "choose_face",
    "find_antelope_files",
]

log = logging.getLogger(__name__)
Floats = NDArray[np.float32]
Picture = NDArray[np.uint8]

_PROVIDERS = (
    "CUDAExecutionProvider",
    "ROCMExecutionProvider",
    "DmlExecutionProvider",
    "CoreMLExecutionProvider",
    "CPUExecutionProvider",
)
_WAYS_OUT = (
    "Use a larger or clearer photograph that shows the face from the front, lower the detection "
    "threshold, or choose to animate without identity (right for masks, cartoons and back views)"
)


@dataclass(frozen=True, kw_only=True)
class AntelopeFiles:
    """The two files of antelopev2 that are needed.

    Attributes:
        detector: `scrfd_10g_bnkps.onnx`.
        recogniser: `glintr100.onnx`.
    """

    detector: Path
    recogniser: Path


def find_antelope_files(folder: str | Path) -> AntelopeFiles:
    """Locate antelopev2, also when its archive was unzipped one folder too deep.

    Args:
        folder: The folder that holds the ONNX files, or one above it.

    Raises:
        CheckpointError: If a file is missing; the message says which, and where it was looked for.
    """
    folder = Path(folder)
    places = (folder, folder / "antelopev2", folder / "antelopev2" / "antelopev2")
    names = ("scrfd_10g_bnkps.onnx", "glintr100.onnx")
    found = [[place / n for place in places if (place / n).is_file()] for n in names]
    missing = [name for name, where in zip(names, found, strict=True) if not where]
    if missing:
        raise CheckpointError(
            f"Face analysis needs {' and '.join(missing)} of insightface's antelopev2 in {folder} "
            f"or {folder / 'antelopev2'}, but found nothing there; download and unzip antelopev2 "
            "(for non-commercial research only)."
        )
    return AntelopeFiles(detector=found[0][0], recogniser=found[1][0])


@dataclass(frozen=True, kw_only=True, eq=False)
class DetectedFace:
    """One face in a picture.

    Attributes:
        box_px: [4] left, top, right, bottom; may reach beyond the picture.
        points_px: [5, 2] eyes, nose tip and mouth corners, as seen: left first.
        score: Of the detector, 0..1.
        embedding: [d] of the recogniser, not normalised.
    """

    box_px: Floats
    points_px: Floats
    score: float
    embedding: Floats

    @property
    def normed(self) -> Floats:
        """The embedding at length 1, whose products are cosines."""
        return self.embedding / max(float(np.linalg.norm(self.embedding)), 1e-12)

    @property
    def height_px(self) -> float:
        """Height of the box."""
        return float(self.box_px[3] - self.box_px[1])

    @property
    def area_px(self) -> float:
        """Area of the box."""
        return float((self.box_px[2] - self.box_px[0]) * self.height_px)


class FaceAnalyzer:
    """Detects faces (SCRFD) and embeds them (ArcFace).

    Args:
        files: The two networks.
        threshold: Least detection score, 0..1.
        providers: Execution providers to try, best first, by onnxruntime's names; None tries all
            that are there, the CPU last.

    Raises:
        CheckpointError: If a file is damaged or another network.
        DependencyError: If insightface is missing, or no provider works.
    """

    def __init__(
        self,
        files: AntelopeFiles,
        *,
        threshold: float = 0.5,
        providers: Sequence[str] | None = None,
    ) -> None:
        self._detector = _open(files.detector, "detection", providers)
        self._recogniser = _open(files.recogniser, "recognition", providers)
        self._detector.prepare(ctx_id=0, det_thresh=threshold)

    def analyze(self, picture: Picture) -> list[DetectedFace]:
        """Find and embed all faces.

        Args:
            picture: uint8 [H, W, 3], RGB.

        Returns:
            The faces from left to right; empty if there are none.

        Raises:
            ShapeError: If it is no such picture.
        """
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise ShapeError(
                "Face analysis takes a uint8 picture [H, W, 3] in RGB but got "
                f"{picture.dtype} {picture.shape}."
            )
        bgr = np.ascontiguousarray(picture[..., ::-1])  # as insightface asks
        boxes, points = self._detector.detect(bgr)
        faces = [
            DetectedFace(
                box_px=box[:4],
                points_px=five,
                score=float(box[4]),
                embedding=self._embed(bgr, five),
            )
            for box, five in zip(boxes, points, strict=True)
        ]
        return sorted(faces, key=lambda face: float(face.box_px[0] + face.box_px[2]))

    def embed_crops(self, crops: NDArray[np.uint8]) -> Floats:
        """Embed faces that are already aligned.

        Args:
            crops: uint8 [n, 112, 112, 3], RGB.

        Returns:
            [n, d], not normalised.
        """
        return np.stack([self._feature(np.ascontiguousarray(c[..., ::-1])) for c in crops])

    def _embed(self, bgr: Picture, points: Floats) -> Floats:
        import cv2

        matrix = similarity_to_template(points.astype(np.float64))
        return self._feature(cv2.warpAffine(bgr, matrix, (FACE_SIZE, FACE_SIZE), borderValue=0.0))

    def _feature(self, crop_bgr: Any) -> Floats:
        return self._recogniser.get_feat(crop_bgr).reshape(-1).astype(np.float32)


def _open(path: Path, task: str, providers: Sequence[str] | None) -> Any:
    try:
        import onnxruntime
        from insightface.model_zoo import get_model
    except ImportError as error:
        raise DependencyError(
            f"Face analysis needs insightface 2.1 or newer and onnxruntime ({error}); install them "
            "with: pip install 'insightface>=2.1' onnxruntime"
        ) from error
    if not path.is_file():
        raise CheckpointError(f"There is no face {task} network at {path}.")
    available = onnxruntime.get_available_providers()
    wanted = [p for p in (providers or _PROVIDERS) if p in available]
    failures: list[str] = []
    for provider in wanted:
        try:
            # both libraries print what they try, where a command prints its result
            with redirect_stdout(sys.stderr):
                model: Any = get_model(str(path), providers=_with_cpu(provider))
            active = model.session.get_providers()[0] if model is not None else provider
        except Exception as error:  # noqa: BLE001 - onnxruntime's errors have no common base
            failures.append(f"{provider}: {str(error).splitlines()[0][:200]}")
            continue
        if getattr(model, "taskname", None) != task:
            raise CheckpointError(
                f"{path} should be antelopev2's face {task} network but is another one; use "
                "scrfd_10g_bnkps.onnx for detection and glintr100.onnx for recognition."
            )
        if active == provider:
            return model
        failures.append(f"{provider}: onnxruntime fell back to {active}")
    details = "; ".join(failures) or f"onnxruntime has only {', '.join(available)}"
    kind = CheckpointError if any(_is_damage(f) for f in failures) else DependencyError
    raise kind(
        f"{path.name} cannot be run ({details}). Download the file again if it is damaged, else "
        "allow the CPUExecutionProvider or repair the installation of onnxruntime."
    )


def _with_cpu(provider: str) -> list[str]:
    # accelerators lack a few operators
    return list(dict.fromkeys((provider, "CPUExecutionProvider")))


def _is_damage(message: str) -> bool:
    return any(sign in message.lower() for sign in ("protobuf", "parse", "decode", "invalid"))


def choose_face(
    faces: Sequence[DetectedFace],
    *,
    picture: str,
    index: int | None = None,
    minimum_px: float = 20.0,
) -> DetectedFace:
    """Pick one of a picture's faces.

    Args:
        faces: From `FaceAnalyzer.analyze`.
        picture: What to call the picture in messages.
        index: Which face, counted from the left and from 0; None for the largest.
        minimum_px: Least height of a face that can be told from others.

    Raises:
        NoFaceError: If there is no such face, or it is too small; the message says what to do.
    """
    if not faces:
        raise NoFaceError(f"No face was found in {picture}. {_WAYS_OUT}.")
    if index is not None and not 0 <= index < len(faces):
        raise NoFaceError(
            f"Face {index} of {picture} was asked for, but it shows {len(faces)}: they are counted "
            f"from the left, 0 to {len(faces) - 1}."
        )
    face = max(faces, key=lambda f: f.area_px) if index is None else faces[index]
    if face.height_px < minimum_px:
        raise NoFaceError(
            f"The face in {picture} is only {face.height_px:.0f} px high; {minimum_px:.0f} px are "
            f"the least that can be recognised. {_WAYS_OUT}."
        )
    return face


@dataclass(frozen=True, kw_only=True, eq=False)
class AveragedFace:
    """One person's face from several photographs.

    Attributes:
        embedding: [d], as long as the embeddings are on average.
        cosines: Of each photograph's face to it.
        used: Whether each photograph is part of it.
    """

    embedding: Floats
    cosines: tuple[float, ...]
    used: tuple[bool, ...]


def average_faces(
    faces: Sequence[DetectedFace], pictures: Sequence[str], *, least_cosine: float = 0.3
) -> AveragedFace:
    """One embedding of a person from several photographs.

    A photograph that resembles the others too little is left out if at least two agreeing ones
    remain; a warning names it either way.

    Args:
        faces: One per photograph.
        pictures: What to call the photographs in messages.
        least_cosine: A face whose cosine to the mean of the others is below it is an outlier.

    Raises:
        NoFaceError: If there is no face at all.
    """
    if not faces:
        raise NoFaceError(f"No photograph with a face was given. {_WAYS_OUT}.")
    normed = np.stack([face.normed for face in faces])
    kept = np.ones(len(faces), dtype=bool)
    if len(faces) > 1:
        others = normed.sum(axis=0) - normed
        agreement = (normed * others).sum(axis=1) / np.maximum(
            np.linalg.norm(others, axis=1), 1e-12
        )
        outlier = agreement < least_cosine
        if outlier.any():
            kept = ~outlier if (~outlier).sum() >= 2 else kept
            named = ", ".join(
                f"{name} (cosine {value:.2f})"
                for name, value, odd in zip(pictures, agreement, outlier, strict=True)
                if odd
            )
            log.warning(
                "The reference photographs seem to show different people: %s. %s",
                named,
                "All are kept." if kept.all() else "They are left out.",
            )
    mean = normed[kept].mean(axis=0)
    mean = mean / max(float(np.linalg.norm(mean)), 1e-12)
    length = np.mean([np.linalg.norm(f.embedding) for f, k in zip(faces, kept, strict=True) if k])
    return AveragedFace(
        embedding=(mean * length).astype(np.float32),
        cosines=tuple((normed @ mean).tolist()),
        used=tuple(kept.tolist()),
    )
