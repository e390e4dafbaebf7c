"""Identity tokens of a face."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ShapeError
from ..models.face_encoder import FaceEncoder

__all__ = ["encode_identity_tokens", "encode_people"]


def encode_identity_tokens(
    face_encoder: FaceEncoder,
    face_embedding: Float[Tensor, " id"] | None,
    image_tokens: Float[Tensor, "1 n d"],
) -> Float[Tensor, "1 tokens dim"]:
    """Identity tokens, or zeros where no identity is wanted.

    Args:
        face_encoder: The global content-aware face encoder.
        face_embedding: Raw (not normalised) recogniser output, or None for no identity.
        image_tokens: Tokens of the reference picture.

    Returns:
        [1, num_tokens, cross_attention_dim].

    Raises:
        ShapeError: If the embedding has another width than the encoder was built for.
    """
    width = face_encoder.proj[0].in_features
    if face_embedding is None:
        return image_tokens.new_zeros(1, face_encoder.num_tokens, face_encoder.norm.weight.shape[0])
    if tuple(face_embedding.shape) != (width,):
        raise ShapeError(
            f"The face embedding has shape {tuple(face_embedding.shape)} but this model's face "
            f"encoder takes ({width},); encode the face with this model's own recogniser."
        )
    with torch.no_grad():
        return face_encoder(face_embedding.to(image_tokens)[None], image_tokens)


def encode_people(
    face_encoder: FaceEncoder,
    face_embeddings: Sequence[Float[Tensor, " id"]],
    image_tokens: Float[Tensor, "1 n d"],
) -> Float[Tensor, "1 tokens dim"]:
    """Identity tokens of several people, one person after the other.

    Args:
        face_encoder: The global content-aware face encoder.
        face_embeddings: One per person; none gives the zero tokens of no identity.
        image_tokens: Tokens of the reference picture.

    Returns:
        [1, people * num_tokens, cross_attention_dim].

    Raises:
        ShapeError: If an embedding has another width than the encoder was built for.
    """
    encoded = [
        encode_identity_tokens(face_encoder, face, image_tokens)
        for face in (face_embeddings or [None])
    ]
    return torch.cat(encoded, dim=1)
