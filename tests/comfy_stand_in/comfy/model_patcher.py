"""The handle by which ComfyUI moves a model."""

from __future__ import annotations

import torch
from torch import nn


class ModelPatcher:
    def __init__(
        self,
        model: nn.Module,
        load_device: torch.device,
        offload_device: torch.device,
        size: int = 0,
        weight_inplace_update: bool = False,
    ) -> None:
        self.model = model
        if getattr(model, "device", None) is None:
            model.device = offload_device
        self.load_device = load_device
        self.offload_device = offload_device
        self.size = size or sum(t.nbytes for t in model.state_dict().values())
