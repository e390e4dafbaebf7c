"""Sampling: our schedule against the reference's, and the full size on a GPU.

    python benchmarks/sampling.py             # ratio at toy size on the CPU
    python benchmarks/sampling.py --full      # also the published size with random weights, on CUDA

The reference's schedule computes the pose features again at every step and window and runs the two
guidance branches one after the other. Both schedules run the same networks in one process and must
agree; figures are medians of alternating runs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from toy import TOY

from animator_core.checkpoints.build import PUBLISHED, build_models
from animator_core.config import FrameSize, GuidanceConfig, SamplingConfig, WindowConfig
from animator_core.diffusion.denoiser import GuidedDenoiser, guidance_scales
from animator_core.diffusion.noise import initial_noise_scale, karras_sigmas, tile_noise
from animator_core.diffusion.sampler import iterate_euler
from animator_core.diffusion.windows import plan_windows
from animator_core.driving import DrivingMotion
from animator_core.frames import to_model_range
from animator_core.interfaces import PlainDeviceManager
from animator_core.models.bundle import AnimatorModels
from animator_core.pipeline import AnimationRequest, Animator, RunNoise

FLOOR_PFLOP = {(512, 512): 1.02, (576, 1024): 2.56}
"""Arithmetic of 16 frames, 25 steps, both guidance branches, in the UNet alone."""


def make_request(size: FrameSize, frames: int, steps: int, window: int) -> AnimationRequest:
    random = np.random.default_rng(0)
    shape = (frames, size.height, size.width, 3)
    return AnimationRequest(
        reference=random.integers(0, 256, (size.height, size.width, 3), dtype=np.uint8),
        motion=DrivingMotion(skeletons=random.integers(0, 256, shape, dtype=np.uint8)),
        face_embedding=torch.randn(512, generator=torch.Generator().manual_seed(0)),
        size=size,
        sampling=SamplingConfig(steps=steps),
        guidance=GuidanceConfig(minimum=2.0, maximum=3.0),
        window=WindowConfig(frames=window, overlap=4),
    )


def ours(animator: Animator, request: AnimationRequest, noise: RunNoise) -> Tensor:
    """The pipeline from pose pictures to latents."""
    conditioning = animator.condition(request, noise)
    *_, last = animator.iterate(request, conditioning, noise)
    return last.latents


@torch.no_grad()
def reference_schedule(animator: Animator, request: AnimationRequest, noise: RunNoise) -> Tensor:
    """The same result by the reference's schedule."""
    models, frames = animator.models, request.output_frames
    windows = plan_windows(frames, request.window)
    pictures = np.concatenate(list(request.motion.iter_pictures(frames, request.size, request.fit)))
    single = replace(
        request, num_frames=1, motion=DrivingMotion(skeletons=pictures[:1]), window=request.window
    )
    conditioning = animator.condition(single, noise)  # reference and face, without the poses
    scales = guidance_scales(frames, request.guidance)

    def predict(latents: Tensor, sigma: float) -> Tensor:
        total, weights = torch.zeros_like(latents), torch.zeros(frames, 1, 1, 1)
        for window in windows:
            features = models.pose_net(to_model_range(pictures[window]))
            placed = features.new_zeros(frames, *features.shape[1:])
            placed[window] = features
            denoiser = GuidedDenoiser(
                network=models.unet,
                conditioning=replace(conditioning, pose_features=placed),
                windows=[window],
                guidance=scales,
                together=False,
                device=animator.devices.device,
                dtype=models.dtype,
            )
            weight = _weights(window)
            part = denoiser(latents, sigma)
            total[window] += part[window] * weight
            weights[window] += weight
        return total / weights

    start = tile_noise(noise.latents, frames) * initial_noise_scale()
    *_, last = iterate_euler(predict, start, karras_sigmas(request.sampling.steps))
    return last.latents


def _weights(window: list[int]) -> Tensor:
    from animator_core.diffusion.windows import blend_weights

    return blend_weights(len(window))[:, None, None, None]


