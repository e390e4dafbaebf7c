"""Decoding a part of the frame as if the whole frame were there.

The video decoder looks at the whole frame in two places besides its convolutions: group norms
take their mean and variance over all pixels, and one attention layer in the middle. Cutting the
latents would change both, and with them colours and contrast of the face. Here both are observed
once on the whole frame and held while the part is decoded, again and again, with gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:  # diffusers takes seconds to import
    from ..models.vae import VideoVAE

__all__ = ["FrameStatistics", "LatentWindow", "WindowDecoder"]

Forward = Callable[..., Any]

_CONTEXT = 4
"""Latents around the window that the inner, cheap levels see, whose convolutions reach furthest."""


@dataclass(frozen=True, kw_only=True)
class LatentWindow:
    """A rectangle of latent pixels; the ends are excluded.

    Attributes:
        top: First row.
        bottom: Row after the last.
        left: First column.
        right: Column after the last.
    """

    top: int
    bottom: int
    left: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def grown(self, margin: int, height: int, width: int) -> LatentWindow:
        """Larger by a margin on every side, inside a map of the given size."""
        return LatentWindow(
            top=max(self.top - margin, 0),
            bottom=min(self.bottom + margin, height),
            left=max(self.left - margin, 0),
            right=min(self.right + margin, width),
        )

    def union(self, other: LatentWindow) -> LatentWindow:
        """The smallest window that holds both."""
        return LatentWindow(
            top=min(self.top, other.top),
            bottom=max(self.bottom, other.bottom),
            left=min(self.left, other.left),
            right=max(self.right, other.right),
        )


@dataclass(frozen=True, kw_only=True)
class FrameStatistics:
    """What the decoder saw on the whole frames of one chunk.

    Attributes:
        norms: Per group norm the mean and the reciprocal deviation, each [n, groups, 1], where n
            is the number of frames or 1.
        maps: Per attention layer its whole input [frames, c, h, w].
    """

    norms: dict[nn.Module, tuple[Tensor, Tensor]] = field(default_factory=dict)
    maps: dict[nn.Module, Tensor] = field(default_factory=dict)


class WindowDecoder:
    """Decodes windows of a chunk of frames with the statistics of the whole frames.

    Args:
        vae: The video VAE, frozen.
        recompute: Compute the last level's blocks again in the backward pass instead of keeping
            their activations.
        exact_levels: Levels of the decoder whose statistics are taken from every pixel; later
            ones are observed on every second pixel of each side.
    """

    def __init__(self, vae: VideoVAE, *, recompute: bool = True, exact_levels: int = 1) -> None:
        decoder: Any = vae.decoder
        self._vae = vae
        self._exact_levels = exact_levels
        self._second_level: nn.Module = decoder.up_blocks[1]
        self._norms = [m for m in decoder.modules() if isinstance(m, nn.GroupNorm)]
        self._attentions: list[nn.Module] = list(decoder.mid_block.attentions)
        # the last level has as many activations as all others, for a quarter of the arithmetic
        self._recomputed = list(decoder.up_blocks[-1].resnets) if recompute else []

    @torch.no_grad()
    def observe(self, latents: Float[Tensor, "frames 4 h w"]) -> FrameStatistics:
        """Look at the whole frames of a chunk.

        The maps grow fourfold from level to level, and the last ones take nearly all the time
        and memory of a decode. They are only asked for means and variances here, so beyond
        `exact_levels` every second pixel of each side has to do.

        Args:
            latents: [frames, 4, h, w] of one decoder chunk, in the sampler's scaled space, in the
                decoder's dtype and on its device.
        """
        decoder: Any = self._vae.decoder
        seen = FrameStatistics()
        indicator = latents.new_zeros(1, latents.shape[0])
        with ExitStack() as stack:
            for norm in self._norms:
                stack.enter_context(_forward_as(norm, _recording_norm(norm, seen)))
            for attention in self._attentions:
                stack.enter_context(_forward_as(attention, _recording_input(attention, seen)))
            hidden = decoder.conv_in(latents / self._vae.scaling_factor)
            hidden = decoder.mid_block(hidden, image_only_indicator=indicator)
            for level, block in enumerate(decoder.up_blocks):
                if level == self._exact_levels:
                    hidden = hidden[..., ::2, ::2]
                hidden = block(hidden, image_only_indicator=indicator)
            decoder.conv_norm_out(hidden)
        return seen

    @contextmanager
    def decoded(
        self,
        latents: Float[Tensor, "frames 4 h w"],
        window: LatentWindow,
        statistics: FrameStatistics,
    ) -> Generator[Float[Tensor, "frames 3 height width"], None, None]:
        """Decode a window of a chunk; the backward pass must run inside the `with` block.

        Args:
            latents: [frames, 4, h, w], the whole frames of the chunk.
            window: What to decode.
            statistics: From `observe` on (nearly) the same latents.

        Yields:
            [frames, 3, 8 * window height, 8 * window width], nominally in [-1, 1].
        """
        height, width = latents.shape[-2:]
        wide = window.grown(_CONTEXT, height, width)
        rows, columns = wide.slices
        with ExitStack() as stack:
            narrowing = _cropped_to(self._second_level, wide, window)
            stack.enter_context(_forward_as(self._second_level, narrowing))
            for norm, (mean, scale) in statistics.norms.items():
                stack.enter_context(_forward_as(norm, _held_norm(norm, mean, scale)))
            for attention, whole in statistics.maps.items():
                held = _held_attention(attention, whole, wide)
                stack.enter_context(_forward_as(attention, held))
            for block in self._recomputed:
                stack.enter_context(_forward_as(block, _recomputed(block)))
            yield self._vae.decode_frames(latents[..., rows, columns])


@contextmanager
def _forward_as(module: nn.Module, forward: Forward) -> Generator[None, None, None]:
    """Give one module another forward for a while; other libraries' own stays in place below."""
    before = module.__dict__.get("forward")
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        if before is None:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = before


