"""The spatio-temporal UNet.

diffusers' blocks, with pose features added after the first convolution and the ID adapter in the
spatial cross-attentions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from diffusers import UNetSpatioTemporalConditionModel
from diffusers.models.attention import TemporalBasicTransformerBlock
from diffusers.models.resnet import SpatioTemporalResBlock, TemporalResnetBlock
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..errors import ShapeError
from ..interfaces import Conditioning
from .id_attention import install_identity_attention

__all__ = ["UNET_PRESET", "VideoUNet"]

_TEMPORAL = (TemporalBasicTransformerBlock, TemporalResnetBlock)
_SPATIO_TEMPORAL = (SpatioTemporalResBlock, TransformerSpatioTemporalModel)

UNET_PRESET: dict[str, Any] = {
    "sample_size": 96,
    "in_channels": 8,
    "out_channels": 4,
    "down_block_types": (*("CrossAttnDownBlockSpatioTemporal",) * 3, "DownBlockSpatioTemporal"),
    "up_block_types": ("UpBlockSpatioTemporal", *("CrossAttnUpBlockSpatioTemporal",) * 3),
    "block_out_channels": (320, 640, 1280, 1280),
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 768,
    "layers_per_block": 2,
    "cross_attention_dim": 1024,
    "transformer_layers_per_block": 1,
    "num_attention_heads": (5, 10, 20, 20),
    "num_frames": 25,
}
"""Architecture of Stable Video Diffusion XT, which the published weights belong to."""


class VideoUNet(UNetSpatioTemporalConditionModel):
    """Predicts v from noisy latents, a reference and a pose.

    Construction, blocks and parameter names are diffusers'; `forward` is ours.

    Args:
        **config: Arguments of `UNetSpatioTemporalConditionModel`; see `UNET_PRESET`.
    """

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.attention_context = install_identity_attention(self, config["cross_attention_dim"])
        self._recompute = False

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        sample: Float[Tensor, "b frames c h w"],
        timestep: Float[Tensor, "*b"],
        conditioning: Conditioning,
        *,
        image_only: bool = False,
    ) -> Float[Tensor, "b frames out h w"]:
        """Predict v.

        Args:
            sample: [b, frames, 8, h, w]: noisy latents, scaled by c_in, beside reference latents.
            timestep: Continuous timestep, 0.25 ln(sigma); one, or one per video [b].
            conditioning: Tokens, time ids and pose features of the same b videos.
            image_only: Treat the frames as single pictures; the temporal layers are left out.

        Returns:
            [b, frames, 4, h, w].

        Raises:
            ShapeError: If the pose features do not fit the sample.
        """
        batch, frames = sample.shape[:2]
        embedding = self._time_embedding(sample, timestep, conditioning.added_time_ids)
        hidden = self.conv_in(sample.flatten(0, 1))
        if conditioning.pose_features is not None:
            hidden = hidden + _matching(conditioning.pose_features.flatten(0, 1), hidden)
        indicator = torch.full_like(sample[:, :, 0, 0, 0], float(image_only))
        with (
            self.attention_context.bound(conditioning, frames),
            self._run_otherwise(conditioning, frames, image_only=image_only),
        ):
            hidden = self._blocks(hidden, embedding, indicator)
        out = self.conv_out(self.conv_act(self.conv_norm_out(hidden)))
        return out.unflatten(0, (batch, frames))

    @property
    def latent_multiple(self) -> int:
        """Latent sides must be multiples of this, so that every level halves evenly."""
        return 2 ** (len(self.config["block_out_channels"]) - 1)

    def activation_bytes(self, frames: int, height: int, width: int) -> int:
        """Estimate of the memory that one call takes, without the weights [bytes].

        Args:
            frames: Frames of all videos of the batch together.
            height: Latent height.
            width: Latent width.
        """
        item = next(self.parameters()).element_size()
        # the first level's feed-forward is the peak: its gated hidden layer is 8 widths wide,
        # held beside its halves, their product, the residual stream and the skips
        return 22 * frames * height * width * self.config["block_out_channels"][0] * item

    def recompute_blocks(self) -> None:
        """Save memory in training: keep only what enters each block, and compute it again later.

        It takes the place of diffusers' gradient checkpointing, which would run blocks again
        without their tokens, and which leaves the temporal layers out.
        """
        self._recompute = True

    def _run_otherwise(
        self, conditioning: Conditioning, frames: int, *, image_only: bool
    ) -> AbstractContextManager[None]:
        """How blocks run differently from diffusers' during one call."""
        if self._recompute and torch.is_grad_enabled():
            # a block that runs again must do what it did the first time: nothing is left out
            return _recomputing(self, lambda: self.attention_context.bound(conditioning, frames))
        return _without_temporal_layers(self) if image_only else nullcontext()

    def _time_embedding(self, sample: Tensor, timestep: Tensor, added_time_ids: Tensor) -> Tensor:
        batch, frames = sample.shape[:2]
        time = self.time_proj(timestep.reshape(-1).expand(batch)).to(sample.dtype)
        added = self.add_time_proj(added_time_ids.flatten()).reshape(batch, -1).to(sample.dtype)
        embedding = self.time_embedding(time) + self.add_embedding(added)
        return embedding.repeat_interleave(frames, dim=0, output_size=batch * frames)

    def _blocks(self, hidden: Tensor, embedding: Tensor, indicator: Tensor) -> Tensor:
        # The cross-attentions read their tokens from attention_context; diffusers' transformer
        # only reshapes this tensor and hands it on, so it is as small as can be.
        unread = hidden.new_zeros(hidden.shape[0], 1, 1)
        shared = {"temb": embedding, "image_only_indicator": indicator}
        skips: list[Tensor] = [hidden]
        down_blocks: Any = self.down_blocks
        up_blocks: Any = self.up_blocks
        middle: Any = self.mid_block
        for block in down_blocks:
            tokens = _tokens_for(block, unread)
            hidden, new_skips = block(hidden_states=hidden, **shared, **tokens)
            skips.extend(new_skips)
        hidden = middle(hidden_states=hidden, encoder_hidden_states=unread, **shared)
        for block in up_blocks:
            count = len(block.resnets)
            used, skips = tuple(skips[-count:]), skips[:-count]
            size = skips[-1].shape[2:] if skips else None  # of the next level: odd sizes stay exact
            tokens = _tokens_for(block, unread)
            hidden = block(
                hidden_states=hidden,
                res_hidden_states_tuple=used,
                upsample_size=size,
                **shared,
                **tokens,
            )
        return hidden