def alternate(first: Callable[[], object], second: Callable[[], object], runs: int) -> list[float]:
    """Median seconds of two functions that are run in turn."""
    times: list[list[float]] = [[], []]
    for _ in range(runs):
        for function, column in zip((first, second), times, strict=True):
            start = time.perf_counter()
            function()
            column.append(time.perf_counter() - start)
    return [statistics.median(column) for column in times]


def toy(runs: int) -> None:
    models = build_models(TOY, seed=0)
    animator = Animator(models, PlainDeviceManager("cpu"))
    request = make_request(FrameSize(width=64, height=64), frames=28, steps=5, window=8)
    noise = RunNoise.drawn(request)
    mine, theirs = ours(animator, request, noise), reference_schedule(animator, request, noise)
    difference = ((mine - theirs).abs().max() / theirs.abs().max()).item()
    seconds = alternate(
        lambda: ours(animator, request, noise),
        lambda: reference_schedule(animator, request, noise),
        runs,
    )
    threads = torch.get_num_threads()
    print(f"toy size, 64x64, 28 frames, windows of 8, 5 steps, {threads} CPU threads")
    print(f"  largest difference of the results  {difference:.1e} of their range")
    print(f"  reference's schedule               {seconds[1]:.2f} s")
    print(f"  ours                               {seconds[0]:.2f} s")
    print(f"  ratio                              {seconds[1] / seconds[0]:.2f}x")


def peak_tflops(dtype: torch.dtype) -> float:
    """What a large matrix product reaches on this device, for the share of the floor."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=dtype) for _ in "ab")
    for _ in range(5):
        a @ b
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(30):
        a @ b
    torch.cuda.synchronize()
    return 30 * 2 * 8192**3 / (time.perf_counter() - start) / 1e12


def full_size(models: AnimatorModels, size: FrameSize, tflops: float) -> None:
    animator = Animator(models, PlainDeviceManager("cuda", keep_loaded=True))
    request = make_request(size, frames=16, steps=25, window=16)
    noise = RunNoise.drawn(request)
    conditioning = animator.condition(request, noise)
    for network in (models.vae, models.image_encoder, models.face_encoder, models.pose_net):
        network.to("cpu")  # as when a smaller card takes turns
    torch.cuda.empty_cache()
    list(_first(animator.iterate(request, conditioning, noise), 2))
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        *_, last = animator.iterate(request, conditioning, noise)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    peak = torch.cuda.max_memory_allocated() / 2**30
    floor = FLOOR_PFLOP[size.width, size.height] * 1e3 / tflops
    print(f"full size, {size.width}x{size.height}, 16 frames, 25 steps, fp16, random weights")
    print(f"  sampling       {median:.2f} s, peak memory {peak:.2f} GiB")
    print(f"  share of floor {floor / median:.1%} (floor {floor:.2f} s at {tflops:.0f} TFLOP/s)")
    models.unet.to("cpu")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    models.vae.to("cuda")
    start = time.perf_counter()
    for _ in animator.decode(last.latents.cpu()):
        pass
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() / 2**30
    print(f"  decoding       {time.perf_counter() - start:.2f} s, peak memory {peak:.2f} GiB")


def _first(items, count):
    for _ in range(count):
        yield next(items)
    items.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="also the published size on CUDA")
    parser.add_argument("--runs", type=int, default=5, help="alternating runs at toy size")
    args = parser.parse_args()
    toy(args.runs)
    if not args.full:
        return
    if not torch.cuda.is_available():
        print("full size: skipped, it needs a CUDA device")
        return
    tflops = peak_tflops(torch.float16)
    models = build_models(PUBLISHED, seed=0, dtype=torch.float16, device="cuda")
    for width, height in FLOOR_PFLOP:
        full_size(models, FrameSize(width=width, height=height), tflops)


if __name__ == "__main__":
    main()
