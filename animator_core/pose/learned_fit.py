"""Alignment by the trained network. Imports torch, so it is itself imported only when used."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from ..errors import CheckpointError
from ..models.pose_aligner import AlignerInputs, PoseAligner, PoseAlignerConfig
from .aligner_features import AlignerFeatures, aligner_features, sample_frames
from .robust_fit import ClipPair
from .similarity import ComplexArray, FloatArray

__all__ = ["DEFAULT_WEIGHTS", "fit_learned", "load_aligner", "network_inputs", "predict_maps"]

DEFAULT_WEIGHTS = Path(__file__).parent / "weights" / "pose_aligner.safetensors"
_MAX_FRAMES = 48


@lru_cache(maxsize=2)
def load_aligner(path: Path = DEFAULT_WEIGHTS) -> PoseAligner:
    """The trained network, in eval mode on the CPU.

    Args:
        path: A safetensors file written by `training.aligner.train`.

    Raises:
        CheckpointError: If the file is missing, damaged, or belongs to another network.
    """
    if not path.is_file():
        raise CheckpointError(
            f"The aligner's weights {path} are missing; reinstall the pack, or use method "
            "'procrustes', which needs none."
        )
    try:
        with safe_open(path, framework="pt") as file:
            architecture = json.loads(file.metadata()["architecture"])
            weights = {key: file.get_tensor(key) for key in file.keys()}
        network = PoseAligner(PoseAlignerConfig(**architecture))
        network.load_state_dict(weights)
    except (SafetensorError, TypeError, KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} is not a file of aligner weights of this version: {error}. Reinstall the "
            "pack, or use method 'procrustes', which needs none."
        ) from error
    return network.eval()


def network_inputs(features: AlignerFeatures) -> AlignerInputs:
    """Features as tensors; every frame counts."""

    def tensor(values: FloatArray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))

    return AlignerInputs(
        points=tensor(features.points),
        reference=tensor(features.reference),
        base_weights=tensor(features.base_weights),
        robust_weights=tensor(features.robust_weights),
        frames=tensor(features.frames),
        joints=tensor(features.joints),
        clip=tensor(features.clip),
        frame_mask=torch.ones(features.frames.shape[:2], dtype=torch.bool),
    )


@torch.no_grad()
def predict_maps(
    network: PoseAligner, features: AlignerFeatures
) -> tuple[ComplexArray, ComplexArray]:
    """Factor and shift from driving to reference coordinates, [B] each."""
    output = network(network_inputs(features))
    factor = output.factor.double().numpy() @ np.array([1, 1j])
    shift = output.shift.double().numpy() @ np.array([1, 1j])
    moved = features.shift - features.origin
    return factor * features.factor, factor * moved + shift * features.unit + features.origin


def fit_learned(pair: ClipPair, weights: Path = DEFAULT_WEIGHTS) -> tuple[complex, complex]:
    """Factor and shift of the similarity that carries a clip to the reference pose.

    Args:
        pair: One clip (a batch of one) of 18 body joints, and its reference.
        weights: Which network.
    """
    network = load_aligner(weights)
    seen = np.flatnonzero((pair.driving_confidence[0] > 0).any(1))
    frames = seen[sample_frames(len(seen), _MAX_FRAMES)]
    sampled = replace(
        pair,
        driving=pair.driving[:, frames],
        driving_confidence=pair.driving_confidence[:, frames],
    )
    features = aligner_features(sampled, guided=network.config.guided)
    factor, shift = predict_maps(network, features)
    return complex(factor[0]), complex(shift[0])
