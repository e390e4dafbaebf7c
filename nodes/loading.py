"""Load StableAnimator."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..animator_core.comfy_adapter import (
    BUILT_IN,
    ComfyDeviceManager,
    model_choices,
    model_folder,
    weight_dtype,
)
from ..animator_core.models.bundle import AnimatorModels
from .types import CATEGORY, LoadedModel, ModelSocket


class LoadStableAnimator(io.ComfyNode):
    """Loads a model, strictly."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StableAnimatorLoadModel",
            display_name="Load StableAnimator",
            category=CATEGORY,
            description="Loads the video model with its PoseNet, face encoder, VAE and image "
            "encoder. Every weight must be there: a missing or unexpected key is an error.",
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=[BUILT_IN, *model_choices()],
                    default=BUILT_IN,
                    tooltip="A folder in models/stableanimator with SVD and Animation in it, or "
                    "the small built-in demo model, which needs no download.",
                ),
                io.Combo.Input(
                    "precision",
                    options=["auto", "fp16", "bf16", "fp32"],
                    default="auto",
                    tooltip="Precision of the weights; auto takes what suits your device.",
                ),
            ],
            outputs=[
                ModelSocket.Output(
                    display_name="model", tooltip="All five networks; they load when they run."
                )
            ],
        )

    @classmethod
    def execute(cls, checkpoint, precision) -> io.NodeOutput:
        # Nodes run in inference mode, and a tensor made there could never take part in a gradient,
        # which the face refinement needs.
        with torch.inference_mode(False):
            models = _load(checkpoint, weight_dtype(precision))
        family = "built-in" if checkpoint == BUILT_IN else "published"
        return io.NodeOutput(
            LoadedModel(models=models, devices=ComfyDeviceManager(), family=family)
        )


def _load(checkpoint: str, dtype: torch.dtype) -> AnimatorModels:
    if checkpoint == BUILT_IN:
        from ..animator_core.demo.model import load_demo_models

        return load_demo_models(dtype)
    from ..animator_core.checkpoints.build import load_models

    return load_models(model_folder(checkpoint), dtype)
