"""Socket types of this pack, and what travels through them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfy_api.latest import io
from torch import Tensor, nn

from ..animator_core.comfy_adapter import ComfyDeviceManager
from ..animator_core.interfaces import Monitor
from ..animator_core.models.bundle import AnimatorModels

if TYPE_CHECKING:
    from ..animator_core.config import FaceRefineConfig
    from ..animator_core.pipeline import Animator

__all__ = [
    "Identity",
    "IdentitySocket",
    "LoadedModel",
    "ModelSocket",
    "PoseSocket",
    "Refiner",
    "RefinerSocket",
]

CATEGORY = "StableAnimator"

ModelSocket = io.Custom("STABLEANIMATOR_MODEL")
IdentitySocket = io.Custom("STABLEANIMATOR_IDENTITY")
RefinerSocket = io.Custom("STABLEANIMATOR_REFINER")
PoseSocket = io.Custom("POSE_KEYPOINT")  # comfyui_controlnet_aux's type


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """What a STABLEANIMATOR_MODEL socket carries."""

    models: AnimatorModels
    devices: ComfyDeviceManager

    def animator(self, monitor: Monitor) -> Animator:
        """The pipeline over this model; importing it takes seconds, so it is done on first use."""
        from ..animator_core.pipeline import Animator

        return Animator(self.models, self.devices, monitor)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a STABLEANIMATOR_IDENTITY socket carries.

    Attributes:
        face_embedding: Raw embedding of the face recogniser [512].
    """

    face_embedding: Tensor


@dataclass(frozen=True, kw_only=True)
class Refiner:
    """What a STABLEANIMATOR_REFINER socket carries.

    Attributes:
        config: Settings.
        recogniser: Differentiable face recogniser.
    """

    config: FaceRefineConfig
    recogniser: nn.Module
