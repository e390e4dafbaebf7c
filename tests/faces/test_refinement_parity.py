"""Golden 06 and 05_pipeline_hjb_pro: refinement equals the reference implementation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from golden_files import golden_cases, load_case
from recipes import assert_golden, load_recipe, stored_weights
from test_pipeline_parity import reference_models, reference_noise, reference_request
from torch import nn

from animator_core.config import FaceRefineConfig
from animator_core.diffusion.noise import predict_denoised
from animator_core.faces.crops import cut_faces
from animator_core.faces.likeness import (
    FaceRefineModels,
    Likeness,
    change_weights,
    plan_chunks,
)
from animator_core.faces.refinement import FaceRefiner
from animator_core.faces.tracks import track_from_boxes
from animator_core.interfaces import PlainDeviceManager, SamplerStep
from animator_core.models.vae import VideoVAE
from animator_core.pipeline import Animator

pytestmark = pytest.mark.parity
STEPS = golden_cases("06_")
PIPELINES = [name for name in golden_cases("05_pipeline") if "hjb" in name]


class GoldenFaceNet(nn.Module):
    """The golden files' stand-in for a recogniser."""

    def __init__(self, weights) -> None:
        super().__init__()
        first, second = weights["conv1.weight"].shape, weights["conv2.weight"].shape
        self.conv1 = nn.Conv2d(first[1], first[0], first[2], stride=4, padding=first[2] // 2)
        self.prelu1 = nn.PReLU(first[0])
        self.conv2 = nn.Conv2d(second[1], second[0], second[2], stride=4, padding=second[2] // 2)
        self.prelu2 = nn.PReLU(second[0])
        features, inputs = weights["fc.weight"].shape
        self.fc = nn.Linear(inputs, features)
        self.load_state_dict(weights)
        self.eval().requires_grad_(False)

    def forward(self, faces):
        return self.fc(self.prelu2(self.conv2(self.prelu1(self.conv1(faces)))).flatten(1))


class GoldenStep:
    """One case of golden 06, ready to run."""

    def __init__(self, name: str) -> None:
        self.case, self.tensors = load_case(name)
        args = self.case["args"]
        vae = VideoVAE(**self.case["config"]["vae"])
        load_recipe(vae, self.case["recipes"]["vae"])
        vae.eval().requires_grad_(False)
        net = GoldenFaceNet(stored_weights(self.case, self.tensors, "w.face_net."))
        reference = self.tensors["in.ref_embedding"][0]
        self.models = FaceRefineModels(vae=vae, recogniser=net, reference_embedding=reference)
        self.sample = self.tensors["in.sample"][0]
        self.start = predict_denoised(
            self.tensors["in.model_output"][0], self.sample, args["sigma"]
        )
        height, width = (8 * side for side in self.start.shape[-2:])
        self.boxes = [tuple(box) for box in args["face_boxes"]]
        self.track = track_from_boxes(self.boxes, height, width)
        self.chunk = args["decode_chunk_size"]
        self.step = SamplerStep(
            index=args["step_index"], total=args["num_inference_steps"], sigma=args["sigma"]
        )
        decay = 1 - args["step_index"] / args["num_inference_steps"]
        self.rate = args["learning_rate"] / decay

    def config(self, **changes):
        settings = {"mode": "reference", "rate": self.rate, "chunk_frames": self.chunk}
        iterations = self.case["args"]["num_optimization_iter"]
        return FaceRefineConfig(
            **{"iterations": iterations, "last_step": 10**6, **settings, **changes}
        )

    def refiner(self, **changes):
        return FaceRefiner(
            self.models, self.track, self.config(**changes), PlainDeviceManager("cpu")
        )


def assert_nearly_all(case, t, name, got, share=0.01):
    """Adam's first step is the sign of the gradient, which noise may flip where it is tiny."""
    off = (got - t[name]).abs() > case["tolerance"]["atol"][name]
    assert off.float().mean().item() <= share, f"{name}: {int(off.sum())} of {off.numel()} differ"


@pytest.fixture(scope="module", params=STEPS)
def golden_step(request):
    return GoldenStep(request.param)


def test_refined_step_equals_the_reference(golden_step):
    case, t = golden_step.case, golden_step.tensors
    assert_golden(case, t, "out.pred_original_sample_plain", golden_step.start[None])
    refiner = golden_step.refiner()
    refined = refiner(golden_step.start, golden_step.step)
    assert_nearly_all(case, t, "out.pred_original_sample_refined", refined[None])
    (record,) = refiner.records
    for i, mean in enumerate(record.mean_similarity):
        assert (
            abs(1 - mean - t[f"out.loss.{i}"].item()) <= case["tolerance"]["atol"][f"out.loss.{i}"]
        )
    assert record.rate == pytest.approx(case["args"]["learning_rate"])


def test_local_mode_makes_the_same_first_step_under_the_faces(golden_step):
    case, t, start = golden_step.case, golden_step.tensors, golden_step.start
    refiner = golden_step.refiner(mode="local", margin=None, iterations=1, feather=0, crop="box")
    refined = refiner(start, golden_step.step)
    free = change_weights(golden_step.track, "box", feather=0).expand_as(start) > 0
    assert torch.equal(refined[~free], start[~free])
    expected = torch.where(free, t["out.z0.0"][0], start)
    assert_nearly_all(case, {"out.z0.0": expected[None]}, "out.z0.0", refined[None])


@pytest.mark.parametrize("recompute", [False, True])
def test_chunked_gradient_equals_the_gradient_of_the_whole_clip(golden_step, recompute):
    t = golden_step.tensors
    chunks = plan_chunks(golden_step.track, "box", golden_step.chunk, margin=None)
    likeness = Likeness(golden_step.models, chunks, "box", recompute=recompute)
    parts = [likeness.gradient(c, golden_step.start[c.start : c.stop])[1] for c in chunks]
    gradient = torch.cat(parts)[None]
    assert (gradient - t["out.grad.0"]).abs().max() <= 1e-3 * t["out.grad.0"].abs().max()
    assert_golden(golden_step.case, t, "out.grad.0", gradient)


@pytest.mark.parametrize("mutation", ["box", "chunk", "rate", "schedule", "fewer"])
def test_a_changed_procedure_does_not_equal_the_reference(golden_step, mutation):
    changes, step, track = {}, golden_step.step, golden_step.track
    if mutation == "box":  # ends taken as excluded
        boxes = [(t, b - 1, left, r - 1) for t, b, left, r in golden_step.boxes]
        track = track_from_boxes(boxes, track.height, track.width)
    elif mutation == "chunk":
        changes["chunk_frames"] = golden_step.chunk + 1
    elif mutation == "rate":
        changes["rate"] = golden_step.rate * 1.05
    elif mutation == "schedule":
        step = replace(step, index=step.index - 1)
    else:
        changes["iterations"] = golden_step.case["args"]["num_optimization_iter"] - 1
    config, devices = golden_step.config(**changes), PlainDeviceManager("cpu")
    refined = FaceRefiner(golden_step.models, track, config, devices)(golden_step.start, step)
    name = "out.pred_original_sample_refined"
    with pytest.raises(AssertionError):
        assert_nearly_all(golden_step.case, golden_step.tensors, name, refined[None])


def test_crops_equal_the_reference(golden_step):
    case, t = golden_step.case, golden_step.tensors
    with torch.no_grad():
        parts = golden_step.start.split(golden_step.chunk)
        frames = torch.cat([golden_step.models.vae.decode_frames(p) for p in parts]).clamp(-1, 1)
    faces = cut_faces(frames, golden_step.track.regions, "box")
    assert_golden(case, t, "out.face_crops_iter0_sub4", faces[..., ::4, ::4])


@pytest.mark.parametrize("name", PIPELINES)
def test_refined_pipeline_equals_the_reference(name):
    case, t = load_case(name)
    args = case["args"]
    models = reference_models(case, t)
    net = GoldenFaceNet(stored_weights(case, t, "w.face_net."))
    refiner = FaceRefiner(
        FaceRefineModels(
            vae=models.vae, recogniser=net, reference_embedding=t["in.refine_ref_embedding"][0]
        ),
        track_from_boxes([tuple(b) for b in args["face_boxes"]], args["height"], args["width"]),
        FaceRefineConfig(
            mode="reference",
            iterations=args["num_optimization_iter"],
            first_step=args["start_refine_step"],
            last_step=args["end_refine_step"],
            rate=args["eta_scheduler"],
            chunk_frames=args["decode_chunk_size"],
        ),
        PlainDeviceManager("cpu"),
    )
    animator = Animator(models, PlainDeviceManager("cpu"))
    request, noise = reference_request(case, t), reference_noise(t)
    conditioning = animator.condition(request, noise)
    refined_steps = range(args["start_refine_step"], args["end_refine_step"] + 1)
    latents = noise.latents
    for state in animator.iterate(request, conditioning, noise, refiner):
        index, latents = state.step.index, state.latents
        if index < refined_steps.start:
            assert_golden(case, t, f"out.latents.{index}", latents[None])
        assert_nearly_all(case, t, f"out.noise_pred.{index}", state.prediction[None])
        assert_nearly_all(case, t, f"out.latents.{index}", latents[None])
    assert [r.step for r in refiner.records] == list(refined_steps)
    with torch.no_grad():
        chunks = animator.models.vae.iter_decode(latents, args["decode_chunk_size"], latents.device)
        raw = torch.cat(list(chunks)).movedim(0, 1)[None]
    assert (raw - t["out.raw_frames"]).abs().mean() <= 1e-3
