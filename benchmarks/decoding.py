"""Memory of decoding and writing a long clip, beyond the weights.

    python benchmarks/decoding.py [--frames 450] [--size 512]

The VAE is replaced by one that only enlarges, so that what is measured is what the pipeline holds:
latents, chunks, the video writer, and (second figure) the whole clip as ComfyUI's IMAGE.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sampling import TOY

from animator_core.checkpoints.build import build_models
from animator_core.config import DecodeConfig
from animator_core.frames import picture_to_uint8
from animator_core.interfaces import PlainDeviceManager
from animator_core.pipeline import Animator
from animator_core.video import VideoWriter


class EnlargingVAE(nn.Module):
    """Stands in for the VAE: three channels, eight times larger."""

    scaling_factor = 0.18215

    def activation_bytes(self, frames: int, height: int, width: int) -> int:
        return 12 * frames * height * width

    def iter_decode(
        self, latents: Tensor, chunk_frames: int, device: torch.device
    ) -> Iterator[Tensor]:
        for part in latents.split(chunk_frames):
            yield F.interpolate(part[:, :3].to(device), scale_factor=8)


def peak_gib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=450)
    parser.add_argument("--size", type=int, default=512)
    args = parser.parse_args()
    models = replace(build_models(TOY, seed=0), vae=EnlargingVAE())
    animator = Animator(models, PlainDeviceManager("cpu"))
    side = args.size // 8
    before = peak_gib()
    latents = torch.randn(args.frames, 4, side, side) * 0.2
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        with VideoWriter(Path(folder) / "clip.mp4", 30) as writer:
            for chunk in animator.decode(latents, DecodeConfig()):
                for frame in picture_to_uint8(chunk):
                    writer.write(frame)
        seconds = time.perf_counter() - start
    streamed = peak_gib() - before
    image = torch.empty((args.frames, args.size, args.size, 3))
    done = 0
    for chunk in animator.decode(latents, DecodeConfig()):
        image[done : done + len(chunk)] = chunk
        done += len(chunk)
    print(f"{args.frames} frames of {args.size}x{args.size}, beyond the weights")
    print(f"  decoded to an mp4        {streamed:.2f} GiB, {seconds:.1f} s with encoding")
    print(f"  decoded to an IMAGE      {peak_gib() - before:.2f} GiB")
    print(f"  ratio of the two         {(peak_gib() - before) / streamed:.1f}x")


if __name__ == "__main__":
    main()
