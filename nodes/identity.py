"""Encode Face, HJB Face Refine, Face Similarity."""

from __future__ import annotations

import json

import torch
from comfy_api.latest import io

from ..animator_core.comfy_adapter import ComfyMonitor, show_text
from ..animator_core.config import FaceRefineConfig
from .types import (
    CATEGORY,
    Identity,
    IdentitySocket,
    LoadedModel,
    ModelSocket,
    Refiner,
    RefinerSocket,
)

_REFINE = FaceRefineConfig()


def _threshold_input() -> io.Float.Input:
    return io.Float.Input(
        "threshold",
        default=0.5,
        min=0.05,
        max=0.95,
        step=0.05,
        tooltip="Least certainty of the face detector.",
    )


def _model_input() -> io.Input:
    return ModelSocket.Input(
        "model",
        optional=True,
        tooltip="From Load StableAnimator: its own face networks are used. Not connected: "
        "antelopev2, which the published weights were trained with.",
    )


def checked_model_input() -> io.Input:
    """A model socket beside an identity, which already says whose networks it needs."""
    return ModelSocket.Input(
        "model",
        optional=True,
        tooltip="From Load StableAnimator, to check that the identity was encoded for it. Not "
        "connected: the networks that encoded the identity are used.",
    )


class EncodeFace(io.ComfyNode):
    """Turns photographs of a face into an identity."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StableAnimatorEncodeFace",
            display_name="Encode Face",
            category=CATEGORY,
            description="Finds the face in one or several photographs of the same person and "
            "encodes it for the ID adapter. Published weights need insightface's antelopev2 (for "
            "non-commercial research only); the built-in demo has its own networks.",
            inputs=[
                io.Image.Input("images", tooltip="One photograph, or several of one person."),
                io.Combo.Input(
                    "face",
                    options=["largest", "chosen"],
                    default="largest",
                    tooltip="Which face of a picture counts; chosen takes the number below.",
                ),
                io.Int.Input(
                    "face_index",
                    default=0,
                    min=0,
                    max=99,
                    tooltip="Number of the chosen face, counted from the left, from 0.",
                ),
                _threshold_input(),
                io.Int.Input(
                    "person",
                    default=0,
                    min=-1,
                    max=99,
                    tooltip="Whose face it is: the person's place in the motion's keypoints. "
                    "Matters for several people, the fade and the refiner; -1 is nobody in "
                    "particular, who gets what the others leave.",
                ),
                io.Mask.Input(
                    "region",
                    optional=True,
                    tooltip="Where the face acts, one mask for all frames or one for each. Not "
                    "connected: everywhere, or with several people at the person's head.",
                ),
                _model_input(),
            ],
            outputs=[
                IdentitySocket.Output(display_name="identity", tooltip="For Animate."),
                io.Image.Output(
                    display_name="preview", tooltip="The faces as the recogniser sees them."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, images, threshold, person, region=None, model=None, **choice) -> io.NodeOutput:
        from ..animator_core.people import PersonIdentity, check_people
        from .face_translation import encode_faces, open_analyzer
        from .families import family_of

        family = family_of(model)
        index = choice["face_index"] if choice["face"] == "chosen" else None
        result = encode_faces(images, open_analyzer(family, threshold), index)
        show_text(result.note, cls.hidden.unique_id)
        encoded = PersonIdentity(
            face_embedding=torch.from_numpy(result.embedding).float(),
            person=None if person < 0 else person,
            region=region,
        )
        check_people([encoded])
        return io.NodeOutput(Identity(people=(encoded,), family=family), result.preview)


class HJBFaceRefine(io.ComfyNode):
    """Settings of the face refinement during sampling."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StableAnimatorFaceRefine",
            display_name="HJB Face Refine",
            category=CATEGORY,
            description="Brings the faces closer to the reference while sampling, by optimising "
            "the clean prediction of every step. Connect it to Animate with ID Adapter.",
            inputs=[
                io.Int.Input(
                    "iterations",
                    default=_REFINE.iterations,
                    min=0,
                    max=50,
                    tooltip="Optimiser steps per sampling step; 0 is off.",
                ),
                io.Int.Input(
                    "first_step",
                    default=_REFINE.first_step,
                    min=0,
                    max=199,
                    tooltip="First sampling step that is refined, from 0.",
                ),
                io.Int.Input(
                    "last_step",
                    default=_REFINE.last_step,
                    min=0,
                    max=199,
                    tooltip="Last sampling step that is refined.",
                ),
                io.Float.Input(
                    "rate",
                    default=_REFINE.rate,
                    min=0.001,
                    max=1.0,
                    step=0.005,
                    tooltip="Learning rate at the first step; it falls to 0 over the run.",
                ),
                io.Combo.Input(
                    "crop",
                    options=["auto", "aligned", "box"],
                    default=_REFINE.crop,
                    tooltip="How faces are cut out: aligned by eyes, nose and mouth, or by a box. "
                    "auto aligns where these points are known.",
                ),
                io.Combo.Input(
                    "mode",
                    options=["local", "reference"],
                    default=_REFINE.mode,
                    tooltip="local works on the face's neighbourhood and fits small cards; "
                    "reference does what was published and needs tens of gigabytes.",
                ),
                io.Mask.Input(
                    "face_masks",
                    optional=True,
                    tooltip="Where the face is, one mask per frame. Not connected: the motion's "
                    "keypoints say it.",
                ),
                _model_input(),
            ],
            outputs=[RefinerSocket.Output(display_name="refiner", tooltip="For Animate.")],
        )

    @classmethod
    def execute(cls, face_masks=None, model=None, **settings) -> io.NodeOutput:
        from ..animator_core.refining import FaceRefinement, load_recogniser
        from .families import family_folder, family_of

        config, family = FaceRefineConfig(**settings), family_of(model)
        with torch.inference_mode(False):  # gradients pass through the recogniser
            recogniser = load_recogniser(family_folder(family))
        wanted = FaceRefinement(config=config, recogniser=recogniser, face_masks=face_masks)
        return io.NodeOutput(Refiner(refinement=wanted, family=family))


