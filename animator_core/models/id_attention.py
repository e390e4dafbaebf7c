"""The distribution-aware ID adapter: identity attention in a UNet's cross-attentions.

`identity_attention` is plain tensor mathematics and serves any UNet. The processors below put it
into diffusers' attention layers; a context object carries the tokens to all of them, so that keys
and values are computed once per video and not once per frame and pixel.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import CheckpointError, ShapeError
from ..interfaces import Conditioning

__all__ = [
    "AttentionContext",
    "IdentityAttnProcessor",
    "TemporalImageAttnProcessor",
    "align_distribution",
    "identity_attention",
    "install_identity_attention",
]

_EPSILON = 1e-5


class AttentionContext:
    """What the cross-attentions of one UNet attend to during one call.

    Attributes:
        num_frames: Frames of each video of the running call.
    """

    def __init__(self) -> None:
        self._conditioning: Conditioning | None = None
        self._levels: dict[int, Tensor] = {}
        self.num_frames = 1

    @contextmanager
    def bound(self, conditioning: Conditioning, num_frames: int) -> Generator[None, None, None]:
        """Hold what one call is conditioned on for the length of a `with` block, no longer.

        What was held before is held again afterwards: a training that recomputes blocks in its
        backward pass binds inside a block what was bound when the block first ran.
        """
        before = self._conditioning, self.num_frames, self._levels
        self._conditioning, self.num_frames, self._levels = conditioning, num_frames, {}
        try:
            yield
        finally:
            self._conditioning, self.num_frames, self._levels = before

    @property
    def conditioning(self) -> Conditioning:
        """What the running call is conditioned on.

        Raises:
            ShapeError: If no call is running.
        """
        if self._conditioning is None:
            raise ShapeError(
                "An identity attention ran without its tokens; call the UNet that it belongs to."
            )
        return self._conditioning

    def regions_at(self, tokens: int) -> Float[Tensor, "b people tokens"] | None:
        """The people's regions at the resolution of one attention level, by area.

        Args:
            tokens: Pixels of the level; every level halves the sides, rounded up.

        Raises:
            ShapeError: If no halving of the regions has that many pixels.
        """
        regions = self.conditioning.identity_regions
        if regions is None:
            return None
        if tokens not in self._levels:
            height, width = regions.shape[-2:]
            while height * width > tokens:
                height, width = (height + 1) // 2, (width + 1) // 2
            if height * width != tokens:
                raise ShapeError(
                    f"The identity regions are {tuple(regions.shape[-2:])} latent pixels, which no "
                    f"halving brings to the {tokens} of an attention; give them the latents' size."
                )
            self._levels[tokens] = F.adaptive_avg_pool2d(regions, (height, width)).flatten(2)
        return self._levels[tokens]


@dataclass(frozen=True)
class Moments:
    """Mean and unbiased standard deviation over (tokens, channels), each [b, 1, 1]."""

    mean: Tensor
    std: Tensor


def _moments(x: Float[Tensor, "b tokens channels"]) -> Moments:
    std, mean = torch.std_mean(x, dim=(1, 2), keepdim=True, correction=1)
    return Moments(mean, std)


def _moments_of_constant(value: Float[Tensor, "b 1 channels"], tokens: int) -> Moments:
    """Moments of `value` repeated over `tokens`, without repeating it."""
    mean = value.float().mean(dim=(1, 2), keepdim=True)
    squares = (value.float() - mean).square().sum(dim=(1, 2), keepdim=True)
    count = tokens * value.shape[-1]
    variance = squares * tokens / max(count - 1, 1)
    # the root's slope at 0 is infinite, and dropped tokens (all zero) must not break a training
    std = torch.where(variance > 0, variance, 1.0).sqrt() * (variance > 0)
    return Moments(mean.to(value.dtype), std.to(value.dtype))


def align_distribution(
    identity: Float[Tensor, "b tokens channels"], target: Moments
) -> Float[Tensor, "b tokens channels"]:
    """Give the identity branch the image branch's mean and standard deviation.

    Args:
        identity: [b, tokens, channels].
        target: Moments of the image branch.

    Source: StableAnimator (arXiv 2411.17697), section 3.3; 020e7f2,
    attention_processor_normalized.py:137. The epsilon is added to the identity's deviation only.
    """
    own = _moments(identity)
    return (identity - own.mean) * (target.std / (own.std + _EPSILON)) + target.mean


def _split_heads(x: Tensor, heads: int) -> Tensor:
    return rearrange(x, "b n (heads d) -> b heads n d", heads=heads)


def _attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Softmax attention of [b, n, heads*d] tensors."""
    query, key, value = (_split_heads(t, heads) for t in (query, key, value))
    attended = F.scaled_dot_product_attention(query, key, value)
    return rearrange(attended, "b heads n d -> b n (heads d)")


