"""Socket types of this pack, and what travels through them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from comfy_api.latest import io
from torch import Tensor

from ..animator_core.comfy_adapter import ComfyDeviceManager
from ..animator_core.errors import ConfigError
from ..animator_core.interfaces import Monitor
from ..animator_core.models.bundle import AnimatorModels

if TYPE_CHECKING:
    from ..animator_core.people import PersonIdentity
    from ..animator_core.pipeline import Animator
    from ..animator_core.refining import FaceRefinement

__all__ = [
    "Family",
    "Identity",
    "IdentitySocket",
    "LoadedModel",
    "ModelSocket",
    "PoseSocket",
    "Refiner",
    "RefinerSocket",
]

CATEGORY = "StableAnimator"

Family = Literal["published", "built-in"]
"""Whose face recogniser: antelopev2, or the demo family's own."""

ModelSocket = io.Custom("STABLEANIMATOR_MODEL")
IdentitySocket = io.Custom("STABLEANIMATOR_IDENTITY")
RefinerSocket = io.Custom("STABLEANIMATOR_REFINER")
PoseSocket = io.Custom("POSE_KEYPOINT")  # comfyui_controlnet_aux's type


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """What a STABLEANIMATOR_MODEL socket carries.

    Attributes:
        models: The five networks.
        devices: Loads them.
        family: Whose faces it understands.
    """

    models: AnimatorModels
    devices: ComfyDeviceManager
    family: Family = "published"

    def animator(self, monitor: Monitor) -> Animator:
        """The pipeline over this model; importing it takes seconds, so it is done on first use."""
        from ..animator_core.pipeline import Animator

        return Animator(self.models, self.devices, monitor)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a STABLEANIMATOR_IDENTITY socket carries.

    Attributes:
        people: One entry per person, with face, place in the motion, and region.
        family: Whose recogniser encoded the faces.
    """

    people: tuple[PersonIdentity, ...]
    family: Family = "published"

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


@dataclass(frozen=True, kw_only=True)
class Refiner:
    """What a STABLEANIMATOR_REFINER socket carries.

    Attributes:
        refinement: What is wanted, with the recogniser.
        family: Whose recogniser it is.
    """

    refinement: FaceRefinement
    family: Family = "published"
