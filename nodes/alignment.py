"""Align Pose, Pose Overlay."""

from __future__ import annotations

from comfy_api.latest import io

from ..animator_core.comfy_adapter import show_text
from ..animator_core.pose.alignment_config import AlignmentConfig
from .types import CATEGORY, PoseSocket

_DEFAULTS = AlignmentConfig()


class AlignPose(io.ComfyNode):
    """Carries a motion to where the reference person stands."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StableAnimatorAlignPose",
            display_name="Align Pose",
            category=CATEGORY,
            description="Turns, scales and shifts a motion so that it fits the person of the "
            "reference picture. Use it before any model that is driven by poses.",
            inputs=[
                PoseSocket.Input("driving", tooltip="The motion, one entry per frame."),
                PoseSocket.Input(
                    "reference", tooltip="Pose of the reference picture; its first entry is used."
                ),
                io.Image.Input(
                    "reference_image",
                    optional=True,
                    tooltip="The reference picture, for the overlay preview.",
                ),
                io.Combo.Input(
                    "method",
                    options=["learned", "procrustes", "rescale", "none"],
                    default=_DEFAULTS.method,
                    tooltip="learned: trained aligner, tells a raised arm from a bigger person. "
                    "procrustes: robust closed-form fit. rescale: the published line fit. none: "
                    "only the canvas changes.",
                ),
                io.Float.Input(
                    "strength",
                    default=_DEFAULTS.strength,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="0 leaves the motion where it is, 1 aligns it.",
                ),
                io.Combo.Input(
                    "matching",
                    options=["index", "position"],
                    default=_DEFAULTS.matching,
                    tooltip="With several people: who follows whom, by number or from left to "
                    "right.",
                ),
                io.Boolean.Input(
                    "per_frame",
                    default=_DEFAULTS.per_frame,
                    tooltip="One smoothed transform per frame instead of one for the clip, for "
                    "moving cameras. Takes the person's own steps out too.",
                ),
                io.Boolean.Input(
                    "retarget_limbs",
                    default=_DEFAULTS.retarget_limbs,
                    tooltip="Also take the reference's limb lengths, keeping the driving angles.",
                ),
                io.Boolean.Input(
                    "keep_aligned",
                    default=_DEFAULTS.keep_aligned,
                    tooltip="Leave a motion alone that fits already.",
                ),
            ],
            outputs=[
                PoseSocket.Output(display_name="poses", tooltip="On the reference's canvas."),
                io.Image.Output(
                    display_name="overlay",
                    tooltip="The aligned skeletons over the reference picture.",
                ),
                io.Float.Output(
                    display_name="residual",
                    tooltip="Distance left between motion and reference, in torso lengths.",
                ),
                io.String.Output(
                    display_name="transforms",
                    tooltip="Scale, angle and shift of every person, as JSON.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, driving, reference, reference_image=None, **settings) -> io.NodeOutput:
        import json

        from ..animator_core.pose.alignment import align
        from ..animator_core.pose.keypoints import to_pose_keypoint
        from .translation import alignment_note, driving_frames, reference_frame, reference_overlay

        goal = reference_frame(reference)
        result = align(driving_frames(driving), goal, AlignmentConfig(**settings))
        transforms = json.dumps([t.as_dict() for t in result.transforms])
        overlay = reference_overlay(reference_image, goal, result.frames)
        show_text(alignment_note(result), cls.hidden.unique_id)
        residual = result.transforms[0].residual if result.transforms else None
        return io.NodeOutput(
            to_pose_keypoint(result.frames),
            overlay,
            float("nan") if residual is None else residual,
            transforms,
        )


class PoseOverlay(io.ComfyNode):
    """Draws poses over pictures."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StableAnimatorPoseOverlay",
            display_name="Pose Overlay",
            category=CATEGORY,
            description="Draws poses over pictures, to see whether a motion fits.",
            inputs=[
                io.Image.Input("images", tooltip="One picture for all poses, or one for each."),
                PoseSocket.Input("poses", tooltip="One entry per frame."),
            ],
            outputs=[io.Image.Output(display_name="images", tooltip="One picture per pose.")],
        )

    @classmethod
    def execute(cls, images, poses) -> io.NodeOutput:
        from .translation import driving_frames, overlay_image

        return io.NodeOutput(overlay_image(images, driving_frames(poses)))
