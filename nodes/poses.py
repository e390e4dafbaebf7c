"""Draw Poses, Load Poses, Save Poses."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..animator_core.comfy_adapter import ComfyMonitor, input_files, input_path, output_path
from .types import CATEGORY, PoseSocket


class DrawPoses(io.ComfyNode):
    """Draws keypoints the way the model was trained on."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StableAnimatorDrawPoses",
            display_name="Draw Poses",
            category=CATEGORY,
            description="Draws keypoints as skeleton pictures in the style that StableAnimator "
            "was trained on. Several people are drawn together.",
            inputs=[
                PoseSocket.Input("poses", tooltip="One entry per frame."),
                io.Int.Input(
                    "width",
                    default=0,
                    min=0,
                    max=8192,
                    tooltip="Picture width [px]; 0 takes the poses' own canvas.",
                ),
                io.Int.Input(
                    "height",
                    default=0,
                    min=0,
                    max=8192,
                    tooltip="Picture height [px]; 0 takes the poses' own canvas.",
                ),
                io.Combo.Input(
                    "mode",
                    options=["thick", "exact", "fast"],
                    default="thick",
                    tooltip="thick and exact equal the original's pictures pixel for pixel; below "
                    "512 px, where exact lines fall to dots, thick ones stay lines. fast differs "
                    "by a grey level or two.",
                ),
            ],
            outputs=[io.Image.Output(display_name="skeletons", tooltip="One picture per frame.")],
        )

    @classmethod
    def execute(cls, poses, width, height, mode) -> io.NodeOutput:
        from ..animator_core.pose.drawing import draw_poses
        from .translation import driving_frames

        frames = driving_frames(poses)
        size = (width or frames[0].width, height or frames[0].height)
        pictures = draw_poses(frames, *size, mode, ComfyMonitor())
        return io.NodeOutput(torch.from_numpy(pictures).float().div_(255))


class LoadPoses(io.ComfyNode):
    """Reads keypoints from a JSON file."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StableAnimatorLoadPoses",
            display_name="Load Poses",
            category=CATEGORY,
            description="Reads a POSE_KEYPOINT file (as Save Poses and comfyui_controlnet_aux "
            "write it) from ComfyUI's input folder.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=input_files(".json"),
                    tooltip="A .json file in ComfyUI's input folder. Press R to see new files.",
                )
            ],
            outputs=[PoseSocket.Output(display_name="poses", tooltip="One entry per frame.")],
        )

    @classmethod
    def fingerprint_inputs(cls, file):
        path = input_path(file)
        return f"{path.stat().st_mtime_ns}:{path.stat().st_size}"

    @classmethod
    def execute(cls, file) -> io.NodeOutput:
        from ..animator_core.pose.keypoints import load_pose_file, to_pose_keypoint

        return io.NodeOutput(to_pose_keypoint(load_pose_file(input_path(file))))


class SavePoses(io.ComfyNode):
    """Writes keypoints to a JSON file."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StableAnimatorSavePoses",
            display_name="Save Poses",
            category=CATEGORY,
            description="Writes keypoints as POSE_KEYPOINT JSON to ComfyUI's output folder.",
            inputs=[
                PoseSocket.Input("poses", tooltip="One entry per frame."),
                io.String.Input(
                    "filename_prefix",
                    default="poses/StableAnimator",
                    tooltip="Subfolder and start of the file name in ComfyUI's output folder.",
                ),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, poses, filename_prefix) -> io.NodeOutput:
        from ..animator_core.pose.keypoints import from_pose_keypoint, save_pose_file

        path, subfolder = output_path(filename_prefix, ".json")
        save_pose_file(from_pose_keypoint(poses), path)
        saved = {"filename": path.name, "subfolder": subfolder, "type": "output"}
        return io.NodeOutput(ui={"files": [saved]})
