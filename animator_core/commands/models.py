"""The model and the device that a command runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import torch

from ..console import Console
from ..errors import ConfigError
from ..interfaces import PlainDeviceManager, Precision, resolve_dtype

if TYPE_CHECKING:
    from ..models.bundle import AnimatorModels

__all__ = ["DEMO_MODEL", "load_chosen_models", "make_devices"]

DEMO_MODEL = "demo"
"""Name of the built-in model; any other is a folder."""


def make_devices(name: str) -> PlainDeviceManager:
    """Manager of the device that the user named.

    Args:
        name: What torch calls it, or "auto" for a GPU if there is one.

    Raises:
        ConfigError: If there is no such device.
    """
    if name == "auto":
        return PlainDeviceManager(_best_device())
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"The device {name!r} cannot be used: {str(error).splitlines()[0]} "
            "Use auto, cpu, or cuda on a computer with an NVIDIA GPU and torch's CUDA build."
        ) from error
    return PlainDeviceManager(device)


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def load_chosen_models(args: Any, device: torch.device, console: Console) -> AnimatorModels:
    """The model of `--model`.

    Args:
        args: Has `model`, `precision` and `stable_video`.
        device: Decides the precision if that is automatic.
        console: Told what an untrained model means.

    Raises:
        CheckpointError: If files are missing or do not belong together.
        ConfigError: If a folder of Stable Video Diffusion is given to the demo model.
    """
    precision: Precision = args.precision
    if precision not in get_args(Precision):
        raise ConfigError(f"The precision is {precision!r}; use {', '.join(get_args(Precision))}.")
    dtype = resolve_dtype(precision, device)
    if args.model == DEMO_MODEL:
        from ..demo.model import DEMO_NOTICE, load_demo_models

        if args.stable_video is not None:
            raise ConfigError(
                "The demo model is complete in itself; leave --stable-video out, or name the "
                "folder of the published weights with --model."
            )
        console.say(DEMO_NOTICE)
        return load_demo_models(dtype)
    from ..checkpoints.build import load_models

    models = load_models(args.model, dtype, stable_video_folder=args.stable_video)
    if not models.trained:
        console.say(f"The model {models.name} is UNTRAINED: its video will look like noise.")
    return models
