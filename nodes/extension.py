"""All nodes of the pack, in the order of the menu."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from ..animator_core.comfy_adapter import register_model_folder
from .alignment import AlignPose, PoseOverlay
from .animation import AnimateWithIDAdapter, DecodeAnimation
from .demo import DemoCharacter
from .extraction import CleanPoses, ExtractPoses
from .identity import EncodeFace, FaceSimilarity, HJBFaceRefine
from .loading import LoadStableAnimator
from .metrics import AnimationMetrics
from .people import CombineIdentities, FaceMasks
from .poses import DrawPoses, LoadPoses, SavePoses

NODES: list[type[io.ComfyNode]] = [
    LoadStableAnimator,
    ExtractPoses,
    CleanPoses,
    AlignPose,
    PoseOverlay,
    EncodeFace,
    CombineIdentities,
    FaceMasks,
    HJBFaceRefine,
    FaceSimilarity,
    AnimateWithIDAdapter,
    DecodeAnimation,
    DrawPoses,
    LoadPoses,
    SavePoses,
    AnimationMetrics,
    DemoCharacter,
]


class StableAnimatorExtension(ComfyExtension):
    """The pack as ComfyUI sees it."""

    def __init__(self) -> None:
        register_model_folder()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Node classes."""
        return NODES
