"""Which face networks a model was trained with; an identity is made for one kind of model only.

Embeddings of two recognisers have the same width, so nothing else would show a mix-up.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..animator_core.comfy_adapter import face_folder
from ..animator_core.demo.model import DEMO_FOLDER
from ..animator_core.errors import ConfigError
from .types import Family, Identity, LoadedModel, Refiner

__all__ = ["check_families", "check_identity", "check_refiner", "family_folder", "family_of"]

_RECOGNISERS: dict[Family, str] = {
    "published": "insightface's antelopev2",
    "built-in": "the built-in demo's own recogniser",
}


def family_of(model: LoadedModel | None) -> Family:
    """The family of a model; without one the published weights are meant."""
    return "published" if model is None else model.family


def family_folder(family: Family) -> Path:
    """Folder of a family's face detector and recogniser.

    Raises:
        CheckpointError: If antelopev2 is wanted but not installed.
    """
    return DEMO_FOLDER if family == "built-in" else face_folder()


def check_identity(identity: Identity | None, model: LoadedModel | None) -> None:
    """Raise if a face was encoded for another family than the model's.

    Raises:
        ConfigError: If both are given and differ.
    """
    if identity is not None and model is not None and identity.family != model.family:
        raise ConfigError(
            f"The identity was encoded with {_RECOGNISERS[identity.family]}, but the model was "
            f"trained with {_RECOGNISERS[model.family]}, whose numbers mean other faces; connect "
            "the model to Encode Face, too."
        )


def check_refiner(refiner: Refiner, model: LoadedModel) -> None:
    """Raise if a refiner compares faces by another recogniser than the model's.

    Raises:
        ConfigError: If they differ.
    """
    if refiner.family != model.family:
        raise ConfigError(
            f"The refiner compares faces by {_RECOGNISERS[refiner.family]}, but the model was "
            f"trained with {_RECOGNISERS[model.family]}; connect the model to HJB Face Refine, too."
        )


def check_families(identities: Sequence[Identity]) -> Family:
    """The one family of several identities.

    Raises:
        ConfigError: If there are several.
    """
    family = identities[0].family
    if any(identity.family != family for identity in identities):
        raise ConfigError(
            "One identity was encoded with antelopev2 and another with the built-in demo's own "
            "recogniser, whose numbers mean other faces; connect the same model to every Encode "
            "Face."
        )
    return family
