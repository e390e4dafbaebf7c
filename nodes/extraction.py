"""Extract Poses, Clean Poses."""

from __future__ import annotations

from comfy_api.latest import io

from ..animator_core.comfy_adapter import ComfyMonitor, onnx_choices, onnx_path
from .types import CATEGORY, PoseSocket

_DETECTOR, _POSE_NETWORK = "DWPose/yolox_l.onnx", "DWPose/dw-ll_ucoco_384.onnx"


class ExtractPoses(io.ComfyNode):
    """Finds people's poses in pictures."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StableAnimatorExtractPoses",
            display_name="Extract Poses",
            category=CATEGORY,
            description="Finds bodies, faces and hands in every picture (DWPose) and follows "
            "people over time. Frames with nobody stay empty.",
            inputs=[
                io.Image.Input("images", tooltip="One picture, or the frames of a video."),
                io.Combo.Input(
                    "detector",
                    options=onnx_choices(_DETECTOR),
                    default=_DETECTOR,
                    tooltip="Person detector (YOLOX, ONNX) in models/stableanimator. The "
                    "built-in one knows drawn characters only.",
                ),
                io.Combo.Input(
                    "pose_network",
                    options=onnx_choices(_POSE_NETWORK),
                    default=_POSE_NETWORK,
                    tooltip="Whole-body pose network (RTMPose, ONNX) in models/stableanimator. The "
                    "built-in one knows drawn characters only.",
                ),
                io.Combo.Input(
                    "people",
                    options=["largest", "all", "chosen"],
                    default="largest",
                    tooltip="Whom to keep; chosen keeps the person of the number below.",
                ),
                io.Int.Input(
                    "person",
                    default=0,
                    min=0,
                    max=99,
                    tooltip="Number of the chosen person, counted from the left, from 0.",
                ),
                io.Float.Input(
                    "confidence",
                    default=0.3,
                    min=0.0,
                    max=0.99,
                    step=0.01,
                    tooltip="Body joints below this confidence count as not found.",
                ),
            ],
            outputs=[
                PoseSocket.Output(display_name="poses", tooltip="One entry per frame."),
                io.Image.Output(
                    display_name="preview", tooltip="The poses drawn over the pictures."
                ),
            ],
        )

    @classmethod
    def execute(cls, images, detector, pose_network, people, person, confidence) -> io.NodeOutput:
        from ..animator_core.pose.extraction import ExtractionConfig, PoseExtractor
        from ..animator_core.pose.keypoints import to_pose_keypoint
        from .translation import Uint8Frames, overlay_image

        networks = onnx_path(detector, _DETECTOR), onnx_path(pose_network, _POSE_NETWORK)
        extractor = PoseExtractor(*networks)
        choice = person if people == "chosen" else people
        config = ExtractionConfig(people=choice, confidence=confidence)
        frames = extractor.extract(Uint8Frames(images), config, ComfyMonitor())
        return io.NodeOutput(to_pose_keypoint(frames), overlay_image(images, frames))


class CleanPoses(io.ComfyNode):
    """Follows people, fills gaps, smooths and resamples."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StableAnimatorCleanPoses",
            display_name="Clean Poses",
            category=CATEGORY,
            description="Follows people through crossings, fills short gaps, smooths, and changes "
            "the frame rate. Long gaps stay empty.",
            inputs=[
                PoseSocket.Input("poses", tooltip="One entry per frame."),
                io.Boolean.Input(
                    "track",
                    default=True,
                    tooltip="Give every person one place in the list for the whole clip.",
                ),
                io.Int.Input(
                    "max_gap",
                    default=8,
                    min=0,
                    max=300,
                    tooltip="Longest run of frames without a joint that is filled in; 0 is off.",
                ),
                io.Float.Input(
                    "smoothing_hz",
                    default=0.0,
                    min=0.0,
                    max=30.0,
                    step=0.1,
                    tooltip="One-Euro smoothing: cut-off for joints at rest. Lower is smoother; "
                    "0 is off, 1 to 3 is usual.",
                ),
                io.Float.Input(
                    "fps",
                    default=30.0,
                    min=1.0,
                    max=240.0,
                    step=0.01,
                    tooltip="Frame rate of the poses.",
                ),
                io.Float.Input(
                    "target_fps",
                    default=0.0,
                    min=0.0,
                    max=240.0,
                    step=0.01,
                    tooltip="Frame rate to resample to; 0 leaves it.",
                ),
                io.Boolean.Input(
                    "settle_confidence",
                    default=False,
                    tooltip="Round confidences to found or not found, for packs that know nothing "
                    "in between (comfyui_controlnet_aux draws other joints black).",
                ),
            ],
            outputs=[
                PoseSocket.Output(display_name="poses", tooltip="One entry per frame."),
                io.Float.Output(display_name="fps", tooltip="Frame rate of the result."),
            ],
        )

    @classmethod
    def execute(cls, poses, settle_confidence, target_fps, **settings) -> io.NodeOutput:
        from ..animator_core.pose import interchange
        from ..animator_core.pose.cleaning import CleaningConfig, clean_poses
        from ..animator_core.pose.keypoints import to_pose_keypoint
        from .translation import driving_frames

        settings["min_cutoff_hz"] = settings.pop("smoothing_hz")
        config = CleaningConfig(**settings, target_fps=target_fps or None)
        frames = clean_poses(driving_frames(poses), config)
        if settle_confidence:
            frames = interchange.settle_confidence(frames)
        return io.NodeOutput(to_pose_keypoint(frames), target_fps or settings["fps"])
