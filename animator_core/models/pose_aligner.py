"""The learned aligner: which joints and frames to trust, and what remains to be corrected.

A small transformer over frames, joints and the clip as a whole predicts weights for a second
closed-form similarity fit, starting from those of a robust fit, and a small correction after it.
With its output layers at zero it returns the robust fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..errors import ConfigError

__all__ = ["AlignerInputs", "AlignerOutput", "PoseAligner", "PoseAlignerConfig"]

_LOG_FLOOR = 1e-3  # a joint that the robust fit rejects can still be won back
_TURN_LIMIT = 0.6  # of the correction: radians and log-scale
_SHIFT_LIMIT = 2.0  # torso lengths


@dataclass(frozen=True, kw_only=True)
class PoseAlignerConfig:
    """Architecture.

    Attributes:
        joints: Body joints.
        frame_features: Features of each frame.
        joint_features: Features of each joint over the clip.
        clip_features: Features of the clip.
        dim: Token width.
        layers: Transformer layers; 0 leaves each token to itself.
        heads: Attention heads.
        feed_forward_multiple: Hidden width of a layer's feed-forward part, in token widths.
        guided: Whether weights start from those of the closed-form fit.
        weighted: Whether weights and a second fit are predicted, or only a correction.
    """

    joints: int = 18
    frame_features: int
    joint_features: int
    clip_features: int
    dim: int = 128
    layers: int = 4
    heads: int = 4
    feed_forward_multiple: int = 2
    guided: bool = True
    weighted: bool = True

    def __post_init__(self) -> None:
        if self.dim % self.heads:
            raise ConfigError(
                f"dim is {self.dim} and heads is {self.heads}; dim must be a multiple of heads."
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class AlignerInputs:
    """Clips after the first fit, in the reference's torso lengths.

    Attributes:
        points: Driving joints, x and y.
        reference: Reference joints, x and y.
        base_weights: Confidence times prior of each joint; 0 where clip or reference lacks it.
        robust_weights: Weights of the robust fit.
        frames: Features of each frame.
        joints: Features of each joint.
        clip: Features of the clip.
        frame_mask: False for padding.
    """

    points: Float[Tensor, "b t j 2"]
    reference: Float[Tensor, "b j 2"]
    base_weights: Float[Tensor, "b t j"]
    robust_weights: Float[Tensor, "b t j"]
    frames: Float[Tensor, "b t f"]
    joints: Float[Tensor, "b j g"]
    clip: Float[Tensor, "b h"]
    frame_mask: Bool[Tensor, "b t"]


@dataclass(frozen=True, kw_only=True, eq=False)
class AlignerOutput:
    """Similarity p -> matrix(factor) p + shift, in the coordinates of the inputs.

    Attributes:
        factor: Real and imaginary part of scale * exp(i angle).
        shift: x and y, in torso lengths.
        weights: Joint weights of the second fit, sum 1 over the clip.
    """

    factor: Float[Tensor, "b 2"]
    shift: Float[Tensor, "b 2"]
    weights: Float[Tensor, "b t j"]


def _mul(a: Tensor, b: Tensor) -> Tensor:
    """Complex product of [..., 2] pairs."""
    return torch.stack(
        (
            a[..., 0] * b[..., 0] - a[..., 1] * b[..., 1],
            a[..., 0] * b[..., 1] + a[..., 1] * b[..., 0],
        ),
        dim=-1,
    )


def _conj(a: Tensor) -> Tensor:
    return torch.stack((a[..., 0], -a[..., 1]), dim=-1)


def _weighted_mean(points: Tensor, weights: Tensor) -> Tensor:
    return (weights[..., None] * points).sum((1, 2)) / (weights.sum((1, 2))[:, None] + 1e-9)


def _fit(
    source: Tensor, target: Tensor, turn_weights: Tensor, shift_weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Weighted similarity: factor by the first weights, shift by the second ones."""
    source_mean = _weighted_mean(source, turn_weights)
    target_mean = _weighted_mean(target, turn_weights)
    a = source - source_mean[:, None, None]
    b = target - target_mean[:, None, None]
    w = turn_weights[..., None]
    cross = (w * _mul(_conj(a), b)).sum((1, 2))
    ratio = ((w * b**2).sum((1, 2, 3)) + 1e-6) / ((w * a**2).sum((1, 2, 3)) + 1e-6)
    turn = cross / (cross.norm(dim=-1, keepdim=True) + 1e-6)
    factor = ratio.sqrt()[:, None] * turn
    moved = _mul(factor[:, None, None].expand_as(source), source)
    return factor, _weighted_mean(target - moved, shift_weights)


