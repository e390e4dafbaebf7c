"""The command `animate`: a reference picture and a motion become a video."""

from __future__ import annotations

import logging
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..config import (
    LATENT_SCALE,
    DecodeConfig,
    FrameSize,
    GuidanceConfig,
    SamplingConfig,
    WindowConfig,
)
from ..console import Console
from ..demo.model import DEMO_GUIDANCE, DEMO_SIZE, DEMO_STEPS
from ..driving import DrivingMotion
from ..errors import ConfigError
from ..frames import fit_picture, load_picture, picture_to_uint8
from ..interfaces import Progress
from ..pipeline import AnimationRequest, Animator
from ..pose.alignment import AlignmentConfig, align
from ..pose.interchange import holds_keypoints, load_poses
from ..pose.keypoints import FramePose, PoseSequence
from ..video import VideoWriter, probe, read_frames
from .faces import make_refiner, refine_config
from .identity import read_identities
from .models import DEMO_MODEL, load_chosen_models, make_devices
from .output import check_writable

__all__ = ["run_animate"]

_logger = logging.getLogger(__name__)

DEFAULT_FPS = Fraction(8)
"""Frame rate of the written video where the motion has none of its own."""

_ASPECT_TOLERANCE = 0.02


def run_animate(args: Any, console: Console) -> int:
    """Animate; see `cli` for the options.

    Raises:
        AnimatorError: If anything is missing, out of range or contradictory.
    """
    size = _size(args)
    sampling = SamplingConfig(
        steps=_steps(args),
        seed=args.seed,
        identity_scale=args.identity_scale,
        identity_fade=args.identity_fade,
    )
    guidance = _guidance(args)
    window = WindowConfig(frames=args.window, overlap=args.overlap, anchor=args.anchor)
    decoding = DecodeConfig(chunk_frames=args.decode_chunk)
    refining = refine_config(args, sampling.steps)
    check_writable(args.output)
    writer = VideoWriter(args.output, _output_fps(args))

    with console.stage("reading"):
        reference = load_picture(args.reference)
        motion = read_motion(args, reference, size, console)
    request = AnimationRequest(
        reference=reference,
        motion=motion,
        num_frames=args.frames,
        people=read_identities(args, reference, console),
        size=size,
        fit=args.fit,
        sampling=sampling,
        guidance=guidance,
        window=window,
    )
    console.say(
        f"{request.output_frames} frames of {size.width}x{size.height} px, {sampling.steps} steps"
    )
    devices = make_devices(args.device)
    with console.stage("loading the model"):
        models = load_chosen_models(args, devices.device, console)
        size.check_multiple(LATENT_SCALE * models.unet.latent_multiple)
    animator = Animator(models, devices, console)
    console.start_clock()
    correction = make_refiner(args, refining, request, animator)
    latents = animator.sample(request, correct_denoised=correction)
    write_animation(animator, latents, writer, decoding)
    console.say(f"{args.output}: {writer.num_frames} frames; {describe_times(console)}")
    return 0


def _size(args: Any) -> FrameSize:
    made_for = DEMO_SIZE if args.model == DEMO_MODEL else FrameSize()
    return FrameSize(
        width=made_for.width if args.width is None else args.width,
        height=made_for.height if args.height is None else args.height,
    )


def _steps(args: Any) -> int:
    if args.steps is not None:
        return args.steps
    return DEMO_STEPS if args.model == DEMO_MODEL else SamplingConfig().steps


def _guidance(args: Any) -> GuidanceConfig:
    built_in, default = args.model == DEMO_MODEL, GuidanceConfig()
    low, high = args.guidance_min, args.guidance_max
    return GuidanceConfig(
        minimum=(DEMO_GUIDANCE if built_in else default.minimum) if low is None else low,
        maximum=(DEMO_GUIDANCE if built_in else default.maximum) if high is None else high,
    )


def write_animation(
    animator: Animator, latents: Tensor, writer: VideoWriter, decoding: DecodeConfig
) -> None:
    """Decode and write chunk by chunk; the file appears when it is complete."""
    with writer:
        for chunk in animator.decode(latents, decoding):
            for frame in picture_to_uint8(chunk):
                writer.write(frame)


