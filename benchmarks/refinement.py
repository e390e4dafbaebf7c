"""Face refinement: the default mode against the reference's procedure, in one run.

Same weights, same latents, same faces. Prints one JSON object.

    python benchmarks/refinement.py                 # toy size on the CPU
    python benchmarks/refinement.py --device cuda   # SVD's VAE, IResNet100, 16 frames of 512x512

Peak memory is above the resident weights: on CUDA what the allocator reports, on the CPU the sum
of the tensors that autograd holds at once plus the largest tensors made in between.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from animator_core.config import FaceRefineConfig
from animator_core.faces.crops import cut_faces
from animator_core.faces.likeness import FaceRefineModels, Likeness, plan_chunks
from animator_core.faces.refinement import FaceRefiner
from animator_core.faces.tracks import track_from_boxes
from animator_core.interfaces import PlainDeviceManager, SamplerStep
from animator_core.models.face_recognition import IResNet
from animator_core.models.vae import VAE_PRESET, VideoVAE


@dataclass(frozen=True)
class Scale:
    """Sizes of a run."""

    vae: dict[str, Any]
    recogniser: dict[str, Any]
    frames: int
    side_px: int
    dtype: torch.dtype


TOY = Scale(
    vae={**VAE_PRESET, "block_out_channels": (32, 32, 64, 64), "layers_per_block": 1},
    recogniser={"layers": (1, 1, 1, 1), "widths": (8, 8, 16, 16, 32), "num_features": 64},
    frames=4,
    side_px=256,
    dtype=torch.float32,
)
FULL = Scale(vae=VAE_PRESET, recogniser={}, frames=16, side_px=512, dtype=torch.float16)


class LiveBytes(TorchDispatchMode):
    """Most bytes of tensors alive at once that were made while it was on."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._live: dict[int, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if not isinstance(tensor, Tensor):
                continue
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self._live:
                self._live[key] = storage.nbytes()
                weakref.finalize(storage, self._live.pop, key, None)
        self.peak = max(self.peak, sum(self._live.values()))
        return out


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measured(run: Callable[[], Tensor], device: torch.device) -> tuple[float, int]:
    """Seconds and peak bytes; memory is measured in a run of its own.

    On the CPU the seconds are processor time, which other programs do not disturb.
    """
    if device.type == "cuda":
        run()  # kernels are chosen in the first run
        torch.cuda.empty_cache()
        resident = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        peak = torch.cuda.max_memory_allocated(device) - resident
    else:
        with LiveBytes() as live:
            run()
        peak = live.peak
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    synchronize(device)
    start = clock()
    run()
    synchronize(device)
    return clock() - start, peak


def build(scale: Scale, device: torch.device) -> tuple[FaceRefineModels, list[Any]]:
    torch.manual_seed(0)
    vae = VideoVAE(**scale.vae).eval().requires_grad_(False).to(device, scale.dtype)
    # a recogniser of this size in float32 would cost a GPU as much time as our whole decoding
    precision = torch.bfloat16 if device.type == "cuda" else torch.float32
    recogniser = IResNet(**scale.recogniser).eval().requires_grad_(False).to(device, precision)
    reference = torch.randn(recogniser.num_features)
    face, shift = scale.side_px // 6, scale.side_px // 100
    boxes = []
    for index in range(scale.frames):
        top, left = scale.side_px // 6 + shift * (index % 4), scale.side_px // 3 + shift * index
        boxes.append((top, top + face - 1, left, left + face - 1))
    models = FaceRefineModels(vae=vae, recogniser=recogniser, reference_embedding=reference)
    return models, boxes


def gradients_agree(models: FaceRefineModels, track: Any, latents: Tensor, chunk: int) -> float:
    """Largest relative difference of the chunked gradient to the whole clip's, whole frames.

    In float32, because float16 without loss scaling, as the reference has it, rounds it to zero.
    """
    models.vae.float()
    models.recogniser.float()
    chunks = plan_chunks(track, "box", chunk, margin=None)
    likeness = Likeness(models, chunks, "box")
    chunked = torch.cat([likeness.gradient(c, latents[c.start : c.stop])[1] for c in chunks])
    leaf = latents.clone().requires_grad_()
    decoded = [models.vae.decode_frames(p) for p in leaf.split(chunk)]
    faces = cut_faces(torch.cat(decoded).float().clamp(-1, 1), track.regions, "box")
    (whole,) = torch.autograd.grad((1 - models.similarity(faces)).abs().mean(), leaf)
    return float((chunked - whole).abs().max() / whole.abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--full", action="store_true", help="full size also on the CPU")
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--dtype", choices=("fp16", "bf16", "fp32"))
    args = parser.parse_args()
    device = torch.device(args.device)
    scale = FULL if args.full or device.type == "cuda" else TOY
    if args.dtype:
        dtypes = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
        scale = Scale(**{**vars(scale), "dtype": dtypes[args.dtype]})
    models, boxes = build(scale, device)
    track = track_from_boxes(boxes, scale.side_px, scale.side_px)
    side = scale.side_px // 8
    latents = torch.randn(scale.frames, 4, side, side).to(device)
    step = SamplerStep(index=10, total=25, sigma=20.0)
    devices = PlainDeviceManager(device, keep_loaded=True)
    results: dict[str, Any] = {}
    for name, mode in (("default", "local"), ("reference", "reference")):
        config = FaceRefineConfig(
            iterations=args.iterations, mode=mode, crop="box", early_stop=False
        )

        def run(config: FaceRefineConfig = config) -> Tensor:
            return FaceRefiner(models, track, config, devices)(latents, step)

        seconds, peak = measured(run, device)
        results[name] = {"seconds_per_step": round(seconds, 4), "peak_gb": round(peak / 2**30, 4)}
    small, chunk = 2, 1  # whole frames with gradients take 10 GB each at full size
    few = track_from_boxes(boxes[:small], scale.side_px, scale.side_px)
    ours, theirs = results["default"], results["reference"]
    print(
        json.dumps(
            {
                "machine": torch.cuda.get_device_name(device)
                if device.type == "cuda"
                else f"{platform.machine()} CPU, {torch.get_num_threads()} threads",
                "frames": scale.frames,
                "size_px": scale.side_px,
                "iterations": args.iterations,
                "dtype": str(scale.dtype).removeprefix("torch."),
                **results,
                "time_ratio": round(ours["seconds_per_step"] / theirs["seconds_per_step"], 4),
                "memory_ratio": round(ours["peak_gb"] / theirs["peak_gb"], 4),
                "whole_frame_gradient_difference": gradients_agree(
                    models, few, latents[:small], chunk
                ),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