class PoseAligner(nn.Module):
    """Predicts the similarity that carries a clip to a reference pose.

    Args:
        config: Architecture.
    """

    def __init__(self, config: PoseAlignerConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim

        def embedding(features: int) -> nn.Sequential:
            return nn.Sequential(nn.Linear(features, dim), nn.GELU(), nn.Linear(dim, dim))

        self.embed_frame = embedding(config.frame_features)
        self.embed_joint = embedding(config.joint_features)
        self.embed_clip = embedding(config.clip_features)
        self.joint_identity = nn.Parameter(0.02 * torch.randn(config.joints, dim))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                dim,
                config.heads,
                config.feed_forward_multiple * dim,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.frame_logits = nn.Linear(dim, 2 * config.joints)
        self.joint_logits = nn.Linear(dim, 2)
        self.correction = nn.Linear(3 * dim, 4)
        for layer in (self.frame_logits, self.joint_logits, self.correction):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def _tokens(self, inputs: AlignerInputs) -> tuple[Tensor, Tensor, Tensor]:
        clip = self.embed_clip(inputs.clip)[:, None]
        joints = self.embed_joint(inputs.joints) + self.joint_identity
        frames = self.embed_frame(inputs.frames)
        tokens = torch.cat([clip, joints, frames], dim=1)
        fixed = 1 + joints.shape[1]
        padding = torch.cat(
            [torch.zeros_like(tokens[:, :fixed, 0], dtype=torch.bool), ~inputs.frame_mask], dim=1
        )
        for layer in self.layers:
            tokens = layer(tokens, src_key_padding_mask=padding)
        tokens = self.norm(tokens)
        return tokens[:, 0], tokens[:, 1:fixed], tokens[:, fixed:]

    def _weights(self, inputs: AlignerInputs, joints: Tensor, frames: Tensor) -> Tensor:
        """Weights for factor and shift, [2, b, t, j]."""
        start = inputs.base_weights
        if self.config.guided:
            peak = inputs.robust_weights.amax((1, 2), keepdim=True) + 1e-9
            start = inputs.robust_weights / peak + _LOG_FLOOR * inputs.base_weights
        start = torch.where(inputs.base_weights > 0, start, torch.zeros_like(start))
        start = start * inputs.frame_mask[..., None]
        change = self.frame_logits(frames).unflatten(-1, (2, -1)).permute(2, 0, 1, 3)
        change = change + self.joint_logits(joints).permute(2, 0, 1)[:, :, None]
        logits = torch.log(start + 1e-20) + change
        return torch.softmax(logits.flatten(2), dim=-1).view_as(logits)

    def forward(self, inputs: AlignerInputs) -> AlignerOutput:
        """Similarities for a batch of clips."""
        clip, joints, frames = self._tokens(inputs)
        target = inputs.reference[:, None].expand_as(inputs.points)
        seen = inputs.base_weights * inputs.frame_mask[..., None]
        if self.config.weighted:
            weights, shift_weights = self._weights(inputs, joints, frames)
            factor, shift = _fit(inputs.points, target, weights, shift_weights)
        else:
            weights = seen / (seen.sum((1, 2), keepdim=True) + 1e-9)
            factor = torch.stack((torch.ones_like(clip[:, 0]), torch.zeros_like(clip[:, 0])), -1)
            shift = torch.zeros_like(factor)
        mask = inputs.frame_mask[..., None].to(frames.dtype)
        pooled = (frames * mask).sum(1) / mask.sum(1)
        correction = self.correction(torch.cat([clip, joints.mean(1), pooled], dim=-1))
        size, angle = (_TURN_LIMIT * torch.tanh(correction[:, :2] / _TURN_LIMIT)).unbind(-1)
        move = _SHIFT_LIMIT * torch.tanh(correction[:, 2:] / _SHIFT_LIMIT)
        turn = size.exp()[:, None] * torch.stack((angle.cos(), angle.sin()), dim=-1)
        # the correction turns about the middle of the clip, where it moves the body least
        centre = _weighted_mean(inputs.points, seen)
        middle = _mul(factor, centre) + shift
        shift = _mul(turn, shift - middle) + middle + move
        return AlignerOutput(factor=_mul(turn, factor), shift=shift, weights=weights)
