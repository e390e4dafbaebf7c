"""The VAE with a temporal decoder: pictures to latents, latents to frames, in chunks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from diffusers import AutoencoderKLTemporalDecoder
from diffusers.models.attention_processor import Attention
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import ConfigError

__all__ = ["VAE_PRESET", "VideoVAE"]

VAE_PRESET: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 768,
    "scaling_factor": 0.18215,
    "force_upcast": True,
    "norm_num_groups": 32,
}
"""Architecture of Stable Video Diffusion's VAE."""


_DIFFUSERS_GROUPS = 32


class _Affine(nn.Module):
    """A factor and an offset per channel, in the place and under the names of a norm's."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Float[Tensor, "n c ..."]) -> Float[Tensor, "n c ..."]:
        shape = (1, -1) + (1,) * (x.ndim - 2)
        return x * self.weight.view(shape) + self.bias.view(shape)


def _remove_norms(vae: nn.Module) -> None:
    """All but those inside attention, whose result is added to what it read."""
    for parent in vae.modules():
        if isinstance(parent, Attention):
            continue
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.GroupNorm):
                setattr(parent, name, _Affine(child))


class VideoVAE(AutoencoderKLTemporalDecoder):
    """Pictures ↔ latents. Blocks and parameter names are diffusers'.

    Args:
        norm_num_groups: Groups of the norms; diffusers has 32 always. 0 is for small networks that
            have no norms, only their factors and offsets: norms take the level of a picture out,
            and what brings it back takes long to learn.
        **config: Arguments of `AutoencoderKLTemporalDecoder`; see `VAE_PRESET`.

    Raises:
        ConfigError: If it is another number.
    """

    def __init__(self, *, norm_num_groups: int = 32, **config: Any) -> None:
        super().__init__(**config)
        self.register_to_config(norm_num_groups=norm_num_groups)
        if norm_num_groups == 0:
            _remove_norms(self)
        elif norm_num_groups != _DIFFUSERS_GROUPS:
            raise ConfigError(
                f"norm_num_groups is {norm_num_groups}; use {_DIFFUSERS_GROUPS}, or 0 for no norms."
            )

    @property
    def scaling_factor(self) -> float:
        """Latents of the sampler are the encoder's times this."""
        return float(self.config["scaling_factor"])

    @property
    def latent_channels(self) -> int:
        """Numbers per latent pixel."""
        return int(self.config["latent_channels"])

    def activation_bytes(self, frames: int, height: int, width: int) -> int:
        """Estimate of the memory that decoding a chunk takes, without the weights [bytes].

        Args:
            frames: Frames of a chunk.
            height: Frame height [px].
            width: Frame width [px].
        """
        item = next(self.decoder.parameters()).element_size()
        # the last level holds about six maps of the second width at full size at its peak
        widest = self.config["block_out_channels"][min(1, len(self.decoder.up_blocks) - 1)]
        return 6 * frames * height * width * widest * item

    def encode_moments(
        self, pictures: Float[Tensor, "n 3 height width"]
    ) -> tuple[Float[Tensor, "n 4 h w"], Float[Tensor, "n 4 h w"]]:
        """Posterior mean and log-variance, unscaled.

        Args:
            pictures: [n, 3, H, W] in [-1, 1]; H and W multiples of 8.

        Returns:
            Mean and log-variance, each [n, 4, H/8, W/8].
        """
        moments = self.quant_conv(self.encoder(pictures))
        mean, log_variance = moments.chunk(2, dim=1)
        return mean, log_variance.clamp(-30.0, 20.0)

    def encode_chunks(
        self, pictures: Float[Tensor, "n 3 height width"], chunk: int = 8
    ) -> Float[Tensor, "n 4 h w"]:
        """Posterior means of many pictures, a few at a time."""
        return torch.cat([self.encode_moments(part)[0] for part in pictures.split(chunk)])

    def decode_frames(
        self, latents: Float[Tensor, "frames 4 h w"]
    ) -> Float[Tensor, "frames 3 height width"]:
        """Decode consecutive frames as one chunk; the temporal layers see all of them.

        Args:
            latents: [frames, 4, h, w], in the sampler's scaled space.

        Returns:
            [frames, 3, 8h, 8w], nominally in [-1, 1], not clamped.
        """
        frames = latents.shape[0]
        video = latents[:1, 0, 0, 0].new_zeros(1, frames)
        return self.decoder(
            latents / self.scaling_factor, image_only_indicator=video, num_frames=frames
        )

    def iter_decode(
        self, latents: Float[Tensor, "frames 4 h w"], chunk_frames: int, device: torch.device
    ) -> Iterator[Float[Tensor, "frames 3 height width"]]:
        """Decode chunk after chunk, so that only one chunk of pixels exists on the device.

        Args:
            latents: [frames, 4, h, w], on any device and in any dtype.
            chunk_frames: Frames per chunk; the last chunk may be shorter.
            device: The compute device.

        Yields:
            [n, 3, 8h, 8w], on that device.
        """
        dtype = next(self.decoder.parameters()).dtype
        for part in latents.split(chunk_frames):
            yield self.decode_frames(part.to(device, dtype))
