"""Wires the face refiner to a run: where the faces are, and what they should resemble."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .config import FaceRefineConfig
from .driving import fit_pose
from .errors import ConfigError, NoFaceError, NoPoseError
from .faces.analysis import find_antelope_files
from .faces.crops import FaceTrack
from .faces.likeness import FaceRefineModels
from .faces.refinement import FaceRefiner
from .faces.similarity import SimilarityCurve, embed_faces
from .faces.tracks import track_from_keypoints, track_from_masks, with_points
from .frames import fit_picture, to_model_range
from .interfaces import DeviceManager, Monitor, SamplerStep
from .models.bundle import AnimatorModels
from .models.face_recognition import build_recogniser
from .models.face_recognition_onnx import recogniser_state_from_onnx
from .people import PersonIdentity, check_people, fit_mask
from .pipeline import AnimationRequest
from .pose.keypoints import PoseSequence, part_array

__all__ = [
    "FaceRefinement",
    "PeopleRefiner",
    "build_refiner",
    "driven_faces",
    "load_recogniser",
    "masked_faces",
]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceRefinement:
    """A refinement that is wanted, before it is known of which run.

    Attributes:
        config: Settings.
        recogniser: The differentiable recogniser that made the identities' embeddings.
        face_masks: Where the face is, [frames, H, W] in 0..1, fitted into the output as the
            motion's pictures are; None takes it from the motion's keypoints.
    """

    config: FaceRefineConfig
    recogniser: nn.Module
    face_masks: Tensor | None = None


class PeopleRefiner:
    """Refines one person after the other; each changes its own face's neighbourhood.

    Args:
        refiners: One per refined person.
        names: What to call them in a drawing.
    """

    def __init__(self, refiners: Sequence[FaceRefiner], names: Sequence[str]) -> None:
        self.refiners = tuple(refiners)
        self._names = tuple(names)

    def __call__(
        self, denoised: Float[Tensor, "frames 4 h w"], step: SamplerStep
    ) -> Float[Tensor, "frames 4 h w"]:
        """Refine the clean prediction of one step; see `FaceRefiner`."""
        for refiner in self.refiners:
            denoised = refiner(denoised, step)
        return denoised

    @property
    def curves(self) -> list[SimilarityCurve]:
        """Per person the mean similarity over all iterations of all refined steps so far."""
        return [
            SimilarityCurve(
                values=tuple(v for record in refiner.records for v in record.mean_similarity),
                name=name,
            )
            for refiner, name in zip(self.refiners, self._names, strict=True)
        ]


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
            "motion beside its skeleton pictures, or give face masks."
        )
    return _after_lead(_track(request, motion.poses[: request.output_frames], person), request)


def _track(request: AnimationRequest, poses: PoseSequence, person: int) -> FaceTrack:
    fitted = [fit_pose(pose, request.size, request.fit) for pose in poses]
    return track_from_keypoints(
        part_array(fitted, "body", person),
        part_array(fitted, "face", person),
        request.size.height,
        request.size.width,
    )


def _after_lead(track: FaceTrack, request: AnimationRequest) -> FaceTrack:
    lead = (None,) * request.lead_frames  # frames that are dropped at the end stay as they are
    return replace(track, regions=(*lead, *track.regions))


def masked_faces(
    request: AnimationRequest, masks: Float[Tensor, "frames height width"], person: int = 0
) -> FaceTrack:
    """The same by face masks, with the points of the motion's keypoints where it has some.

    Args:
        request: What is animated.
        masks: One per frame, in 0..1, fitted into the output as the motion's pictures are.
        person: Index of the person in the motion.

    Raises:
        ShapeError: If they are no masks, or not one per frame.
    """
    frames = request.output_frames
    if masks.ndim == 3 and len(masks) == request.motion.num_frames:
        masks = masks[:frames]
    if masks.ndim == 3 and len(masks) == frames:
        masks = torch.stack([fit_mask(mask, request.size, request.fit) for mask in masks])
    track = track_from_masks(masks, frames)
    if request.motion.poses is not None:
        track = with_points(track, _track(request, request.motion.poses[:frames], person))
    return _after_lead(track, request)


def build_refiner(
    request: AnimationRequest,
    models: AnimatorModels,
    wanted: FaceRefinement,
    *,
    devices: DeviceManager,
    monitor: Monitor | None = None,
) -> PeopleRefiner:
    """A refiner for one run.

    Args:
        request: What is animated; its identities are what the faces should resemble.
        models: The model that animates.
        wanted: How to refine.
        devices: Loads the networks.
        monitor: Sees progress and may cancel.

    Raises:
        NoFaceError: If the request has no face, or none of its frames shows one.
        NoPoseError: If the motion has no keypoints and there are no masks.
        ConfigError: If masks of one face are given for several people.
        ShapeError: If the masks do not fit.
    """
    people = _refined_people(request)
    if wanted.face_masks is not None and len(people) > 1:
        raise ConfigError(
            f"Face masks say where one face is, but {len(people)} people are refined; leave the "
            "masks out, and the faces are followed by the keypoints."
        )
    refiners: list[FaceRefiner] = []
    names: list[str] = []
    for identity in people:
        number = identity.person or 0
        if wanted.face_masks is None:
            track = driven_faces(request, number)
        else:
            track = masked_faces(request, wanted.face_masks, number)
        networks = FaceRefineModels(
            vae=models.vae,
            recogniser=wanted.recogniser,
            reference_embedding=_target(request, identity, wanted, devices),
        )
        refiners.append(FaceRefiner(networks, track, wanted.config, devices, monitor))
        names.append(f"mean similarity per iteration, person {number}")
    return PeopleRefiner(refiners, names)


def _refined_people(request: AnimationRequest) -> list[PersonIdentity]:
    check_people(request.identities)
    people = [p for p in request.identities if p.person is not None or len(request.identities) == 1]
    finite = all(bool(torch.isfinite(p.face_embedding.float()).all()) for p in people)
    if not people or not finite:
        raise NoFaceError(
            "Face refinement needs the reference's face; connect an identity that belongs to a "
            "person of the motion, or leave the refiner away."
        )
    return people


@torch.no_grad()
def _target(
    request: AnimationRequest,
    identity: PersonIdentity,
    wanted: FaceRefinement,
    devices: DeviceManager,
) -> Tensor:
    """The embedding that the frames' faces should come closer to.

    The identity's own embedding was made from an aligned face. Faces that are cut out by boxes
    are stretched, which moves their embeddings, so there the reference's face is cut out by its
    box too, where its pose says where it is. The published procedure does not.
    """
    pose = request.motion.reference_pose
    config = wanted.config
    if config.crop != "box" or config.mode == "reference" or pose is None:
        return identity.face_embedding
    (region,) = _track(request, [pose], identity.person or 0).regions
    if region is None:
        log.info("the reference's pose shows no face; the identity's own embedding is the target")
        return identity.face_embedding
    picture = to_model_range(fit_picture(request.reference, request.size, request.fit)[None])
    with devices.loaded(wanted.recogniser):
        return embed_faces(wanted.recogniser, picture.to(devices.device), [region], "box")[0]


def load_recogniser(folder: Path) -> nn.Module:
    """The differentiable recogniser, from antelopev2's own ONNX file.

    Args:
        folder: Folder of antelopev2, or one above it.

    Raises:
        CheckpointError: If the file is missing or another network.
    """
    files = find_antelope_files(folder)
    return build_recogniser(recogniser_state_from_onnx(files.recogniser), checkpoint_blocks=True)
