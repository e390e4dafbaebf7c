"""Muon: steps of equal size in all directions of a matrix.

AdamW scales every weight by itself; the steps of a matrix then lie in few directions. Muon makes
the momentum of a matrix orthogonal first, so that rare directions are learnt as fast as common
ones. What is no matrix is left to AdamW.

Source: Jordan et al. 2024 (Muon, kellerjordan.github.io/posts/muon); the size of a step as in Liu
et al. 2025 (arXiv 2502.16982), equation 4, so that AdamW's rates serve both. `torch.optim.Muon`
takes no convolutions, and one matrix at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Muon", "orthogonal"]

_MOMENTUM = 0.95
_ROUNDS = 5
_QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan et al.: steepest at 0, singular values end in .7..1.2
_ADAMW_RMS = 0.2  # of AdamW's steps, for a rate of 1
_AT_ONCE = 1 << 24  # numbers that are made orthogonal together: many small matrices, few large ones
_LEAST_SIDE = 9  # what has fewer rows or columns is no matrix to speak of: a picture's channels


class Muon(torch.optim.AdamW):
    """Muon for matrices, AdamW for the rest.

    Convolutions are matrices of output channels by everything else. A step takes the gradients of
    matrices away.

    Args:
        parameters: What is trained.
        lr: Learning rate, as for AdamW.
        betas: AdamW's, for the rest.
        weight_decay: Of both.
    """

    def __init__(
        self,
        parameters: list[nn.Parameter],
        *,
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
    ) -> None:
        matrices = [p for p in parameters if _is_matrix(p)]
        rest = [p for p in parameters if not _is_matrix(p)]
        groups = [{"params": matrices, "muon": True}, {"params": rest, "muon": False}]
        groups = [group for group in groups if group["params"]]
        super().__init__(groups, lr=lr, betas=betas, weight_decay=weight_decay)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step; see `torch.optim.Optimizer.step`."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group["muon"]:
                self._move_matrices(group)
        super().step()  # passes over what has no gradient
        return loss

    def _move_matrices(self, group: dict[str, Any]) -> None:
        alike: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = {}
        for parameter in group["params"]:
            if parameter.grad is not None:
                direction = self._direction(parameter)
                alike.setdefault(direction.shape, []).append((parameter, direction))
                parameter.grad = None
        for shape, pairs in alike.items():
            size = group["lr"] * _ADAMW_RMS * math.sqrt(max(shape))
            count = max(_AT_ONCE // shape.numel(), 1)
            for part in (pairs[i : i + count] for i in range(0, len(pairs), count)):
                directions = orthogonal(torch.stack([direction for _, direction in part]))
                for (parameter, _), direction in zip(part, directions, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(size * direction.view_as(parameter))

    def _direction(self, parameter: nn.Parameter) -> Float[Tensor, "rows columns"]:
        """Nesterov's momentum."""
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            # AdamW looks for a step in all that it reads back
            state |= {"step": torch.zeros(()), "momentum": torch.zeros_like(parameter)}
        state["step"] += 1
        state["momentum"].lerp_(parameter.grad, 1 - _MOMENTUM)
        return parameter.grad.lerp(state["momentum"], _MOMENTUM).flatten(1)


def _is_matrix(parameter: Tensor) -> bool:
    return parameter.ndim >= 2 and min(parameter.flatten(1).shape) >= _LEAST_SIDE


def orthogonal(
    matrices: Float[Tensor, "n rows columns"],
) -> Float[Tensor, "n rows columns"]:
    """Roughly the nearest (half-)orthogonal matrices: all singular values near 1.

    Newton and Schulz's iteration in bfloat16, which is exact enough for a direction.
    """
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / x.float().norm(dim=(1, 2), keepdim=True).clamp(min=1e-7).bfloat16()
    a, b, c = _QUINTIC
    for _ in range(_ROUNDS):
        square = x @ x.mT
        x = a * x + (b * square + c * (square @ square)) @ x
    return (x.mT if tall else x).to(matrices)