def describe_times(console: Console) -> str:
    """The stages and their seconds."""
    names = {"poses": "conditioning", "decoding": "decoding and writing"}
    return ", ".join(f"{names.get(k, k)} {v:.1f} s" for k, v in console.seconds.items())


def read_motion(
    args: Any, reference: NDArray[np.uint8], size: FrameSize, console: Console
) -> DrivingMotion:
    """The driving motion of `--poses`, aligned to the reference if that was asked for.

    Args:
        args: Options of `animate`.
        reference: The reference picture [H, W, 3].
        size: Output size.
        console: Sees progress.

    Raises:
        MediaError: If a file cannot be read.
        ConfigError: If skeleton pictures should be aligned.
    """
    reference_pose = _read_reference_pose(args, reference)
    if holds_keypoints(args.poses):
        poses: PoseSequence = load_poses(args.poses)
        if reference_pose is not None and poses:
            poses = _aligned(poses, reference_pose, args, console)
        return DrivingMotion(poses=poses, reference_pose=reference_pose, draw_mode=args.draw_mode)
    if args.align not in (None, "none"):
        raise ConfigError(
            f"--align {args.align} needs keypoints, but {args.poses} holds no JSON; skeleton "
            "pictures cannot be aligned. Give the keypoints that they were drawn from."
        )
    skeletons = _read_skeletons(args, size, console)
    return DrivingMotion(skeletons=skeletons, reference_pose=reference_pose)


def _output_fps(args: Any) -> Fraction | float:
    if args.fps is not None:
        return args.fps
    if holds_keypoints(args.poses):
        return DEFAULT_FPS
    return probe(args.poses).fps or DEFAULT_FPS


def _read_reference_pose(args: Any, reference: NDArray[np.uint8]) -> FramePose | None:
    if args.reference_poses is None:
        return None
    frames = load_poses(args.reference_poses)
    if not frames:
        raise ConfigError(f"{args.reference_poses} holds no frame; the reference's pose is needed.")
    height, width = reference.shape[:2]
    pose = frames[0]
    aspects = pose.width / pose.height, width / height
    if abs(aspects[0] / aspects[1] - 1) > _ASPECT_TOLERANCE:
        raise ConfigError(
            f"The reference's pose was made for a canvas of {pose.width}x{pose.height} px but the "
            f"picture has {width}x{height} px; give the pose of this picture."
        )
    return pose


def _aligned(
    poses: PoseSequence, reference_pose: FramePose, args: Any, console: Console
) -> PoseSequence:
    config = AlignmentConfig(method=args.align) if args.align else AlignmentConfig()
    if config.method == "none":
        return poses
    result = align(poses, reference_pose, config)
    for warning in result.warnings:
        _logger.warning("%s", warning)
    for moved in result.transforms:
        console.say(
            f"Aligned person {moved.person} by {moved.method}: scale {moved.scale:.3f}, "
            f"angle {moved.angle_deg:.1f} degrees, "
            f"shift {moved.shift_px[0]:.0f}, {moved.shift_px[1]:.0f} px"
        )
    return result.frames


def _read_skeletons(args: Any, size: FrameSize, console: Console) -> NDArray[np.uint8]:
    """Skeleton pictures in the output size [T, H, W, 3]; at most as many as are animated."""
    wanted = args.frames or None
    expected = wanted or probe(args.poses).num_frames or 1
    pictures = np.empty((expected, size.height, size.width, 3), dtype=np.uint8)
    count = 0
    for frame in read_frames(args.poses, wanted):
        console.raise_if_cancelled()
        if count == len(pictures):
            grown = np.empty((2 * count, *pictures.shape[1:]), dtype=np.uint8)
            grown[:count] = pictures
            pictures = grown
        pictures[count] = fit_picture(frame, size, args.fit)
        count += 1
        total = max(expected, count)
        console.update(Progress(stage="reading", done=count, total=total))
    return pictures[:count]
