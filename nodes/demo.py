"""Demo Character."""

from __future__ import annotations

from comfy_api.latest import io

from .types import CATEGORY, PoseSocket

_MOST = 2**20 - 1  # there are that many held-out clips


class DemoCharacter(io.ComfyNode):
    """Draws somebody for a first run, whom the built-in model has never seen."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StableAnimatorDemoCharacter",
            display_name="Demo Character",
            category=CATEGORY,
            description="Draws a character of 192x192 px and a motion, so that everything can be "
            "tried without files of your own. The built-in demo model was trained on such "
            "characters, but never on one of these.",
            inputs=[
                io.Int.Input(
                    "character",
                    default=0,
                    min=0,
                    max=_MOST,
                    tooltip="Who: every number is another character, with other clothes and "
                    "another background.",
                ),
                io.Int.Input(
                    "motion",
                    default=0,
                    min=0,
                    max=_MOST,
                    tooltip="What the character does: every number is another motion, framed a "
                    "little differently.",
                ),
                io.Int.Input(
                    "frames", default=16, min=1, max=512, tooltip="Length of the motion, at 8 fps."
                ),
                io.Combo.Input(
                    "framing",
                    options=["half body", "whole body", "close-up"],
                    default="half body",
                    tooltip="How much of the character is in the picture. Faces of whole bodies "
                    "are nearly too small to be recognised.",
                ),
                io.Int.Input(
                    "people",
                    default=1,
                    min=1,
                    max=2,
                    tooltip="2 puts a second character beside the first; the left one is person 0.",
                ),
                io.Boolean.Input(
                    "misaligned",
                    default=True,
                    tooltip="Turn, scale and shift the motion at random, so that it no longer "
                    "fits the reference, for Align Pose to bring back.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="reference", tooltip="Picture of the character."),
                PoseSocket.Output(display_name="reference_pose", tooltip="Pose in that picture."),
                PoseSocket.Output(display_name="motion", tooltip="One pose per frame."),
                io.Image.Output(
                    display_name="truth",
                    tooltip="The motion drawn with the character, before it was misaligned: what "
                    "a perfect animation looks like.",
                ),
            ],
        )

    @classmethod
    def execute(cls, character, motion, frames, framing, people, misaligned) -> io.NodeOutput:
        from ..animator_core.pose.keypoints import to_pose_keypoint
        from .drawing import drawn_clip, misaligned_motion, pictures_to_image

        clip = drawn_clip(character, motion, frames, framing=framing, people=people)
        poses = misaligned_motion(clip, character, motion) if misaligned else clip.poses
        return io.NodeOutput(
            pictures_to_image(clip.reference[None]),
            to_pose_keypoint([clip.reference_pose]),
            to_pose_keypoint(poses),
            pictures_to_image(clip.frames),
        )
