"""Face Masks, Combine Identities."""

from __future__ import annotations

from comfy_api.latest import io

from ..animator_core.comfy_adapter import show_text
from .types import CATEGORY, Identity, IdentitySocket, PoseSocket


class FaceMasks(io.ComfyNode):
    """Masks around one person's face, head or body."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StableAnimatorFaceMasks",
            display_name="Face Masks",
            category=CATEGORY,
            description="Draws one person's face, head or body as a mask for every frame, from "
            "keypoints: a region for Encode Face, the masks of HJB Face Refine, or a mask for any "
            "other node.",
            inputs=[
                PoseSocket.Input("poses", tooltip="Keypoints, one entry per frame."),
                io.Int.Input(
                    "person",
                    default=0,
                    min=0,
                    max=99,
                    tooltip="Which person, by place in the keypoints' list of people; Clean Poses "
                    "keeps the places over time.",
                ),
                io.Combo.Input(
                    "part",
                    options=["head", "face", "body"],
                    default="head",
                    tooltip="head is the face and the hair around it, and is known from behind "
                    "too; face is only where one is seen; body is the whole person.",
                ),
                io.Float.Input(
                    "grow",
                    default=0.1,
                    min=-0.4,
                    max=3.0,
                    step=0.05,
                    tooltip="Larger on every side by this share of the width and height.",
                ),
                io.Float.Input(
                    "feather",
                    default=0.3,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="Width of the soft edge as a share of the shorter side.",
                ),
            ],
            outputs=[
                io.Mask.Output(
                    display_name="masks",
                    tooltip="One mask per frame, in the keypoints' canvas; black where the part "
                    "is not seen.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, poses, person, part, grow, feather) -> io.NodeOutput:
        from .face_translation import person_masks

        masks, missing = person_masks(poses, person, part, grow=grow, feather=feather)
        if missing:
            text = f"the {part} of person {person} is not seen in {missing} of {len(masks)} frames"
            show_text(text, cls.hidden.unique_id)
        return io.NodeOutput(masks)


class CombineIdentities(io.ComfyNode):
    """Several people's identities as one."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StableAnimatorCombineIdentities",
            display_name="Combine Identities",
            category=CATEGORY,
            description="Several people in one animation, each with their own face. Make every "
            "identity with its own Encode Face, which says whose it is: the person's number in "
            "the motion, or a region.",
            inputs=[
                IdentitySocket.Input("first", tooltip="From Encode Face."),
                IdentitySocket.Input("second", tooltip="From Encode Face, of another person."),
                IdentitySocket.Input("third", optional=True, tooltip="One more person."),
                IdentitySocket.Input("fourth", optional=True, tooltip="One more person."),
            ],
            outputs=[IdentitySocket.Output(display_name="identity", tooltip="For Animate.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, first, second, third=None, fourth=None) -> io.NodeOutput:
        from .face_translation import combined_people, people_note
        from .families import check_families

        given = [identity for identity in (first, second, third, fourth) if identity is not None]
        family, people = check_families(given), combined_people(given)
        show_text(people_note(people), cls.hidden.unique_id)
        return io.NodeOutput(Identity(people=people, family=family))
