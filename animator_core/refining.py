"""Wires the face refiner to a run: where the faces are, and what they should resemble."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from .config import FaceRefineConfig
from .driving import fit_pose
from .errors import NoFaceError, NoPoseError
from .faces.analysis import find_antelope_files
from .faces.crops import FaceTrack
from .faces.likeness import FaceRefineModels
from .faces.refinement import FaceRefiner
from .faces.tracks import track_from_keypoints
from .interfaces import DeviceManager, Monitor
from .models.bundle import AnimatorModels
from .models.face_recognition import build_recogniser
from .models.face_recognition_onnx import recogniser_state_from_onnx
from .pipeline import AnimationRequest
from .pose.keypoints import part_array

__all__ = ["build_refiner", "driven_faces", "load_recogniser"]


def driven_faces(request: AnimationRequest, person: int = 0) -> FaceTrack:
    """Where the driven person's face is in every frame that the sampler works on.

    Args:
        request: What is animated; its motion must have keypoints.
        person: Index of the person.

    Raises:
        NoPoseError: If the motion has no keypoints.
    """
    motion = request.motion
    if motion.poses is None:
        raise NoPoseError(
            "Face refinement needs to know where the faces are; connect the keypoints of the "
            "motion beside its skeleton pictures."
        )
    poses = [fit_pose(p, request.size, request.fit) for p in motion.poses[: request.output_frames]]
    track = track_from_keypoints(
        part_array(poses, "body", person),
        part_array(poses, "face", person),
        request.size.height,
        request.size.width,
    )
    lead = (None,) * request.lead_frames  # frames that are dropped at the end stay as they are
    return replace(track, regions=(*lead, *track.regions))


def build_refiner(
    request: AnimationRequest,
    models: AnimatorModels,
    recogniser: nn.Module,
    config: FaceRefineConfig,
    *,
    devices: DeviceManager,
    monitor: Monitor | None = None,
) -> FaceRefiner:
    """A refiner for one run.

    Args:
        request: What is animated; its face embedding is what the faces should resemble.
        models: The model that animates.
        recogniser: The differentiable recogniser that made the embedding.
        config: How to refine.
        devices: Loads the networks.
        monitor: Sees progress and may cancel.

    Raises:
        NoFaceError: If the request has no face, or none of its frames shows one.
        NoPoseError: If the motion has no keypoints.
    """
    face: Tensor | None = request.face_embedding
    if face is None or not np.isfinite(face.float().cpu().numpy()).all():
        raise NoFaceError(
            "Face refinement needs the reference's face; connect an identity, or leave the "
            "refiner away."
        )
    networks = FaceRefineModels(vae=models.vae, recogniser=recogniser, reference_embedding=face)
    return FaceRefiner(networks, driven_faces(request), config, devices, monitor)


def load_recogniser(folder: Path) -> nn.Module:
    """The differentiable recogniser, from antelopev2's own ONNX file.

    Args:
        folder: Folder of antelopev2, or one above it.

    Raises:
        CheckpointError: If the file is missing or another network.
    """
    files = find_antelope_files(folder)
    return build_recogniser(recogniser_state_from_onnx(files.recogniser), checkpoint_blocks=True)
