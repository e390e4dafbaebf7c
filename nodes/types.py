"""Socket types of this pack, and what travels through them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfy_api.latest import io
from torch import Tensor

from ..animator_core.comfy_adapter import ComfyDeviceManager
from ..animator_core.errors import ConfigError
from ..animator_core.interfaces import Monitor
from ..animator_core.models.bundle import AnimatorModels

if TYPE_CHECKING:
    from ..animator_core.people import PersonIdentity
    from ..animator_core.pipeline import Animator

__all__ = [
    "Identity",
    "IdentitySocket",
    "LoadedModel",
    "ModelSocket",
    "PoseSocket",
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
        people: One entry per person, with face, place in the motion, and region.
    """

    people: tuple[PersonIdentity, ...]

    @property
    def face_embedding(self) -> Tensor:
        """Raw embedding [512] of the only person.

        Raises:
            ConfigError: If there are several.
        """
        if len(self.people) != 1:
            raise ConfigError(
                f"The identity holds {len(self.people)} people but one is expected; connect an "
                "Encode Face directly."
            )
        return self.people[0].face_embedding