def identity_attention(
    query: Float[Tensor, "b tokens channels"],
    image: tuple[Tensor, Tensor],
    identity: tuple[Tensor, Tensor],
    *,
    heads: int,
    scale: float | Tensor = 1.0,
    regions: Float[Tensor, "b people tokens"] | None = None,
) -> Float[Tensor, "b tokens channels"]:
    """Image attention plus distribution-aligned identity attention, sharing one query.

    With a single image token the softmax is 1 and the image branch is that token's value at every
    pixel, so neither its attention nor its moments are computed per pixel.

    With regions every person's branch is computed and aligned over the *whole* frame, as if that
    person were alone, and the aligned branches are then blended pixel by pixel. Aligning after
    blending would let a small region's few pixels carry the deviation of a whole frame, and the
    strength of one face would depend on the size of the other's region. This way a person's pixels
    get what they would get without the others, and one person whose region is 1 everywhere gets
    what no region gives. Where no region reaches, nothing is added, as with scale 0.

    Args:
        query: [b, tokens, channels].
        image: Key and value of the image tokens, each [b, n, channels].
        identity: Key and value of the identity tokens, each [b, m, channels]; with regions those
            of all people, one person after the other.
        heads: Attention heads.
        scale: Weight of the identity branch, a number or [b, 1, 1].
        regions: Per person how much its branch counts at each pixel; None for one person
            everywhere.

    Returns:
        [b, tokens, channels], before the output projection.
    """
    image_key, image_value = image
    if image_value.shape[1] == 1:
        image_branch = image_value
        target = _moments_of_constant(image_value, query.shape[1])
    else:
        image_branch = _attend(query, image_key, image_value, heads)
        target = _moments(image_branch)
    if regions is None:
        identity_branch = align_distribution(_attend(query, *identity, heads), target)
    else:
        identity_branch = _blended(query, identity, target, heads, regions)
    return image_branch + scale * identity_branch


def _blended(
    query: Tensor, identity: tuple[Tensor, Tensor], target: Moments, heads: int, regions: Tensor
) -> Tensor:
    people = regions.shape[1]
    blended = torch.zeros_like(query)
    keys, values = (part.chunk(people, dim=1) for part in identity)
    for person, (key, value) in enumerate(zip(keys, values, strict=True)):
        aligned = align_distribution(_attend(query, key, value, heads), target)
        blended = blended + regions[:, person, :, None] * aligned
    return blended


class IdentityAttnProcessor(nn.Module):
    """Processor of a spatial cross-attention: the ID adapter.

    Args:
        hidden_size: Channels of the attention.
        cross_attention_dim: Width of the tokens.
        context: Where the tokens of the running call are found.
    """

    def __init__(self, hidden_size: int, cross_attention_dim: int, context: AttentionContext):
        super().__init__()
        self.id_to_k = nn.Linear(cross_attention_dim, hidden_size, bias=False)
        self.id_to_v = nn.Linear(cross_attention_dim, hidden_size, bias=False)
        self._context = context

    def __call__(self, attn: Any, hidden_states: Tensor, *_: object, **__: object) -> Tensor:
        """Attend; the signature is diffusers' for attention processors."""
        conditioning, frames = self._context.conditioning, self._context.num_frames
        image_tokens, identity_tokens = conditioning.image_tokens, conditioning.identity_tokens

        def per_frame(x: Tensor) -> Tensor:
            return repeat(x, "b n c -> (b frames) n c", frames=frames) if frames > 1 else x

        image_value = per_frame(attn.to_v(image_tokens))
        image_key = image_value  # unused with one token
        if image_tokens.shape[1] > 1:
            image_key = per_frame(attn.to_k(image_tokens))
        scale = conditioning.identity_scale
        query = attn.to_q(hidden_states)
        out = identity_attention(
            query,
            (image_key, image_value),
            (per_frame(self.id_to_k(identity_tokens)), per_frame(self.id_to_v(identity_tokens))),
            heads=attn.heads,
            scale=scale[:, None, None] if isinstance(scale, Tensor) else scale,
            regions=self._context.regions_at(query.shape[1]),
        )
        return attn.to_out[0](out)


class TemporalImageAttnProcessor:
    """Processor of a temporal cross-attention: image tokens only, never the identity tokens.

    Every frame of a video sees the same tokens. With one token the result is one vector per video.

    Args:
        context: Where the tokens of the running call are found.

    Source: StableAnimator 020e7f2, transformer_temporal.py:317.
    """

    def __init__(self, context: AttentionContext):
        self._context = context

    def __call__(self, attn: Any, hidden_states: Tensor, *_: object, **__: object) -> Tensor:
        """Attend; `hidden_states` is [b * pixels, frames, channels]."""
        image_tokens = self._context.conditioning.image_tokens
        pixels = hidden_states.shape[0] // image_tokens.shape[0]
        value = attn.to_v(image_tokens)
        if image_tokens.shape[1] == 1:
            constant = attn.to_out[0](value)
            return repeat(constant, "b 1 c -> (b pixels) 1 c", pixels=pixels)
        key = attn.to_k(image_tokens)
        key, value = (repeat(t, "b n c -> (b pixels) n c", pixels=pixels) for t in (key, value))
        query = attn.to_q(hidden_states)
        out = _attend(query, key, value, attn.heads)
        return attn.to_out[0](out)


def install_identity_attention(unet: nn.Module, cross_attention_dim: int) -> AttentionContext:
    """Put the ID adapter into a diffusers spatio-temporal UNet, before any weights are loaded.

    Args:
        unet: A network whose spatial cross-attentions are named `*.transformer_blocks.N.attn2` and
            whose temporal ones are named `*.temporal_transformer_blocks.N.attn2`.
        cross_attention_dim: Width of the tokens.

    Returns:
        The context that all installed processors read.

    Raises:
        CheckpointError: If the network has no spatial cross-attention.
    """
    context = AttentionContext()
    installed = 0
    modules: list[tuple[str, Any]] = list(unet.named_modules())
    for name, module in modules:
        if not name.endswith(".attn2"):
            continue
        if ".temporal_transformer_blocks." in name:
            module.set_processor(TemporalImageAttnProcessor(context))
        else:
            width = module.to_q.in_features
            processor = IdentityAttnProcessor(width, cross_attention_dim, context)
            module.set_processor(processor)
            installed += 1
    if not installed:
        raise CheckpointError(
            "The UNet has no spatial cross-attention for the ID adapter; "
            "expected modules named *.transformer_blocks.N.attn2."
        )
    return context
