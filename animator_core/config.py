"""Settings of a run: frozen, validated on creation, and the single home of every default."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from .errors import ConfigError

__all__ = [
    "LATENT_SCALE",
    "Anchor",
    "CropMethod",
    "DecodeConfig",
    "FaceRefineConfig",
    "Fit",
    "FrameSize",
    "GuidanceConfig",
    "RefineMode",
    "SamplingConfig",
    "WindowConfig",
]

Anchor = Literal["first_frame", "reference_pose", "none"]
Fit = Literal["letterbox", "crop", "stretch"]
BranchBatching = Literal["auto", "together", "apart"]
CropMethod = Literal["auto", "aligned", "box"]
RefineMode = Literal["local", "reference"]

LATENT_SCALE = 8
"""Pixels per latent pixel along each side."""


def _at_least(name: str, value: float, low: float) -> None:
    if not value >= low:  # written so that NaN fails too
        raise ConfigError(f"{name} is {value} but must be at least {low}.")


@dataclass(frozen=True, kw_only=True)
class FrameSize:
    """Size of the generated frames; the model may ask for more than a multiple of 8.

    Attributes:
        width: In pixels.
        height: In pixels.
    """

    width: int = 512
    height: int = 512

    def __post_init__(self) -> None:
        self.check_multiple(LATENT_SCALE)

    def check_multiple(self, multiple: int) -> None:
        """Raise if a side is not a positive multiple of a number of pixels.

        Raises:
            ConfigError: Naming the nearest sizes that would do.
        """
        for name, value in (("width", self.width), ("height", self.height)):
            if value < multiple or value % multiple:
                below = max(value // multiple, 1) * multiple
                raise ConfigError(
                    f"The {name} is {value} px but must be a multiple of {multiple}; "
                    f"use {below} or {below + multiple}."
                )


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """How a long clip is cut into overlapping windows.

    Attributes:
        frames: Window length, in frames; a shorter clip is one window of its own length.
        overlap: Frames that neighbouring windows share, counting the anchor frame.
        anchor: What every window starts with. `first_frame`: frame 0 in place of the window's own
            first frame, as the reference does. `reference_pose`: an extra frame in the reference's
            own pose, dropped from the output. `none`: nothing, plain overlapping windows.
    """

    frames: int = 16
    overlap: int = 4
    anchor: Anchor = "first_frame"

    def __post_init__(self) -> None:
        _at_least("The window length", self.frames, 1)
        _at_least("The window overlap", self.overlap, 0)
        if self.overlap >= self.frames:
            raise ConfigError(
                f"The window overlap is {self.overlap} frames but the window has only "
                f"{self.frames}; lower the overlap or lengthen the window."
            )
        if self.anchor not in ("first_frame", "reference_pose", "none"):
            raise ConfigError(
                f"The anchor is {self.anchor!r}; use 'first_frame', 'reference_pose' or 'none'."
            )


@dataclass(frozen=True, kw_only=True)
class GuidanceConfig:
    """Classifier-free guidance, rising linearly over the frames.

    Attributes:
        minimum: Scale at the first frame; 1 is no guidance.
        maximum: Scale at the last frame. When both are 1 the unconditional pass is skipped.
        batching: Whether the conditional and the unconditional branch run as one batch:
            `together`, `apart`, or `auto` (together when the device has the memory).
    """

    minimum: float = 3.0
    maximum: float = 3.0
    batching: BranchBatching = "auto"

    def __post_init__(self) -> None:
        _at_least("The minimum guidance scale", self.minimum, 0.0)
        _at_least("The maximum guidance scale", self.maximum, 0.0)
        if self.batching not in ("auto", "together", "apart"):
            raise ConfigError(
                f"Branch batching is {self.batching!r}; use 'auto', 'together' or 'apart'."
            )

    @property
    def is_active(self) -> bool:
        """False if every frame's scale is 1, so that the unconditional branch has no effect."""
        return not (self.minimum == 1.0 and self.maximum == 1.0)


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """The denoising run.

    Attributes:
        steps: Number of Euler steps.
        seed: Seed of all noise; drawn on the CPU, so equal on every device.
        fps: Frames per second that the model is told.
        motion_bucket_id: Amount of motion that the model is told, 0..255.
        noise_augmentation: Strength of the noise added to the reference picture before encoding.
        identity_scale: Weight of the identity branch in the spatial cross-attentions, 0 is off.
        identity_fade: How far the identity fades where the driven face cannot be seen: 0 not at
            all, 1 until it is off in back views. Needs keypoints.
    """

    steps: int = 25
    seed: int = 0
    fps: float = 7.0
    motion_bucket_id: float = 127.0
    noise_augmentation: float = 0.02
    identity_scale: float = 1.0
    identity_fade: float = 0.0

    def __post_init__(self) -> None:
        _at_least("The number of steps", self.steps, 1)
        _at_least("The frame rate", self.fps, 1.0)
        _at_least("The motion bucket", self.motion_bucket_id, 0.0)
        _at_least("The noise augmentation", self.noise_augmentation, 0.0)
        _at_least("The identity scale", self.identity_scale, 0.0)
        if not 0 <= self.identity_fade <= 1:
            raise ConfigError(f"The identity fade is {self.identity_fade} but must lie in 0..1.")
        if not 0 <= self.seed < 2**64:
            raise ConfigError(f"The seed is {self.seed} but must lie in 0..2^64-1.")