class FaceSimilarity(io.ComfyNode):
    """Measures how alike faces stay over time, in frames of any model."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StableAnimatorFaceSimilarity",
            display_name="Face Similarity",
            category=CATEGORY,
            description="Cosine similarity between the faces of any frames and a reference face, "
            "frame by frame. Works with the frames of every model.",
            inputs=[
                io.Image.Input("images", tooltip="Frames to measure."),
                IdentitySocket.Input("identity", tooltip="The reference face."),
                _threshold_input(),
                checked_model_input(),
            ],
            outputs=[
                io.Float.Output(
                    display_name="mean",
                    tooltip="Mean over frames with a face, and over people if the identity holds "
                    "several.",
                ),
                io.Image.Output(display_name="curve", tooltip="The similarity over time."),
                io.String.Output(
                    display_name="values",
                    tooltip="One number per frame as JSON, null where no face was found; one such "
                    "list per person, if the identity holds several.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, images, identity: Identity, threshold, model: LoadedModel | None = None
    ) -> io.NodeOutput:
        from ..animator_core.faces.similarity import draw_curves
        from .face_translation import open_analyzer, similarity_curves
        from .families import check_identity

        check_identity(identity, model)
        analyzer = open_analyzer(identity.family, threshold)
        curves = similarity_curves(images, identity.people, analyzer, ComfyMonitor())
        picture = torch.from_numpy(draw_curves(curves).copy())[None].float() / 255
        rows = [[v if v == v else None for v in curve.values] for curve in curves]
        notes = [
            f"{c.name}: mean {c.mean:.3f}, least {c.minimum:.3f}, {c.frames_without_face} of "
            f"{len(c.values)} frames without a face"
            for c in curves
        ]
        show_text("\n".join(notes), cls.hidden.unique_id)
        mean = sum(curve.mean for curve in curves) / len(curves)
        return io.NodeOutput(mean, picture, json.dumps(rows if len(rows) > 1 else rows[0]))
