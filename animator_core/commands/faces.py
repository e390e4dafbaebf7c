"""The face refinement of `animate`."""

from __future__ import annotations

from typing import Any

from ..config import FaceRefineConfig
from ..errors import ConfigError
from ..interfaces import DenoisedCorrection
from ..pipeline import AnimationRequest, Animator
from ..refining import FaceRefinement, build_refiner, load_recogniser
from .identity import face_folder

__all__ = ["make_refiner", "refine_config"]


def refine_config(args: Any, steps: int) -> FaceRefineConfig | None:
    """Settings of `--refine-*`, or None if refinement is off.

    Raises:
        ConfigError: If they contradict each other, or nothing says whose face it is.
    """
    if not args.refine_iterations:
        return None
    if face_folder(args) is None:
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
    folder = face_folder(args)
    if config is None or folder is None:
        return None
    return build_refiner(
        request,
        animator.models,
        FaceRefinement(config=config, recogniser=load_recogniser(folder)),
        devices=animator.devices,
        monitor=animator.monitor,
    )
