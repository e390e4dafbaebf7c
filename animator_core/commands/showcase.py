"""Scenes with drawn characters: staged, animated by the demo family, and measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ..config import FaceRefineConfig, GuidanceConfig, SamplingConfig, WindowConfig
from ..console import Console
from ..demo.model import DEMO_FOLDER, DEMO_GUIDANCE, DEMO_SIZE, DEMO_STEPS, load_demo_models
from ..driving import DrivingMotion
from ..errors import NoFaceError
from ..evaluation.intervals import MeanInterval, mean_with_interval
from ..evaluation.misalign import Misalignment, misalign
from ..evaluation.psnr import psnr
from ..faces.crops import FaceRegion, FaceTrack
from ..faces.similarity import SimilarityCurve, embed_faces, track_similarity
from ..faces.tracks import track_from_keypoints
from ..frames import picture_to_uint8, to_model_range
from ..interfaces import PlainDeviceManager, resolve_dtype
from ..people import PersonIdentity
from ..pipeline import AnimationRequest, Animator
from ..pose.alignment import AlignmentConfig, align
from ..pose.keypoints import FramePose, PoseSequence, part_array
from ..refining import FaceRefinement, build_refiner, load_recogniser
from ..training.drawn_clips import SPLIT_SEEDS, DrawnClip, DrawnClipConfig, draw_clip
from ..training.hidden_heads import hide_head

if TYPE_CHECKING:
    from ..models.bundle import AnimatorModels

__all__ = ["Performed", "Scene", "Staged", "Theatre", "stage"]

Pictures = NDArray[np.uint8]
Identity = Literal["on", "off", "exchanged"]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What one animation shows.

    Attributes:
        name: Of its file.
        title: What it is about.
        number: Which held-out clip: character, reference and motion follow from it.
        data: What the clip looks like.
        misalignment: What is done to the motion, if anything.
        aligned: Whether the learned aligner brings it back.
        identity: Whether the ID adapter gets the face, nothing, or the other person's.
        refine_iterations: Of the HJB refinement; 0 for none.
        hidden_head: Whether the reference's heads are covered, so that only identities tell them.
        seed: Of the noise.
    """

    name: str
    title: str
    number: int
    data: DrawnClipConfig = field(default_factory=lambda: DrawnClipConfig(frames=16))
    misalignment: Misalignment | None = None
    aligned: bool = True
    identity: Identity = "on"
    refine_iterations: int = 0
    hidden_head: bool = False
    seed: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Staged:
    """A scene before it is animated.

    Attributes:
        scene: Which.
        clip: The drawn clip, and the frames as they should become.
        reference: The reference picture as the model sees it.
        driving: The motion as it is given.
        poses: The motion that drives the model.
    """

    scene: Scene
    clip: DrawnClip
    reference: Pictures
    driving: PoseSequence
    poses: PoseSequence


@dataclass(frozen=True, kw_only=True, eq=False)
class Performed:
    """An animated scene.

    Attributes:
        staged: The scene.
        frames: [T, H, W, 3] RGB.
        similarity: Likeness of each person's face to the reference's over time.
        psnr: Of each frame against the drawn truth [dB], over frames.
    """

    staged: Staged
    frames: Pictures
    similarity: tuple[SimilarityCurve, ...]
    psnr: MeanInterval

    @property
    def caption(self) -> str:
        """The figures in a line."""
        means = " and ".join(f"{curve.mean:.2f}" for curve in self.similarity)
        return f"CSIM {means}, PSNR {self.psnr.mean:.1f} dB"


def stage(scene: Scene) -> Staged:
    """Draw a scene's clip, and misalign and align its motion as the scene asks.

    Args:
        scene: Which.
    """
    clip = draw_clip(SPLIT_SEEDS["test"][scene.number], scene.data)
    driving: PoseSequence = clip.poses
    if scene.misalignment is not None:
        driving = misalign(driving, scene.misalignment)
    poses = driving
    if scene.misalignment is not None and scene.aligned:
        poses = align(driving, clip.reference_pose, AlignmentConfig()).frames
    reference = clip.reference
    if scene.hidden_head:
        lot = np.random.default_rng(scene.number)
        for box in clip.reference_face_boxes:
            reference = hide_head(reference, box, "grey", lot)
    return Staged(scene=scene, clip=clip, reference=reference, driving=driving, poses=poses)


