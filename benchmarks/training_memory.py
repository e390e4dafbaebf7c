"""Training memory of the published size, computed without a GPU and without a tensor.

    python benchmarks/training_memory.py           # toy size
    python benchmarks/training_memory.py --full [--size 576x1024] [--frames 16] [--trained all]

Two steps run on fake tensors, which have shapes and no content, and all that is alive is summed.
What a GPU adds to it is left out: the allocator's gaps, its libraries' work space, the driver.
`benchmarks/training.py --full` measures all of that where there is a GPU.
"""

from __future__ import annotations

import argparse
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.weak import WeakIdKeyDictionary

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from toy import TOY
from training import NotExported, Pictures, config_of

from animator_core.checkpoints.build import PUBLISHED, ModelConfigs, empty_network
from animator_core.models.bundle import AnimatorModels
from animator_core.training.animation_networks import require_gradients
from animator_core.training.held_out import HeldOutFolders

_BLOCK = 512  # what a GPU's allocator rounds up to
_PARTS = ("unet", "vae", "image_encoder", "pose_net", "face_encoder")
_GIB = 2**30


class LiveBytes(TorchDispatchMode):
    """Sums the storages that are alive, and remembers the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known = WeakIdKeyDictionary()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and note what it made."""
        made = func(*args, **(kwargs or {}))
        for value in tree_iter(made):
            if isinstance(value, Tensor):
                self._note(value.untyped_storage())
        return made

    def _note(self, storage: Any) -> None:
        if storage in self._known:
            return
        size = -(-storage.nbytes() // _BLOCK) * _BLOCK
        self._known[storage] = size
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, size)

    def _forget(self, size: int) -> None:
        self.live -= size


def _in_fp32(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def call(value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        others = [x.float() if isinstance(x, Tensor) else x for x in args]
        with torch.autocast("cpu", enabled=False):
            return function(value.float(), *others, **kwargs)

    return call


@contextmanager
def norms_as_on_a_gpu() -> Iterator[None]:
    """With mixed precision norms are computed in fp32 there, unlike on a CPU."""
    layer, group = (_in_fp32(getattr(F, name)) for name in ("layer_norm", "group_norm"))
    with mock.patch.object(F, "layer_norm", layer), mock.patch.object(F, "group_norm", group):
        yield


def fake_models(configs: ModelConfigs) -> AnimatorModels:
    """Networks whose weights have shapes and no content."""
    networks: dict[str, Any] = {}
    for part in _PARTS:
        networks[part] = empty_network(part, configs.arguments(part))
        for module in networks[part].modules():
            for name, value in [*module.named_parameters(recurse=False)]:
                module.register_parameter(name, nn.Parameter(torch.empty(value.shape)))
            for name, value in [*module.named_buffers(recurse=False)]:
                module.register_buffer(name, torch.empty(value.shape, dtype=value.dtype))
    return AnimatorModels(**networks, dtype=torch.float32, name="fake", trained=False)


def computed_memory(
    configs: ModelConfigs, width: int, height: int, args: argparse.Namespace
) -> tuple[int, int, int]:
    """Bytes of the weights, trained parameters, and the most bytes at once in two steps."""
    with FakeTensorMode(), norms_as_on_a_gpu(), LiveBytes() as memory:
        models = fake_models(configs)
        weights = memory.live
        require_gradients(models, args.trained)
        config = config_of(args, output="")
        objective = NotExported(config, models, HeldOutFolders(config, ()))
        trained = [p for p in objective.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, foreach=False)
        batch = Pictures(width, height, args.frames)(0, 1)
        for _ in range(args.steps):
            with torch.autocast("cpu", torch.bfloat16):
                loss = objective(batch, torch.Generator())["loss"]
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, config.loop.gradient_clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            del loss
        return weights, sum(p.numel() for p in trained), memory.peak


def settings(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="the published size; a minute or two")
    parser.add_argument("--size", help="WIDTHxHEIGHT; 512x512, or 64x64 for the toy size")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--trained", default="published", choices=("published", "all"))
    parser.add_argument("--keep-activations", action="store_true", help="no recomputing")
    args = parser.parse_args(arguments)
    # the optimizer's moments come with the first step, so the second one needs the most
    args.steps, args.precision, args.optimizer, args.ema = 2, "bf16", "adamw", 0.0
    args.size = args.size or ("512x512" if args.full else "64x64")
    return args


def main() -> None:
    args = settings()
    width, height = (int(x) for x in args.size.split("x"))
    configs = PUBLISHED if args.full else TOY
    weights, trained, peak = computed_memory(configs, width, height, args)
    print(f"{args.size}, {args.frames} frames, {args.precision}, fp32 weights, AdamW")
    print(f"weights: {weights / _GIB:.2f} GiB, trained parameters: {trained / 1e6:.1f} M")
    print(f"most at once: {peak / _GIB:.2f} GiB")


if __name__ == "__main__":
    main()