def _recording_norm(norm: nn.Module, seen: FrameStatistics) -> Forward:
    assert isinstance(norm, nn.GroupNorm)
    original = norm.forward

    def forward(x: Tensor) -> Tensor:
        groups = x.unflatten(1, (norm.num_groups, -1)).flatten(2)
        variance, mean = torch.var_mean(groups.float(), dim=2, correction=0, keepdim=True)
        seen.norms[norm] = (mean, (variance + norm.eps).rsqrt())
        return original(x)

    return forward


def _recording_input(attention: nn.Module, seen: FrameStatistics) -> Forward:
    original = attention.forward

    def forward(x: Tensor) -> Tensor:
        seen.maps[attention] = x
        return original(x)

    return forward


def _held_norm(norm: nn.Module, mean: Tensor, scale: Tensor) -> Forward:
    assert isinstance(norm, nn.GroupNorm)
    # one multiplication and one addition per channel, of which autograd keeps no map
    weight = norm.weight.float().view(1, norm.num_groups, -1) * scale
    bias = norm.bias.float().view(1, norm.num_groups, -1) - weight * mean
    weight, bias = weight.flatten(1).to(norm.weight.dtype), bias.flatten(1).to(norm.bias.dtype)

    def forward(x: Tensor) -> Tensor:
        ones = (1,) * (x.ndim - 2)
        return x * weight.unflatten(1, (-1, *ones)) + bias.unflatten(1, (-1, *ones))

    return forward


def _held_attention(attention: nn.Module, whole: Tensor, window: LatentWindow) -> Forward:
    original = attention.forward
    rows, columns = window.slices

    def forward(x: Tensor) -> Tensor:
        hidden = whole.clone()
        hidden[..., rows, columns] = x
        return original(hidden)[..., rows, columns]

    return forward


def _cropped_to(level: nn.Module, wide: LatentWindow, window: LatentWindow) -> Forward:
    """Let a level of two map pixels per latent see only the window."""
    original = level.forward
    top, left = 2 * (window.top - wide.top), 2 * (window.left - wide.left)
    rows = slice(top, top + 2 * (window.bottom - window.top))
    columns = slice(left, left + 2 * (window.right - window.left))

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        return original(x[..., rows, columns], *args, **kwargs)

    return forward


def _recomputed(block: nn.Module) -> Forward:
    original = block.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(original, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return forward
