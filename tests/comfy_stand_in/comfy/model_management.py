"""A computer with a CPU only, and room for exactly the models that were asked for last."""

from __future__ import annotations

import torch

_loaded: list = []
_interrupted = False


class InterruptProcessingException(Exception):  # noqa: N818  (ComfyUI's name)
    pass


def get_torch_device() -> torch.device:
    return torch.device("cpu")


def unet_offload_device() -> torch.device:
    return torch.device("cpu")


def should_use_fp16(device: torch.device | None = None) -> bool:
    return False


def should_use_bf16(device: torch.device | None = None) -> bool:
    return False


def get_total_memory(dev: torch.device | None = None) -> int:
    return 8 << 30


def extra_reserved_memory() -> int:
    return 400 << 20


def load_models_gpu(
    models: list, memory_required: float = 0, force_full_load: bool = False
) -> None:
    for patcher in models:
        patcher.model.to(patcher.load_device)
        patcher.model.device = patcher.load_device
    _loaded[:] = models


def loaded_models(only_currently_used: bool = False) -> list:
    return list(_loaded)


def unload_all_models() -> None:
    _loaded.clear()


def interrupt_current_processing(value: bool = True) -> None:
    global _interrupted
    _interrupted = value


def processing_interrupted() -> bool:
    return _interrupted


def throw_exception_if_processing_interrupted() -> None:
    if _interrupted:
        interrupt_current_processing(False)
        raise InterruptProcessingException()
