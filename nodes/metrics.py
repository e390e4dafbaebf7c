"""Animation Metrics."""

from __future__ import annotations

from comfy_api.latest import io

from ..animator_core.comfy_adapter import ComfyMonitor, show_text
from .identity import checked_model_input
from .types import CATEGORY, Identity, IdentitySocket, PoseSocket

_NOT_MEASURED = "NaN where it was not measured."


class AnimationMetrics(io.ComfyNode):
    """Measures generated frames against target frames, a face, and driving poses."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StableAnimatorMetrics",
            display_name="Animation Metrics",
            category=CATEGORY,
            description="Measures the frames of any model: L1, PSNR and SSIM against target "
            "frames, CSIM against a face, and the pose error against driving poses. Connect "
            "whatever there is to compare with.",
            inputs=[
                io.Image.Input("images", tooltip="Generated frames."),
                io.Image.Input(
                    "target", optional=True, tooltip="True frames; for L1, PSNR and SSIM."
                ),
                IdentitySocket.Input("identity", optional=True, tooltip="Face to keep; for CSIM."),
                PoseSocket.Input(
                    "generated_poses",
                    optional=True,
                    tooltip="Poses found in the generated frames, by Extract Poses; for the pose "
                    "error.",
                ),
                PoseSocket.Input(
                    "driven_poses",
                    optional=True,
                    tooltip="Poses that the frames should follow; for the pose error.",
                ),
                io.Boolean.Input(
                    "published",
                    default=False,
                    tooltip="Also measure as the published tables do, 8-bit overflow included; "
                    "only to compare with those.",
                ),
                io.Boolean.Input(
                    "resize",
                    default=False,
                    tooltip="Stretch generated frames to the target's size; otherwise sizes must "
                    "match.",
                ),
                io.Boolean.Input(
                    "trim",
                    default=False,
                    tooltip="Compare the frames that both have; otherwise lengths must match.",
                ),
                io.Float.Input(
                    "threshold",
                    default=0.5,
                    min=0.05,
                    max=0.95,
                    step=0.05,
                    tooltip="Least certainty of the face detector.",
                ),
                checked_model_input(),
            ],
            outputs=[
                io.String.Output(
                    display_name="report",
                    tooltip="All values as JSON: means, per frame, protocols, versions.",
                ),
                io.Image.Output(display_name="curve", tooltip="The metrics over time."),
                io.Float.Output(
                    display_name="l1",
                    tooltip=f"Mean absolute difference, 0 to 1; lower is better. {_NOT_MEASURED}",
                ),
                io.Float.Output(
                    display_name="psnr",
                    tooltip=f"Signal-to-noise ratio in dB; higher is better. {_NOT_MEASURED}",
                ),
                io.Float.Output(
                    display_name="ssim",
                    tooltip=f"Structural similarity; higher is better. {_NOT_MEASURED}",
                ),
                io.Float.Output(
                    display_name="csim",
                    tooltip=f"Cosine to the face; higher is better. {_NOT_MEASURED}",
                ),
                io.Float.Output(
                    display_name="pose_error",
                    tooltip="Distance of the joints as a share of the torso's length; lower is "
                    f"better. {_NOT_MEASURED}",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, images, threshold, identity: Identity | None = None, model=None, **settings
    ) -> io.NodeOutput:
        from .families import check_identity
        from .measuring import MetricInputs, face_measure, measure_frames

        check_identity(identity, model)
        csim = face_measure(identity, threshold)
        inputs = MetricInputs(images=images, csim=csim, **settings)
        measured = measure_frames(inputs, ComfyMonitor())
        show_text(measured.note, cls.hidden.unique_id)
        return io.NodeOutput(measured.report, measured.curve, *measured.values)
