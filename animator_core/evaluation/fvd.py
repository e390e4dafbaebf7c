"""Fréchet video distance."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from ..checkpoints.state_dict import load_strict, read_state_dict
from .frechet import frechet_distance
from .i3d import I3D
from .measures import ClipResult, ClipSource, Measure, MetricUnavailableError
from .regions import Picture

__all__ = ["CLIP_FRAMES", "FvdMeasure", "clip_input", "load_i3d"]

CLIP_FRAMES = 16
_SIDE = 224
_NAMES = ("i3d", "rgb_imagenet")
_SUFFIXES = (".safetensors", ".pth", ".pt")


def clip_input(frames: NDArray[np.uint8]) -> Float[Tensor, "3 frames 224 224"]:
    """A clip as I3D takes it: shorter side to 224 px (bilinear), centre, -1..1.

    Args:
        frames: uint8 RGB [T, H, W, 3].
    """
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, 1).float()
    height, width = pixels.shape[-2:]
    scale = _SIDE / min(height, width)
    size = [max(math.ceil(side * scale), _SIDE) for side in (height, width)]
    if height <= width:
        size[0] = _SIDE
    if width <= height:
        size[1] = _SIDE
    pixels = F.interpolate(pixels, size, mode="bilinear", align_corners=False)
    top, left = (size[0] - _SIDE) // 2, (size[1] - _SIDE) // 2
    square = pixels[..., top : top + _SIDE, left : left + _SIDE]
    return square.movedim(0, 1).div(127.5).sub(1.0)


def load_i3d(folder: Path | None) -> I3D:
    """The feature network, from a local state dict.

    Args:
        folder: Holds i3d*.pt or rgb_imagenet.pt (or .pth, .safetensors) with the names of
            pytorch-i3d. TorchScript archives are programs and are refused.

    Raises:
        MetricUnavailableError: If the file is not there.
        CheckpointError: If it is damaged, unsafe, or another network.
    """
    found = [
        path
        for path in sorted(folder.iterdir() if folder is not None and folder.is_dir() else ())
        if path.name.lower().startswith(_NAMES) and path.suffix.lower() in _SUFFIXES
    ]
    # a TorchScript archive beside plain weights is no reason to fail
    plain = [path for path in found if "torchscript" not in path.name.lower()]
    if not found:
        place = f"found none in {folder}" if folder else "no folder was named"
        raise MetricUnavailableError(
            "needs I3D's weights for Kinetics-400 as a plain state dict, such as rgb_imagenet.pt; "
            f"{place} (--metric-weights)"
        )
    path = (plain or found)[0]
    network = I3D().eval().requires_grad_(False)
    weights = read_state_dict(path)
    # files from before torch 0.4.1 have no batch counters, which inference does not use
    counters = {k: v for k, v in network.state_dict().items() if k.endswith("batches_tracked")}
    load_strict(network, counters | weights, source=path, dtype=torch.float32)
    return network


class FvdMeasure(Measure):
    """Fréchet distance between the features of all generated and all target clips.

    Protocol: videos are cut into clips of 16 frames that do not overlap, a shorter rest is
    dropped; frames as in `clip_input`; features are I3D's 400 logits (Kinetics-400); sample
    covariances. Few clips bias it upwards, so compare only numbers from equally many.

    Args:
        network: [n, 3, 16, 224, 224] → [n, d].
        device: Where the network runs.
    """

    def __init__(self, network: nn.Module, device: torch.device | str = "cpu") -> None:
        self._network = network.to(device)
        self._device = torch.device(device)
        self._features: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._waiting: list[tuple[Picture, Picture]] = []
        self._clips = 0

    def begin(self, source: ClipSource) -> None:  # noqa: ARG002
        """Drop the rest of the video before."""
        self._waiting, self._clips = [], 0

    def add(self, generated: Picture, target: Picture | None) -> None:
        """Collect frames, and embed every 16."""
        assert target is not None
        self._waiting.append((generated, target))
        if len(self._waiting) < CLIP_FRAMES:
            return
        both = torch.stack(
            [clip_input(np.stack(frames)) for frames in zip(*self._waiting, strict=True)]
        )
        with torch.inference_mode():
            features = self._network(both.to(self._device)).float().cpu()
        for kept, feature in zip(self._features, features, strict=True):
            kept.append(feature)
        self._waiting = []
        self._clips += 1

    def end(self) -> ClipResult:
        """Only the number of clips: the distance is one of sets."""
        return ClipResult(
            counts={"clips_of_16_frames": self._clips}, reason="defined for all clips together"
        )

    def pooled(self) -> ClipResult:
        """The distance."""
        clips = len(self._features[0])
        if clips < 2:
            return ClipResult(
                reason=f"needs at least 2 clips of {CLIP_FRAMES} frames, found {clips}"
            )
        generated, target = (torch.stack(kept).numpy() for kept in self._features)
        return ClipResult(
            value=frechet_distance(generated, target), counts={"clips_of_16_frames": clips}
        )
