"""What the training loop asks of accelerate, torch and bitsandbytes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import DependencyError
from .muon import Muon

if TYPE_CHECKING:
    from accelerate import Accelerator

    from .loop import LoopConfig

__all__ = ["learning_rate", "make_optimizer", "on_device", "open_accelerator"]


def open_accelerator(config: LoopConfig) -> Accelerator:
    """Accelerate's handle of a run.

    Args:
        config: Its precision, accumulation, device and tracker.

    Raises:
        DependencyError: If the precision or the tracker is not available.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs

    # temporal layers are not used by single pictures, and some keys never count
    several = DistributedDataParallelKwargs(find_unused_parameters=True)
    try:
        accelerator = Accelerator(
            kwargs_handlers=[several],
            mixed_precision=config.precision,
            gradient_accumulation_steps=config.accumulation,
            log_with=config.tracker or None,
            project_dir=config.output,
            cpu=config.device == "cpu" or not torch.cuda.is_available(),
        )
    except (ValueError, ImportError) as error:
        raise DependencyError(
            f"accelerate cannot start with precision {config.precision!r} and tracker "
            f"{config.tracker!r}: {error}. Use precision 'no', or install the tracker."
        ) from error
    if config.tracker:
        accelerator.init_trackers("stableanimator")
    return accelerator


def make_optimizer(
    parameters: list[nn.Parameter], config: LoopConfig, device: torch.device
) -> torch.optim.Optimizer:
    """The optimizer that a run asks for.

    Args:
        parameters: What is trained.
        config: Its optimizer and rates.
        device: Where the parameters are.

    Raises:
        DependencyError: If it needs a package that is not installed.
    """
    settings: dict[str, Any] = {
        "lr": config.learning_rate,
        "betas": config.betas,
        "weight_decay": config.weight_decay,
    }
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, fused=device.type in ("cpu", "cuda"), **settings)
    if config.optimizer == "muon":
        return Muon(parameters, **settings)
    try:
        from bitsandbytes.optim import AdamW8bit  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise DependencyError(
            "The optimizer adamw8bit needs the package bitsandbytes, which is not installed; "
            "install it or use the optimizer adamw."
        ) from error
    return AdamW8bit(parameters, **settings)


def on_device(batch: Any, device: torch.device) -> Any:
    """Move the tensors of nested tuples, lists and dictionaries."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {k: on_device(v, device) for k, v in batch.items()}
    if isinstance(batch, (list, tuple)):
        return type(batch)(on_device(v, device) for v in batch)
    return batch


def learning_rate(config: LoopConfig, step: int) -> float:
    """Rate of a step: linear rise, plateau, cosine fall."""
    rise = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    start = config.steps * (1 - config.decay)
    fall = max(0.0, (step - start) / max(config.steps - start, 1))
    return config.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * fall))