class Theatre:
    """The demo family, ready to perform scenes.

    Args:
        console: Sees progress.
        devices: Where it runs.
    """

    def __init__(self, console: Console, devices: PlainDeviceManager) -> None:
        self.models: AnimatorModels = load_demo_models(resolve_dtype("auto", devices.device))
        self.recogniser: nn.Module = load_recogniser(DEMO_FOLDER)
        self.animator = Animator(self.models, devices, console)
        self.devices, self.console = devices, console

    def embeddings(self, clip: DrawnClip) -> list[Tensor]:
        """Face embedding [d] of every person in the reference, at their known places.

        Raises:
            NoFaceError: If someone's face is not in the picture.
        """
        picture = to_model_range(clip.reference[None])
        regions = [_region(clip.reference_pose, person) for person in range(len(clip.who))]
        return [embed_faces(self.recogniser, picture, [region])[0] for region in regions]

    def request(self, staged: Staged, steps: int = DEMO_STEPS) -> AnimationRequest:
        """The animation of a scene."""
        embeddings = self.embeddings(staged.clip)
        if staged.scene.identity == "exchanged":
            embeddings.reverse()
        people = tuple(
            PersonIdentity(face_embedding=embedding, person=index)
            for index, embedding in enumerate(embeddings)
        )
        return AnimationRequest(
            reference=staged.reference,
            motion=DrivingMotion(poses=staged.poses, reference_pose=staged.clip.reference_pose),
            people=() if staged.scene.identity == "off" else people,
            size=DEMO_SIZE,
            sampling=SamplingConfig(steps=steps, seed=staged.scene.seed),
            guidance=GuidanceConfig(minimum=DEMO_GUIDANCE, maximum=DEMO_GUIDANCE),
            window=WindowConfig(anchor="reference_pose"),
        )

    def perform(self, staged: Staged, steps: int = DEMO_STEPS) -> Performed:
        """Animate a scene and measure it.

        Args:
            staged: The scene.
            steps: Denoising steps.
        """
        request = self.request(staged, steps)
        refiner = None
        if staged.scene.refine_iterations:
            config = FaceRefineConfig(
                iterations=staged.scene.refine_iterations,
                first_step=steps // 2,
                last_step=steps - 1,
            )
            wanted = FaceRefinement(config=config, recogniser=self.recogniser)
            refiner = build_refiner(
                request, self.models, wanted, devices=self.devices, monitor=self.console
            )
        latents = self.animator.sample(request, correct_denoised=refiner)
        frames = np.concatenate(
            [picture_to_uint8(chunk) for chunk in self.animator.decode(latents)]
        )
        return self._measured(staged, frames)

    def _measured(self, staged: Staged, frames: Pictures) -> Performed:
        pairs = zip(frames, staged.clip.frames, strict=True)
        return Performed(
            staged=staged,
            frames=frames,
            similarity=self.similarity(staged, frames),
            psnr=mean_with_interval(psnr(ours, truth) for ours, truth in pairs),
        )

    def similarity(self, staged: Staged, frames: Pictures) -> tuple[SimilarityCurve, ...]:
        """Likeness of every person's face to the uncovered reference's, where the poses have it.

        Args:
            staged: The scene.
            frames: Its animation [T, H, W, 3], or any other frames of these poses.
        """
        pictures = to_model_range(frames)
        return tuple(
            self.likeness(staged, pictures, person, embedding)
            for person, embedding in enumerate(self.embeddings(staged.clip))
        )

    def likeness(
        self, staged: Staged, pictures: Tensor, person: int, embedding: Tensor
    ) -> SimilarityCurve:
        """Likeness of the face at a person's place to any face.

        Args:
            staged: The scene.
            pictures: Frames of these poses [T, 3, H, W] in [-1, 1].
            person: Whose place.
            embedding: Of the face [d].
        """
        track = _track(staged.poses, person)
        return track_similarity(self.recogniser, pictures, track, embedding)


def _track(poses: PoseSequence, person: int) -> FaceTrack:
    body, face = part_array(poses, "body", person), part_array(poses, "face", person)
    return track_from_keypoints(body, face, poses[0].height, poses[0].width)


def _region(pose: FramePose, person: int) -> FaceRegion:
    region = _track([pose], person).regions[0]
    if region is None:
        raise NoFaceError(
            f"Person {person} of the drawn reference shows no face; choose another scene."
        )
    return region
