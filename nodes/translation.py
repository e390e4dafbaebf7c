"""Between ComfyUI's socket values and the core's types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..animator_core.config import FrameSize, GuidanceConfig, SamplingConfig, WindowConfig
from ..animator_core.driving import DrivingMotion
from ..animator_core.errors import NoPoseError, ShapeError
from ..animator_core.frames import fit_picture, picture_to_uint8
from ..animator_core.pipeline import AnimationRequest
from ..animator_core.pose.drawing import overlay_pose
from ..animator_core.pose.keypoints import FramePose, PoseSequence, from_pose_keypoint
from .families import check_refiner
from .types import Identity, LoadedModel, Refiner

if TYPE_CHECKING:
    from ..animator_core.interfaces import Monitor
    from ..animator_core.models.vae import VideoVAE
    from ..animator_core.pose.alignment_config import AlignmentResult
    from ..animator_core.refining import PeopleRefiner

__all__ = [
    "Uint8Frames",
    "alignment_note",
    "animation_request",
    "driving_frames",
    "frames_to_image",
    "latents_to_socket",
    "overlay_image",
    "reference_frame",
    "reference_overlay",
    "refiner_for",
    "similarity_image",
    "socket_to_latents",
]

_PREVIEW_SIDE = 768
"""Longest side of an overlay preview [px]: a clip over a large photograph would fill the RAM."""


class Uint8Frames:
    """An IMAGE batch as 8-bit pictures, converted one by one; knows its length."""

    def __init__(self, images: Tensor) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (picture_to_uint8(image) for image in self._images)


def reference_frame(reference_pose: Any) -> FramePose:
    """First frame of a POSE_KEYPOINT value."""
    return driving_frames(reference_pose)[0]


def driving_frames(poses: Any) -> list[FramePose]:
    """All frames of a POSE_KEYPOINT value.

    Raises:
        NoPoseError: If there are none.
    """
    frames = from_pose_keypoint(poses)
    if not frames:
        raise NoPoseError("The poses have no frames; at least one is expected.")
    return frames


def animation_request(
    *,
    reference: Tensor,
    poses: Any = None,
    skeletons: Tensor | None = None,
    identity: Identity | None = None,
    reference_pose: Any = None,
    **widgets: Any,
) -> AnimationRequest:
    """An Animate node's inputs as one request.

    Args:
        reference: IMAGE batch; its first picture is used.
        poses: POSE_KEYPOINT value.
        skeletons: IMAGE batch.
        identity: Value of the identity socket.
        reference_pose: POSE_KEYPOINT value; its first frame is used.
        **widgets: The node's widgets by name.
    """
    motion = DrivingMotion(
        poses=None if poses is None else from_pose_keypoint(poses),
        skeletons=skeletons,
        reference_pose=None if reference_pose is None else reference_frame(reference_pose),
    )
    return AnimationRequest(
        reference=picture_to_uint8(reference[:1])[0],
        motion=motion,
        num_frames=widgets["frames"],
        people=() if identity is None else identity.people,
        size=FrameSize(width=widgets["width"], height=widgets["height"]),
        fit=widgets["fit"],
        sampling=SamplingConfig(
            steps=widgets["steps"],
            seed=widgets["seed"],
            fps=widgets["fps"],
            motion_bucket_id=widgets["motion_bucket_id"],
            noise_augmentation=widgets["noise_augmentation"],
            identity_scale=widgets["identity_scale"],
            identity_fade=widgets["identity_fade"],
        ),
        guidance=GuidanceConfig(minimum=widgets["guidance_min"], maximum=widgets["guidance_max"]),
        window=WindowConfig(
            frames=widgets["window_frames"],
            overlap=widgets["window_overlap"],
            anchor=widgets["anchor"],
        ),
    )


def latents_to_socket(latents: Tensor, vae: VideoVAE) -> dict[str, Any]:
    """LATENT value; ComfyUI's latents are not scaled, so that its own VAE Decode fits too."""
    return {"samples": latents / vae.scaling_factor}


