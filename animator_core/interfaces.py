"""What stages ask of their surroundings: progress, cancelling, and a device to run on.

ComfyUI implements these in `comfy_adapter`; without it the plain classes here serve.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from .errors import ConfigError

__all__ = [
    "ClipConditioning",
    "Conditioning",
    "DenoisedCorrection",
    "DeviceManager",
    "Monitor",
    "PlainDeviceManager",
    "Precision",
    "Progress",
    "SamplerStep",
    "SilentMonitor",
    "resolve_dtype",
]

Precision = Literal["auto", "fp32", "fp16", "bf16"]
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One report of a running stage.

    Attributes:
        stage: What is running, for the user's eyes ("sampling", "decoding").
        done: Finished units.
        total: All units of this stage.
        denoised: Current clean prediction [frames, 4, h, w] in the VAE's scaled latent space,
            when there is one to preview.
    """

    stage: str
    done: int
    total: int
    denoised: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """What the UNet is conditioned on, besides its noisy input. All tensors on one device.

    Attributes:
        image_tokens: [b, n, d] tokens of the reference picture.
        identity_tokens: [b, m, d] tokens of the face; zeros for no identity. With regions the
            tokens of all people, one person after the other.
        added_time_ids: [b, 3]: fps - 1, motion bucket, noise augmentation.
        pose_features: [b, frames, c0, h, w] from PoseNet, or None for no pose.
        identity_scale: Weight of the identity branch, a number or one per frame [b * frames].
        identity_regions: [b * frames, people, h, w] in 0..1, how much each person's tokens count
            at each latent pixel; None for one person everywhere.
    """

    image_tokens: Tensor
    identity_tokens: Tensor
    added_time_ids: Tensor
    pose_features: Tensor | None = None
    identity_scale: float | Tensor = 1.0
    identity_regions: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class ClipConditioning:
    """What a whole clip is conditioned on.

    Attributes:
        image_tokens: [1, n, d] tokens of the reference picture, on the compute device.
        identity_tokens: [1, m, d] tokens of the face, on the compute device; with regions those
            of all people, one person after the other.
        added_time_ids: [1, 3], on the compute device.
        reference_latents: [4, h, w] unscaled latents of the reference, on the compute device.
        pose_features: [frames, c0, h, w] from PoseNet, on any device.
        identity_scale: Weight of the identity branch, a number or one per frame [frames].
        identity_regions: [frames, people, h, w] in 0..1, or None for one person everywhere; on
            any device.
    """

    image_tokens: Tensor
    identity_tokens: Tensor
    added_time_ids: Tensor
    reference_latents: Tensor
    pose_features: Tensor
    identity_scale: float | Tensor = 1.0
    identity_regions: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class SamplerStep:
    """One step of the sampler.

    Attributes:
        index: 0-based.
        total: All steps of the run.
        sigma: Noise level before the step.
    """

    index: int
    total: int
    sigma: float


class DenoisedCorrection(Protocol):
    """Improves the clean prediction before the sampler continues from it."""

    def __call__(self, denoised: Tensor, step: SamplerStep) -> Tensor:
        """Corrected prediction.

        Args:
            denoised: [frames, 4, h, w], float32, in the VAE's scaled latent space.
            step: The step that is running.
        """
        ...


class Monitor(Protocol):
    """Receives progress and says when to stop."""

    def update(self, progress: Progress) -> None:
        """Take one report."""
        ...

    def raise_if_cancelled(self) -> None:
        """Raise if the user asked to stop; called at least once per network call."""
        ...


class SilentMonitor:
    """Shows nothing and never cancels."""

    def update(self, progress: Progress) -> None:
        """Ignore the report."""

    def raise_if_cancelled(self) -> None:
        """Never raise."""


class DeviceManager(Protocol):
    """Places networks on the compute device while they are in use."""

    @property
    def device(self) -> torch.device:
        """The compute device."""
        ...

    def loaded(
        self, *modules: nn.Module, activation_bytes: int = 0
    ) -> AbstractContextManager[None]:
        """Hold modules on the compute device for the length of a `with` block.

        Args:
            modules: Networks to load.
            activation_bytes: Memory to keep free for activations [bytes].
        """
        ...

    def free_bytes(self) -> int:
        """Free memory on the compute device [bytes]."""
        ...


class PlainDeviceManager:
    """Moves modules to a device and back to the CPU afterwards.

    Args:
        device: The compute device, such as "cuda" or "cpu".
        keep_loaded: Leave modules on the device after use.
    """

    def __init__(self, device: torch.device | str, *, keep_loaded: bool = False) -> None:
        self._device = torch.device(device)
        self._keep_loaded = keep_loaded

    @property
    def device(self) -> torch.device:
        """The compute device."""
        return self._device

    @contextmanager
    def loaded(self, *modules: nn.Module, activation_bytes: int = 0) -> Generator[None, None, None]:  # noqa: ARG002
        """Hold modules on the compute device for the length of a `with` block."""
        try:
            for module in modules:
                module.to(self._device)
            yield
        finally:
            if not self._keep_loaded and self._device.type != "cpu":
                for module in modules:
                    module.to("cpu")
                if self._device.type == "cuda":
                    torch.cuda.empty_cache()

    def free_bytes(self) -> int:
        """Free memory on the compute device [bytes]; on the CPU a fixed share is assumed."""
        if self._device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self._device)
            cached = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(
                self._device
            )
            return free + cached
        return 4 << 30


def resolve_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype that weights are loaded in.

    Args:
        precision: A dtype, or "auto": fp32 on the CPU, bf16 on Apple GPUs, else fp16.
        device: The compute device.

    Raises:
        ConfigError: If the precision is unknown.
    """
    if precision == "auto":
        by_device = {"cpu": torch.float32, "mps": torch.bfloat16}
        return by_device.get(device.type, torch.float16)
    try:
        return _DTYPES[precision]
    except KeyError:
        raise ConfigError(
            f"The precision is {precision!r}; use one of auto, {', '.join(_DTYPES)}."
        ) from None
