"""The reference's face, for `animate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..config import FaceRefineConfig
from ..console import Console
from ..errors import CheckpointError, ConfigError
from ..faces.analysis import FaceAnalyzer, choose_face, find_antelope_files
from ..interfaces import DenoisedCorrection
from ..pipeline import AnimationRequest, Animator
from ..refining import build_refiner, load_recogniser
from .models import DEMO_MODEL

__all__ = ["encode_reference_face", "make_refiner", "refine_config"]


def encode_reference_face(
    args: Any, reference: NDArray[np.uint8], console: Console
) -> torch.Tensor | None:
    """Raw embedding of the largest face of the reference, or None for no identity.

    Args:
        args: Has `model`, `faces` and `no_identity`.
        reference: [H, W, 3] RGB.
        console: Told when there is no identity.

    Raises:
        NoFaceError: If there is no face; the message says how to go on without.
        CheckpointError: If the face networks that were named are missing.
    """
    folder = _face_folder(args)
    if folder is None:
        console.say(_why_no_identity(args))
        return None
    analyzer = FaceAnalyzer(find_antelope_files(folder))
    face = choose_face(analyzer.analyze(reference), picture=str(args.reference))
    return torch.from_numpy(np.asarray(face.embedding, dtype=np.float32))


def _face_folder(args: Any) -> Path | None:
    """Folder of antelopev2, or None where the run has no identity."""
    if args.no_identity:
        return None
    if args.faces is not None:
        return Path(args.faces)
    if args.model == DEMO_MODEL:
        return None
    try:
        find_antelope_files(args.model)
    except CheckpointError:
        return None
    return Path(args.model)


def _why_no_identity(args: Any) -> str:
    if args.no_identity or args.model == DEMO_MODEL:
        return "No identity: the face is not tied to the reference's."
    return (
        f"WARNING: no identity. {args.model} holds no antelopev2, so the reference's face cannot "
        "be encoded and will not be kept; put antelopev2 there, or name its folder with --faces."
    )


def refine_config(args: Any, steps: int) -> FaceRefineConfig | None:
    """Settings of `--refine-*`, or None if refinement is off.

    Raises:
        ConfigError: If they contradict each other, or nothing says whose face it is.
    """
    if not args.refine_iterations:
        return None
    if _face_folder(args) is None:
        raise ConfigError(
            "--refine-iterations needs the reference's face; give --faces FOLDER with "
            "insightface's antelopev2, and leave --no-identity out."
        )
    defaults = FaceRefineConfig()
    first = defaults.first_step if args.refine_start is None else args.refine_start
    last = min(defaults.last_step, steps - 1) if args.refine_end is None else args.refine_end
    return FaceRefineConfig(
        iterations=args.refine_iterations, first_step=first, last_step=max(last, first)
    )


def make_refiner(
    args: Any, config: FaceRefineConfig | None, request: AnimationRequest, animator: Animator
) -> DenoisedCorrection | None:
    """The refiner of a run, or None if refinement is off."""
    folder = _face_folder(args)
    if config is None or folder is None:
        return None
    return build_refiner(
        request,
        animator.models,
        load_recogniser(folder),
        config,
        devices=animator.devices,
        monitor=animator.monitor,
    )