def socket_to_latents(latent: dict[str, Any], vae: VideoVAE) -> Tensor:
    """Sampler latents [frames, c, h, w] of a LATENT value.

    Raises:
        ShapeError: If it holds latents of another kind.
    """
    samples, channels = latent["samples"], vae.latent_channels
    if samples.ndim != 4 or samples.shape[1] != channels or samples.numel() == 0:
        raise ShapeError(
            f"The latent has shape {tuple(samples.shape)} but (frames, {channels}, height/8, "
            "width/8) is expected; connect the latent of Animate with ID Adapter, sampled with the "
            "same model."
        )
    return samples.float() * vae.scaling_factor


def frames_to_image(chunks: Iterable[Tensor], num_frames: int) -> Tensor:
    """IMAGE batch of decoded chunks; allocated once, so that no second copy is ever held."""
    image = torch.empty(0)
    done = 0
    for chunk in chunks:
        if done == 0:
            image = chunk.new_empty((num_frames, *chunk.shape[1:]))
        image[done : done + len(chunk)] = chunk
        done += len(chunk)
    return image


def overlay_image(images: Tensor, poses: PoseSequence) -> Tensor:
    """IMAGE batch of poses over pictures, one picture per pose.

    Args:
        images: One picture for all poses, or one for each.
        poses: One entry per frame.

    Raises:
        ShapeError: If there are several pictures but not one for each pose.
    """
    if len(images) not in (1, len(poses)):
        raise ShapeError(
            f"There are {len(images)} pictures for {len(poses)} poses; connect one picture, or "
            "one for each pose."
        )
    overlays = torch.empty((len(poses), *images.shape[1:3], 3))
    for index, pose in enumerate(poses):
        picture = picture_to_uint8(images[index if len(images) > 1 else 0])
        overlays[index] = torch.from_numpy(overlay_pose(picture, pose)).float().div_(255)
    return overlays


def reference_overlay(image: Tensor | None, pose: FramePose, poses: PoseSequence) -> Tensor:
    """IMAGE batch of aligned poses over the reference picture, at most 768 px long.

    Args:
        image: The reference picture, or None for a black one.
        pose: The reference's own pose, whose canvas the poses share.
        poses: Aligned poses.
    """
    shrink = min(1.0, _PREVIEW_SIDE / max(pose.width, pose.height))
    width, height = (max(8, round(side * shrink / 8) * 8) for side in (pose.width, pose.height))
    if image is None:
        return overlay_image(torch.zeros(1, height, width, 3), poses)
    small = fit_picture(
        picture_to_uint8(image[:1])[0], FrameSize(width=width, height=height), "stretch"
    )
    return overlay_image(torch.from_numpy(small)[None].float() / 255, poses)


def alignment_note(result: AlignmentResult) -> str:
    """What an alignment did, for the node's face."""
    lines = [
        f"person {t.person}: {t.method}, scale {t.scale:.3f}, angle {t.angle_deg:.1f} deg, "
        f"shift {t.shift_px[0]:.0f}, {t.shift_px[1]:.0f} px"
        for t in result.transforms
    ]
    return "\n".join([*lines, *(f"Warning: {w}" for w in result.warnings)])


def refiner_for(
    refiner: Refiner | None,
    request: AnimationRequest,
    model: LoadedModel,
    monitor: Monitor,
) -> PeopleRefiner | None:
    """The refiner of one run, or None if the socket is not connected.

    Raises:
        ConfigError: If it belongs to another family than the model.
    """
    if refiner is None:
        return None
    check_refiner(refiner, model)
    from ..animator_core.refining import build_refiner

    return build_refiner(
        request,
        model.models,
        refiner.refinement,
        devices=model.devices,
        monitor=monitor,
    )


def similarity_image(refiner: PeopleRefiner | None) -> Tensor:
    """IMAGE of the mean similarity over all iterations; empty axes without a refiner."""
    from ..animator_core.faces.similarity import draw_curves

    curves = [] if refiner is None else refiner.curves
    return torch.from_numpy(draw_curves(curves).copy())[None].float() / 255
