"""CSIM: cosine similarity of faces."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import CheckpointError
from ..faces.analysis import FaceAnalyzer, choose_face, find_antelope_files
from ..faces.similarity import face_similarity
from ..frames import load_picture
from .measures import ClipResult, ClipSource, Measure, MetricUnavailableError
from .regions import Picture

__all__ = ["CsimMeasure", "open_face_analyzer"]


def open_face_analyzer(folders: list[Path]) -> FaceAnalyzer:
    """Face networks (antelopev2) of the first folder that has them.

    Raises:
        MetricUnavailableError: If none has.
        CheckpointError: If a file is damaged.
    """
    for folder in folders:
        try:
            files = find_antelope_files(folder)
        except CheckpointError:
            continue  # the message below names all folders
        return FaceAnalyzer(files)
    looked = " or ".join(str(folder) for folder in folders) or "no folder"
    raise MetricUnavailableError(
        "needs insightface's antelopev2 (scrfd_10g_bnkps.onnx and glintr100.onnx), which is not "
        f"in {looked}; name its folder with --faces"
    )


class CsimMeasure(Measure):
    """Cosine of ArcFace embeddings, per frame and mean.

    Protocol: of the faces in a generated frame the one most like the reference counts. The
    reference is the identity picture's largest face; without such a picture, the largest face of
    the target's same frame. Frames without a face in the generated (or the target) picture are
    left out of the mean and counted.

    Args:
        analyzer: Finds and embeds faces.
        reference: Embedding [d] for all clips; None takes each clip's identity picture.
    """

    def __init__(
        self, analyzer: FaceAnalyzer, reference: NDArray[np.float32] | None = None
    ) -> None:
        self._analyzer = analyzer
        self._given = reference
        self._reference = reference
        self._values: list[float] = []
        self._targets_without_face = 0
        self._embedded: dict[Path, NDArray[np.float32]] = {}

    def begin(self, source: ClipSource) -> None:
        """Embed the clip's identity picture.

        Raises:
            NoFaceError: If it shows no face.
            MediaError: If it cannot be read.
        """
        self._values, self._targets_without_face = [], 0
        self._reference = self._given
        if self._given is None and source.identity is not None:
            if source.identity not in self._embedded:
                faces = self._analyzer.analyze(load_picture(source.identity))
                face = choose_face(faces, picture=str(source.identity))
                self._embedded[source.identity] = face.embedding
            self._reference = self._embedded[source.identity]

    def add(self, generated: Picture, target: Picture | None) -> None:
        """Compare the faces of a frame."""
        reference = self._reference
        if reference is None:
            assert target is not None
            faces = self._analyzer.analyze(target)
            if not faces:
                self._targets_without_face += 1
                self._values.append(math.nan)
                return
            reference = max(faces, key=lambda face: face.area_px).embedding
        curve = face_similarity(generated[None], reference, self._analyzer)
        self._values.append(curve.values[0])

    def end(self) -> ClipResult:
        """Mean over the frames that show a face."""
        without = sum(math.isnan(v) for v in self._values) - self._targets_without_face
        counts = {"frames_without_face": without}
        if self._reference is None:
            counts["target_frames_without_face"] = self._targets_without_face
        return ClipResult.of_frames(
            self._values, counts, f"none of {len(self._values)} frames shows a face"
        )
