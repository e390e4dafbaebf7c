"""Animate with ID Adapter, Decode Animation."""

from __future__ import annotations

from comfy_api.latest import io

from ..animator_core.comfy_adapter import ComfyMonitor
from ..animator_core.config import (
    DecodeConfig,
    FrameSize,
    GuidanceConfig,
    SamplingConfig,
    WindowConfig,
)
from .types import CATEGORY, IdentitySocket, LoadedModel, ModelSocket, PoseSocket, RefinerSocket

_SIZE, _SAMPLING, _GUIDANCE = FrameSize(), SamplingConfig(), GuidanceConfig()
_WINDOW, _DECODE = WindowConfig(), DecodeConfig()


def _chunk_input() -> io.Int.Input:
    return io.Int.Input(
        "decode_chunk_frames",
        default=_DECODE.chunk_frames,
        min=1,
        max=64,
        tooltip="Frames that the VAE decodes together. More is smoother over time and takes more "
        "memory; 4 fits 8 GB at 512x512.",
    )


class AnimateWithIDAdapter(io.ComfyNode):
    """Samples and decodes an animation."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StableAnimatorAnimate",
            display_name="Animate with ID Adapter",
            category=CATEGORY,
            description="Animates the person of the reference picture by a motion. Connect "
            "keypoints to `poses` or skeleton pictures to `skeletons` (with both, the pictures "
            "drive). Without an identity the face is not tied to the reference's.",
            inputs=[*_sockets(), *_frame_widgets(), *_sampling_widgets(), *_window_widgets()],
            outputs=[
                io.Latent.Output(
                    display_name="latent", tooltip="Latents of all frames, one batch entry each."
                ),
                io.Image.Output(display_name="frames", tooltip="The finished frames."),
                io.Image.Output(
                    display_name="similarity",
                    tooltip="With a refiner: likeness of the faces over its iterations.",
                ),
            ],
        )

    @classmethod
    def execute(cls, model: LoadedModel, identity=None, refiner=None, **settings) -> io.NodeOutput:
        from .families import check_identity
        from .translation import (
            animation_request,
            frames_to_image,
            latents_to_socket,
            refiner_for,
            similarity_image,
        )

        check_identity(identity, model)
        monitor = ComfyMonitor(model.models)
        animator = model.animator(monitor)
        request = animation_request(identity=identity, **settings)
        correction = refiner_for(refiner, request, model, monitor)
        latents = animator.sample(request, correct_denoised=correction)
        decode = DecodeConfig(chunk_frames=settings["decode_chunk_frames"])
        frames = frames_to_image(animator.decode(latents, decode), len(latents))
        socket = latents_to_socket(latents, model.models.vae)
        return io.NodeOutput(socket, frames, similarity_image(correction))


def _sockets() -> list[io.Input]:
    return [
        ModelSocket.Input("model", tooltip="From Load StableAnimator."),
        io.Image.Input("reference", tooltip="Picture of the person; the first one of a batch."),
        PoseSocket.Input(
            "poses",
            optional=True,
            tooltip="Driving motion as POSE_KEYPOINT, one entry per frame; "
            "comfyui_controlnet_aux's DWPose node works too.",
        ),
        io.Image.Input(
            "skeletons",
            optional=True,
            tooltip="Driving motion as pictures of skeletons, one per frame.",
        ),
        IdentitySocket.Input(
            "identity",
            optional=True,
            tooltip="The face to keep. Not connected: the identity branch gets no face.",
        ),
        PoseSocket.Input(
            "reference_pose",
            optional=True,
            tooltip="Pose of the reference picture; needed for the anchor reference_pose.",
        ),
        RefinerSocket.Input(
            "refiner",
            optional=True,
            tooltip="From HJB Face Refine: brings the faces closer to the reference while "
            "sampling. Needs an identity and the keypoints of the motion.",
        ),
    ]


def _frame_widgets() -> list[io.Input]:
    return [
        io.Int.Input(
            "width",
            default=_SIZE.width,
            min=64,
            max=4096,
            step=32,
            tooltip="Output width [px]; a multiple of 64. The model was trained on 512x512 and "
            "576x1024.",
        ),
        io.Int.Input(
            "height",
            default=_SIZE.height,
            min=64,
            max=4096,
            step=32,
            tooltip="Output height [px]; a multiple of 64.",
        ),
        io.Int.Input(
            "frames",
            default=0,
            min=0,
            max=10000,
            tooltip="Frames to animate from the start of the motion; 0 animates all of it.",
        ),
        io.Combo.Input(
            "fit",
            options=["letterbox", "crop", "stretch"],
            default="letterbox",
            tooltip="How reference and poses of other proportions are fitted: with bars, cut, or "
            "distorted.",
        ),
    ]


def _sampling_widgets() -> list[io.Input]:
    return [
        io.Int.Input(
            "seed",
            default=_SAMPLING.seed,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=True,
            tooltip="Seed of the noise, the same on every device.",
        ),
        io.Int.Input(
            "steps",
            default=_SAMPLING.steps,
            min=1,
            max=200,
            tooltip="Denoising steps.",
        ),
        io.Float.Input(
            "guidance_min",
            default=_GUIDANCE.minimum,
            min=0.0,
            max=20.0,
            step=0.1,
            tooltip="Guidance at the first frame. When both are 1, sampling takes half the time.",
        ),
        io.Float.Input(
            "guidance_max",
            default=_GUIDANCE.maximum,
            min=0.0,
            max=20.0,
            step=0.1,
            tooltip="Guidance at the last frame; it rises evenly in between.",
        ),
        io.Float.Input(
            "identity_scale",
            default=_SAMPLING.identity_scale,
            min=0.0,
            max=1.5,
            step=0.05,
            tooltip="Weight of the face in the ID adapter; 0 switches the branch off.",
        ),
        io.Float.Input(
            "noise_augmentation",
            default=_SAMPLING.noise_augmentation,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Noise on the reference picture before encoding. More gives the motion more "
            "freedom and keeps less of the picture.",
        ),
        io.Float.Input(
            "fps",
            default=_SAMPLING.fps,
            min=1.0,
            max=60.0,
            step=1.0,
            tooltip="Frame rate that the model is told, not that of the saved video. It was "
            "trained with 7.",
        ),
        io.Float.Input(
            "motion_bucket_id",
            default=_SAMPLING.motion_bucket_id,
            min=0.0,
            max=255.0,
            step=1.0,
            tooltip="Amount of motion that the model is told.",
        ),
    ]


def _window_widgets() -> list[io.Input]:
    return [
        io.Int.Input(
            "window_frames",
            default=_WINDOW.frames,
            min=1,
            max=128,
            tooltip="Frames sampled together. Longer clips are made of overlapping windows.",
        ),
        io.Int.Input(
            "window_overlap",
            default=_WINDOW.overlap,
            min=0,
            max=127,
            tooltip="Frames that neighbouring windows share, the anchor included; less than a "
            "window.",
        ),
        io.Combo.Input(
            "anchor",
            options=["first_frame", "reference_pose", "none"],
            default=_WINDOW.anchor,
            tooltip="What every window starts with: frame 0 (as published), an extra frame in the "
            "reference's own pose that is dropped at the end (steadier background), or nothing.",
        ),
        _chunk_input(),
        # widgets may only be appended: saved workflows store their values by place
        io.Float.Input(
            "identity_fade",
            default=_SAMPLING.identity_fade,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="How far the identity fades where the driven face cannot be seen: 0 not at "
            "all, 1 until it is off in back views. Needs keypoints.",
        ),
    ]


class DecodeAnimation(io.ComfyNode):
    """Decodes latents once more, for instance with another chunk length."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StableAnimatorDecode",
            display_name="Decode Animation",
            category=CATEGORY,
            description="Decodes latents to frames with the model's temporal VAE, a chunk at a "
            "time, so that long clips fit into memory.",
            inputs=[
                ModelSocket.Input("model", tooltip="From Load StableAnimator."),
                io.Latent.Input("latent", tooltip="From Animate with ID Adapter."),
                _chunk_input(),
            ],
            outputs=[io.Image.Output(display_name="frames", tooltip="The finished frames.")],
        )

    @classmethod
    def execute(cls, model: LoadedModel, latent, decode_chunk_frames) -> io.NodeOutput:
        from .translation import frames_to_image, socket_to_latents

        latents = socket_to_latents(latent, model.models.vae)
        decode = DecodeConfig(chunk_frames=decode_chunk_frames)
        frames = model.animator(ComfyMonitor()).decode(latents, decode)
        return io.NodeOutput(frames_to_image(frames, len(latents)))
