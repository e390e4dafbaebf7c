"""Layers that can be told to cast their weights on use; here they never are."""

from __future__ import annotations

from torch import nn


class _Castable:
    comfy_cast_weights = False


class disable_weight_init:  # noqa: N801  (ComfyUI's name)
    class Linear(nn.Linear, _Castable):
        pass

    class Conv1d(nn.Conv1d, _Castable):
        pass

    class Conv2d(nn.Conv2d, _Castable):
        pass

    class Conv3d(nn.Conv3d, _Castable):
        pass

    class GroupNorm(nn.GroupNorm, _Castable):
        pass

    class LayerNorm(nn.LayerNorm, _Castable):
        pass

    class Embedding(nn.Embedding, _Castable):
        pass
