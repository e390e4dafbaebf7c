"""Training: memory and seconds per step of the animation model.

    python benchmarks/training.py                 # toy size, on the CPU
    python benchmarks/training.py --full          # published size, random weights, on CUDA
    python benchmarks/training.py --full --size 576x1024 --optimizer adamw8bit

A step encodes a micro-batch of pictures (VAE, image encoder), computes the loss, its gradients, and
updates weights and averages, all on the device, as `train` does.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from toy import TOY

from animator_core.checkpoints.build import PUBLISHED, build_models
from animator_core.interfaces import Progress, SilentMonitor
from animator_core.training.animation import AnimationObjective
from animator_core.training.animation_config import (
    AnimationTrainingConfig,
    FolderDataConfig,
    FrozenNetworks,
    SamplesConfig,
)
from animator_core.training.animation_networks import require_gradients
from animator_core.training.held_out import HeldOutFolders
from animator_core.training.loop import LoopConfig, train


class Pictures:
    """Micro-batches of noise."""

    def __init__(self, width: int, height: int, frames: int) -> None:
        self.shape = (1, frames, 3, height, width)

    def __call__(self, step: int, seed: int) -> dict[str, Any]:  # noqa: ARG002
        generator = torch.Generator().manual_seed(seed)
        frames, poses = (
            torch.randint(0, 256, self.shape, dtype=torch.uint8, generator=generator)
            for _ in range(2)
        )
        return {
            "frames": frames,
            "poses": poses,
            "reference": frames[:, 0],
            "face_masks": frames[:, :, 0],
            "face_embedding": torch.randn(1, 512, generator=generator),
            "has_face": torch.tensor([True]),
            "image_only": False,
        }


class StopWatch(SilentMonitor):
    """Notes when steps end."""

    def __init__(self) -> None:
        self.times = [time.perf_counter()]

    def update(self, progress: Progress) -> None:  # noqa: ARG002
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())

    def seconds(self) -> list[float]:
        """Seconds of every step but the first two."""
        steps = [b - a for a, b in zip(self.times, self.times[1:], strict=False)]
        return steps[2:] or steps


class NotExported(AnimationObjective):
    """Writes no weights."""

    def export(self, folder: Path) -> None:
        """Nothing: gigabytes that nobody reads."""


def config_of(args: argparse.Namespace, output: str) -> AnimationTrainingConfig:
    return AnimationTrainingConfig(
        loop=LoopConfig(
            output=output,
            steps=args.steps,
            learning_rate=1e-5,
            ema=args.ema,
            precision=args.precision,
            optimizer=args.optimizer,
            checkpoint_every=10**9,
            workers=0,
        ),
        frozen=FrozenNetworks(models=""),
        folders=FolderDataConfig(root=""),
        samples=SamplesConfig(clips=1, clip_frames=args.frames),
        gradient_checkpointing=not args.keep_activations,
        trained=args.trained,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="the published size")
    parser.add_argument("--size", help="WIDTHxHEIGHT; 512x512, or 64x64 for the toy size")
    parser.add_argument("--frames", type=int, help="16, or 4 for the toy size")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--precision", default=None, choices=("no", "fp16", "bf16"))
    parser.add_argument("--optimizer", default="adamw", choices=("adamw", "adamw8bit", "muon"))
    parser.add_argument("--ema", type=float, default=0.0)
    parser.add_argument("--trained", default="published", choices=("published", "all"))
    parser.add_argument("--keep-activations", action="store_true", help="no recomputing")
    args = parser.parse_args()
    args.frames = args.frames or (16 if args.full else 4)
    args.precision = args.precision or ("bf16" if args.full else "no")
    width, height = (
        int(x) for x in (args.size or ("512x512" if args.full else "64x64")).split("x")
    )

    device = "cuda" if torch.cuda.is_available() else "cpu"
    models = build_models(PUBLISHED if args.full else TOY, seed=0, device=device)
    require_gradients(models, args.trained)
    with tempfile.TemporaryDirectory() as output:
        config = config_of(args, output)
        objective = NotExported(config, models, HeldOutFolders(config, ()))
        watch = StopWatch()
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        train(objective, Pictures(width, height, args.frames), config.loop, monitor=watch)
    trained = sum(p.numel() for p in objective.parameters() if p.requires_grad)
    seconds = statistics.median(watch.seconds())
    print(f"{width}x{height}, {args.frames} frames, {args.precision}, {args.optimizer}")
    print(f"trained parameters: {trained / 1e6:.1f} M")
    print(f"median of {len(watch.seconds())} steps: {seconds:.3f} s")
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**30
        print(f"peak memory: {peak:.1f} GiB on {torch.cuda.get_device_name()}")


if __name__ == "__main__":
    main()