@dataclass(frozen=True, kw_only=True)
class DecodeConfig:
    """How latents become frames.

    Attributes:
        chunk_frames: Frames decoded together; more is smoother over time and takes more memory.
    """

    chunk_frames: int = 4

    def __post_init__(self) -> None:
        _at_least("The decode chunk", self.chunk_frames, 1)


@dataclass(frozen=True, kw_only=True)
class FaceRefineConfig:
    """How faces are refined.

    Attributes:
        iterations: Optimiser steps per sampler step; 0 turns refinement off.
        first_step: First sampler step that is refined, counted from 0.
        last_step: Last sampler step that is refined, included.
        rate: Adam's learning rate at sampler step 0; it falls linearly to 0 over the run.
        crop: How faces are cut out. `aligned` warps eyes, nose and mouth to where the recogniser
            expects them, `box` stretches the face's box, `auto` aligns where points are known.
        mode: `local` decodes and changes only the face's neighbourhood, chunk by chunk.
            `reference` does what StableAnimator does: all frames whole and in one graph, boxes,
            every latent free. It exists to reproduce published results.
        margin: Latent pixels (8 px) decoded around the face's crop in `local` mode; None decodes
            whole frames.
        exact_levels: How many of the decoder's levels, 0 to 4, see every pixel when the whole
            frame is looked at once per step in `local` mode; more is more exact and slower.
        feather: Latent pixels around the crop over which the change fades out in `local` mode.
        early_stop: Stop a step's iterations when the mean similarity no longer rises, and go back
            to the best prediction so far; `local` mode only.
        minimum_rise: Rise of the similarity per iteration that counts.
        minimum_face_px: Faces whose box is smaller are left alone in `local` mode.
        chunk_frames: Frames decoded together; as in the final decoding.
        recompute: Keep less for the backward pass and compute it again: slower, and smaller.
    """

    iterations: int = 3
    first_step: int = 0
    last_step: int = 20
    rate: float = 0.1
    crop: CropMethod = "auto"
    mode: RefineMode = "local"
    margin: int | None = 2
    exact_levels: int = 1
    feather: int = 2
    early_stop: bool = True
    minimum_rise: float = 1e-4
    minimum_face_px: int = 16
    chunk_frames: int = 4
    recompute: bool = True

    def __post_init__(self) -> None:
        limits = (
            ("number of refine iterations", self.iterations, 0),
            ("first refined step", self.first_step, 0),
            ("margin", 0 if self.margin is None else self.margin, 0),
            ("number of exact levels", self.exact_levels, 0),
            ("feather", self.feather, 0),
            ("minimum face size", self.minimum_face_px, 1),
            ("decode chunk", self.chunk_frames, 1),
        )
        for name, value, low in limits:
            if value < low:
                raise ConfigError(f"The {name} is {value} but must be at least {low}.")
        if self.last_step < self.first_step:
            raise ConfigError(
                f"Refinement runs from step {self.first_step} to step {self.last_step}; the last "
                "step must not come before the first."
            )
        if not (self.rate > 0 and math.isfinite(self.rate)):
            raise ConfigError(f"The refine rate is {self.rate} but must be above 0.")
        if self.crop not in ("auto", "aligned", "box"):
            raise ConfigError(f"The face crop is {self.crop!r}; use 'auto', 'aligned' or 'box'.")
        if self.mode not in ("local", "reference"):
            raise ConfigError(f"The refine mode is {self.mode!r}; use 'local' or 'reference'.")
        if self.mode == "reference" and self.crop == "aligned":
            raise ConfigError("The refine mode 'reference' crops by boxes; set the crop to 'box'.")
