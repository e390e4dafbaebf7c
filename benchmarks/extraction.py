"""Speed of pose extraction: batched against frame by frame, in one run.

Run: python benchmarks/extraction.py [--frames 128] [--batch 8] [--networks tiny|published]

`published` builds networks with the layers of YOLOX-l and RTMPose-l and random weights: they find
nothing, but cost what the published files cost. The published detector has a fixed batch of 1, so
both that and an open batch are timed. This wants a GPU; on a CPU a frame takes seconds.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from onnx_factory import save_marker_detector, save_marker_pose_network
from onnx_published import save_rtmpose_l, save_yolox_l

from animator_core.pose.extraction import ExtractionConfig, PoseExtractor

Picture = NDArray[np.uint8]
REPEATS = 3


def clip(num_frames: int, width: int, height: int) -> list[Picture]:
    """A red marker that wanders over grey noise."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 60, (height, width, 1), dtype=np.uint8).repeat(3, axis=2)
    side = min(width, height) // 5  # a cell of the tiny detector
    top = 2 * side
    frames = []
    for index in range(num_frames):
        frame = noise.copy()
        left = int((width - side) * (0.5 + 0.4 * np.sin(index / 10)))
        frame[top : top + side, left : left + side] = (255, 0, 0)
        frames.append(frame)
    return frames


def decoded(frames: list[Picture], seconds: float) -> Iterator[Picture]:
    """The frames as a video decoder gives them, each after some time."""
    for frame in frames:
        time.sleep(seconds)
        yield frame


def _timed(name: str, num_frames: int, extract: Callable[[], list]) -> float:
    seconds = math.inf
    found = []
    for _ in range(REPEATS):  # the best of a few, since other programs run too
        start = time.perf_counter()
        found = extract()
        seconds = min(seconds, time.perf_counter() - start)
    people = sum(len(frame.people) > 0 and not frame.people[0].is_empty for frame in found)
    rate = num_frames / seconds
    print(f"{name:34} {rate:8.1f} frames/s   {seconds:7.2f} s   a person in {people} frames")
    return rate


def _compare(title: str, extractor: PoseExtractor, frames: list[Picture], batch: int) -> None:
    print(f"\n{title}, on {' and '.join(sorted(set(extractor.providers)))}")
    one = ExtractionConfig(people="all", batch_frames=1)
    many = ExtractionConfig(people="all", batch_frames=batch)
    extractor.extract(frames[:batch], many)  # the first call of each batch size is slow
    extractor.extract(frames[:2], one)
    count = len(frames)
    single = _timed(
        "one call per frame", count, lambda: [extractor.extract([f], one)[0] for f in frames]
    )
    _timed("overlapped, frame by frame", count, lambda: extractor.extract(frames, one))
    batched = _timed(
        f"overlapped, batches of {batch}", count, lambda: extractor.extract(frames, many)
    )
    _timed(
        "the same, 2 ms of decoding a frame",
        count,
        lambda: extractor.extract(decoded(frames, 0.002), many),
    )
    print(f"batched is {batched / single:.2f} times as fast as one call per frame")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=128)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--height", type=int, default=512)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--networks", choices=("tiny", "published"), default="tiny")
    parser.add_argument("--providers", nargs="+", help="such as cuda or cpu; all by default")
    args = parser.parse_args()
    logging.getLogger("animator_core").setLevel(logging.ERROR)
    frames = clip(args.frames, args.width, args.height)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for batch in ("N", 1):
            detector, pose = folder / f"detector_{batch}.onnx", folder / f"pose_{batch}.onnx"
            if args.networks == "tiny":
                save_marker_detector(detector, size=(160, 160), batch=batch)
                save_marker_pose_network(pose, size=(96, 72), batch=batch)
            else:
                print(f"YOLOX-l: {save_yolox_l(detector, batch=batch) / 1e9:.1f} GFLOP")
                print(f"RTMPose-l: {save_rtmpose_l(pose, batch='N') / 1e9:.1f} GFLOP")
            title = (
                "Networks with an open batch" if batch == "N" else "A batch of 1 fixed in the file"
            )
            _compare(title, PoseExtractor(detector, pose, args.providers), frames, args.batch)


if __name__ == "__main__":
    main()
