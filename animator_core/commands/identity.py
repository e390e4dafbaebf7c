"""Whose faces are kept: the identities of `animate`, and the command `encode-face`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..console import Console
from ..demo.model import DEMO_FOLDER
from ..errors import CheckpointError, ConfigError, NoFaceError
from ..faces.analysis import (
    AveragedFace,
    DetectedFace,
    FaceAnalyzer,
    average_faces,
    choose_face,
    find_antelope_files,
)
from ..frames import load_picture
from ..people import IDENTITY_SUFFIX, PersonIdentity, load_identity, save_identity
from ..video import read_frames
from .models import DEMO_MODEL
from .output import check_writable

__all__ = ["face_folder", "read_identities", "run_encode_face"]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Encoded:
    """The faces of several photographs of one person."""

    faces: list[DetectedFace]
    averaged: AveragedFace


def run_encode_face(args: Any, console: Console) -> int:
    """Encode the face of one person into a file; prints what was found as JSON.

    Raises:
        AnimatorError: If a photograph shows no such face, or a file cannot be read or written.
    """
    if Path(args.output).suffix != IDENTITY_SUFFIX:
        raise ConfigError(
            f"The identity is written as {IDENTITY_SUFFIX}, but {args.output} was asked for."
        )
    check_writable(args.output)
    analyzer = FaceAnalyzer(find_antelope_files(args.faces), threshold=args.threshold)
    found = _encode(args.input, analyzer, args.face, console)
    save_identity(torch.from_numpy(found.averaged.embedding), Path(args.output))
    photographs = [
        {
            "file": str(name),
            "height_px": round(face.height_px, 1),
            "score": round(face.score, 4),
            "cosine": round(cosine, 4),
            "used": used,
        }
        for name, face, cosine, used in zip(
            args.input, found.faces, found.averaged.cosines, found.averaged.used, strict=True
        )
    ]
    report = {"output": str(args.output), "photographs": photographs}
    console.result(json.dumps(report, indent=2))
    return 0


def _encode(
    files: Sequence[str], analyzer: FaceAnalyzer, index: int | None, console: Console
) -> _Encoded:
    faces: list[DetectedFace] = []
    for name in files:
        console.raise_if_cancelled()
        found = analyzer.analyze(load_picture(name))
        faces.append(choose_face(found, picture=str(name), index=index))
    return _Encoded(faces=faces, averaged=average_faces(faces, [str(name) for name in files]))


def read_identities(
    args: Any, reference: NDArray[np.uint8], console: Console
) -> tuple[PersonIdentity, ...]:
    """The identities that `animate` was asked to keep; the reference's largest face by default.

    Args:
        args: Has `model`, `faces`, `no_identity`, `identity` and `person`.
        reference: [H, W, 3] RGB.
        console: Told when there is no identity.

    Raises:
        NoFaceError: If a picture has no face; the message says how to go on without.
        CheckpointError: If the face networks that are needed are missing.
        ConfigError: If a person has more than one mask.
    """
    if args.no_identity:
        console.say(_why_no_identity(args))
        return ()
    opened = _LazyAnalyzer(face_folder(args), args.model)
    if args.person:
        return tuple(
            _person(number, words, opened, console) for number, words in enumerate(args.person)
        )
    if args.identity:
        return (PersonIdentity(face_embedding=_embedding(args.identity, opened, console)),)
    if opened.folder is None:
        console.say(_why_no_identity(args))
        return ()
    faces = opened.get().analyze(reference)
    try:
        face = choose_face(faces, picture=str(args.reference))
    except NoFaceError as error:
        if opened.folder != DEMO_FOLDER:
            raise
        console.say(
            "No identity: the built-in face detector knows drawn faces only. "
            f"For people name antelopev2's folder with --faces. ({error})"
        )
        return ()
    return (PersonIdentity(face_embedding=torch.from_numpy(face.embedding).float()),)


class _LazyAnalyzer:
    """Opens the face networks when a picture needs them: identity files do not."""

    def __init__(self, folder: Path | None, model: str) -> None:
        self.folder = folder
        self._model = model
        self._analyzer: FaceAnalyzer | None = None

    def get(self) -> FaceAnalyzer:
        if self.folder is None:
            raise CheckpointError(
                f"Encoding a face from a picture needs insightface's antelopev2, which the model "
                f"{self._model!r} does not bring; name its folder with --faces, or give an "
                "identity that encode-face wrote."
            )
        if self._analyzer is None:
            self._analyzer = FaceAnalyzer(find_antelope_files(self.folder))
        return self._analyzer


def _person(
    number: int, words: Sequence[str], opened: _LazyAnalyzer, console: Console
) -> PersonIdentity:
    if len(words) > 2:
        raise ConfigError(
            f"--person takes a face and at most one mask, but {len(words)} files were given: "
            f"{', '.join(words)}. Repeat --person for every person."
        )
    return PersonIdentity(
        face_embedding=_embedding(words[:1], opened, console),
        person=number,
        region=_read_masks(words[1], console) if len(words) == 2 else None,
    )


def _embedding(files: Sequence[str], opened: _LazyAnalyzer, console: Console) -> torch.Tensor:
    encoded = [name for name in files if Path(name).suffix == IDENTITY_SUFFIX]
    if not encoded:
        found = _encode(files, opened.get(), None, console)
        return torch.from_numpy(found.averaged.embedding).float()
    if len(files) > 1:
        raise ConfigError(
            f"{encoded[0]} already is an identity and cannot be averaged with other files; give it "
            "alone, or encode all photographs together with encode-face."
        )
    return load_identity(Path(encoded[0]))


def _read_masks(path: str, console: Console) -> torch.Tensor:
    """Masks [frames, H, W] of a picture, video or folder; white is where the face acts."""
    masks: list[torch.Tensor] = []
    for frame in read_frames(path):
        console.raise_if_cancelled()
        masks.append(torch.from_numpy(frame.max(axis=2)).float() / 255)
    return torch.stack(masks)


def face_folder(args: Any) -> Path | None:
    """Folder of antelopev2, or None where the run has no face networks."""
    if args.no_identity:
        return None
    if args.faces is not None:
        return Path(args.faces)
    if args.model == DEMO_MODEL:
        return DEMO_FOLDER
    try:
        find_antelope_files(args.model)
    except CheckpointError:
        return None
    return Path(args.model)


def _why_no_identity(args: Any) -> str:
    if args.no_identity:
        return "No identity: the face is not tied to the reference's."
    return (
        f"WARNING: no identity. {args.model} holds no antelopev2, so the reference's face cannot "
        "be encoded and will not be kept; put antelopev2 there, or name its folder with --faces."
    )
