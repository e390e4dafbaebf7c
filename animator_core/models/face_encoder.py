"""Face embedding and picture embedding → identity tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import ConfigError

__all__ = ["FaceEncoder"]

_HEAD_WIDTH = 64
_DEPTH = 4
_FEED_FORWARD_MULTIPLE = 4


class PerceiverAttention(nn.Module):
    """Latents attend to the picture's tokens and to themselves.

    Args:
        dim: Token width; a multiple of 64, which is the width of a head.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.heads = dim // _HEAD_WIDTH
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_kv = nn.Linear(dim, 2 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim, bias=False)

    def forward(
        self, context: Float[Tensor, "b n dim"], latents: Float[Tensor, "b m dim"]
    ) -> Float[Tensor, "b m dim"]:
        """Update for the latents, without the residual."""
        context, latents = self.norm1(context), self.norm2(latents)
        key_value = self.to_kv(torch.cat((context, latents), dim=1))
        query, key, value = (
            rearrange(t, "b n (heads d) -> b heads n d", heads=self.heads)
            for t in (self.to_q(latents), *key_value.chunk(2, dim=-1))
        )
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.to_out(rearrange(attended, "b heads n d -> b n (heads d)"))


def _feed_forward(dim: int) -> nn.Sequential:
    hidden = dim * _FEED_FORWARD_MULTIPLE
    return nn.Sequential(
        nn.LayerNorm(dim),
        nn.Linear(dim, hidden, bias=False),
        nn.GELU(),
        nn.Linear(hidden, dim, bias=False),
    )


class FacePerceiver(nn.Module):
    """Refines identity tokens by what the whole picture shows.

    Args:
        dim: Token width.
        embedding_dim: Width of the picture's embedding.
    """

    def __init__(self, dim: int, embedding_dim: int) -> None:
        super().__init__()
        self.proj_in = nn.Linear(embedding_dim, dim)
        self.proj_out = nn.Linear(dim, dim)
        self.norm_out = nn.LayerNorm(dim)
        self.layers = nn.ModuleList(
            nn.ModuleList((PerceiverAttention(dim), _feed_forward(dim))) for _ in range(_DEPTH)
        )
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def forward(
        self, latents: Float[Tensor, "b m dim"], context: Float[Tensor, "b n embedding"]
    ) -> Float[Tensor, "b m dim"]:
        """Refined tokens."""
        context = self.proj_in(context)
        for attention, feed_forward in self.layers:  # pyright: ignore[reportGeneralTypeIssues]
            latents = attention(context, latents) + latents
            latents = feed_forward(latents) + latents
        return self.norm_out(self.proj_out(latents))


class FaceEncoder(nn.Module):
    """The global content-aware face encoder.

    Args:
        cross_attention_dim: Width of the tokens; a multiple of 64.
        id_embeddings_dim: Width of the face embedding (512 for ArcFace).
        clip_embeddings_dim: Width of the picture embedding.
        num_tokens: Identity tokens.

    Raises:
        ConfigError: If the token width is not a multiple of 64.

    Source: StableAnimator (arXiv 2411.17697), section 3.2; 020e7f2,
    animation/modules/id_encoder.py.
    """

    def __init__(
        self,
        cross_attention_dim: int = 1024,
        id_embeddings_dim: int = 512,
        clip_embeddings_dim: int = 1024,
        num_tokens: int = 4,
    ) -> None:
        super().__init__()
        if cross_attention_dim % _HEAD_WIDTH:
            raise ConfigError(
                f"The face encoder's token width is {cross_attention_dim} but must be a "
                f"multiple of {_HEAD_WIDTH}, the width of an attention head."
            )
        self.num_tokens = num_tokens
        self.proj = nn.Sequential(
            nn.Linear(id_embeddings_dim, 2 * id_embeddings_dim),
            nn.GELU(),
            nn.Linear(2 * id_embeddings_dim, cross_attention_dim * num_tokens),
        )
        self.norm = nn.LayerNorm(cross_attention_dim)
        self.fusion_model = FacePerceiver(cross_attention_dim, clip_embeddings_dim)

    def forward(
        self,
        face_embedding: Float[Tensor, "b id"],
        picture_embedding: Float[Tensor, "b n clip"],
        *,
        shortcut_scale: float | None = None,
    ) -> Float[Tensor, "b tokens dim"]:
        """Identity tokens of a face.

        Args:
            face_embedding: [b, id_embeddings_dim], not normalised.
            picture_embedding: [b, n, clip_embeddings_dim].
            shortcut_scale: If given, return `tokens before refinement + scale * refined tokens`.

        Returns:
            [b, num_tokens, cross_attention_dim].
        """
        tokens = rearrange(self.proj(face_embedding), "b (n d) -> b n d", n=self.num_tokens)
        tokens = self.norm(tokens)
        refined = self.fusion_model(tokens, picture_embedding)
        return refined if shortcut_scale is None else tokens + shortcut_scale * refined