@contextmanager
def _without_temporal_layers(network: torch.nn.Module) -> Iterator[None]:
    """Let the temporal layers hand on what they get; their results would get the weight 0."""
    layers: list[Any] = [m for m in network.modules() if isinstance(m, _TEMPORAL)]
    for layer in layers:
        layer.forward = _unchanged
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


@contextmanager
def _recomputing(
    network: torch.nn.Module, bound: Callable[[], AbstractContextManager[None]]
) -> Iterator[None]:
    """Let blocks keep only their input, and run again in the backward pass, bound as before."""
    blocks: list[Any] = [m for m in network.modules() if isinstance(m, _SPATIO_TEMPORAL)]

    def recomputed(block: Any) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            with bound():
                return type(block).forward(block, *args, **kwargs)

        def forward(*args: Any, **kwargs: Any) -> Any:
            return checkpoint(run, *args, use_reentrant=False, **kwargs)

        return forward

    for block in blocks:
        block.forward = recomputed(block)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def _unchanged(hidden: Tensor, *_: object, **__: object) -> Tensor:
    return hidden


def _tokens_for(block: torch.nn.Module, tokens: Tensor) -> dict[str, Tensor]:
    attends = getattr(block, "has_cross_attention", False)
    return {"encoder_hidden_states": tokens} if attends else {}


def _matching(pose_features: Tensor, hidden: Tensor) -> Tensor:
    if pose_features.shape != hidden.shape:
        raise ShapeError(
            f"The pose features have shape {tuple(pose_features.shape)} but the UNet's first layer "
            f"has {tuple(hidden.shape)}; the poses must have the frames' number and size, and "
            "PoseNet and UNet must belong together."
        )
    return pose_features
