"""Training of the VAE on drawn characters: pictures first, its temporal layers last.

The bottleneck of a small family is here: whatever the VAE blurs, no later network brings back.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from ..checkpoints.build import save_network
from ..checkpoints.state_dict import load_strict, read_state_dict
from ..errors import ConfigError
from ..frames import to_model_range
from ..models.vae import VAE_PRESET, VideoVAE
from .drawn_clips import SPLIT_SEEDS, DrawnClip, DrawnClipConfig, draw_clip
from .loop import LoopConfig, Objective
from .tasks import TrainingTask

__all__ = [
    "TASK",
    "PictureSource",
    "VaeObjective",
    "VaeTrainingConfig",
    "charbonnier_loss",
    "decode_pictures",
]

_CROPS_PER_PICTURE = 4
_COLOURS = 3
_CENTER = [[0, 0, 0], [0, 1.0, 0], [0, 0, 0]]
_HEAD_MARGIN = 0.5  # of the face box, on each side


@dataclass(frozen=True, kw_only=True)
class VaeTrainingConfig:
    """One training run of the VAE.

    Attributes:
        loop: What every training has in common.
        initial: Weights to start from (safetensors of an earlier run); fresh ones if empty.
        decoder_only: Leave the encoder of `initial` alone, for a denoiser that knows its latents.
        widths: Channels of each level.
        latent_channels: Numbers per 8x8 pixels. Four are not enough for pictures this small: the
            best linear code reaches 19.7 dB with 4 on drawn characters, 22.0 dB with 8.
        norms: Whether there are norms (see `VideoVAE`).
        layers: Residual blocks of a level.
        batch: Crops of a step.
        crop: Side of the crops [px].
        whole_from: Share of the steps from which whole pictures are shown, as many pixels a step.
        clips_from: Share of the steps from which clips are shown and the temporal layers learn.
        clip_frames: Their length.
        head_share: Share of the crops that show a head.
        kl_weight: Of the Kullback-Leibler term.
        log_variance: Where the posterior's log-variance starts.
        charbonnier: Error, of a range of 2, at which the loss turns from squared to absolute.
        data: What the clips look like.
        validation_clips: Held-out pictures of a validation.
    """

    loop: LoopConfig
    initial: str = ""
    decoder_only: bool = False
    widths: tuple[int, ...] = (32, 32, 96, 128)
    latent_channels: int = 8
    norms: bool = False
    layers: int = 1
    batch: int = 8
    crop: int = 32
    whole_from: float = 0.8
    clips_from: float = 0.9
    clip_frames: int = 4
    head_share: float = 0.5
    kl_weight: float = 1e-5
    log_variance: float = -8.0
    charbonnier: float = 0.1
    data: DrawnClipConfig = field(default_factory=DrawnClipConfig)
    validation_clips: int = 64

    def __post_init__(self) -> None:
        if self.crop % 8 or self.crop > min(self.data.width, self.data.height):
            raise ConfigError(
                f"The crop is {self.crop} px but must be a multiple of 8 that fits into "
                f"{self.data.width}x{self.data.height} px."
            )

        if self.decoder_only and not self.initial:
            raise ConfigError(
                "decoder_only keeps the encoder of an earlier run, but initial names none."
            )

    def network(self) -> dict[str, Any]:
        """The VAE's constructor arguments."""
        return {
            **VAE_PRESET,
            "block_out_channels": self.widths,
            "layers_per_block": self.layers,
            "latent_channels": self.latent_channels,
            "norm_num_groups": 32 if self.norms else 0,
            "sample_size": max(self.data.width, self.data.height),
        }


@dataclass(frozen=True)
class PictureSource:
    """Draws crops, whole pictures or clips, as the step asks."""

    config: VaeTrainingConfig

    def __call__(self, step: int, seed: int) -> Tensor:
        """Pictures uint8 [batch, 3, h, w], or clips [batch, frames, 3, h, w]."""
        config = self.config
        lot = np.random.default_rng(seed)
        done = step / config.loop.steps
        pixels = config.batch * config.crop**2
        if done >= config.clips_from:
            count = max(pixels // (config.data.width * config.data.height * config.clip_frames), 1)
            clips = [self._clip(lot, config.clip_frames).frames for _ in range(count)]
            return _channels_first(np.stack(clips))
        if done >= config.whole_from:
            count = max(pixels // (config.data.width * config.data.height), 1)
            return _channels_first(np.stack([self._clip(lot, 1).frames[0] for _ in range(count)]))
        return _channels_first(np.stack(self._crops(lot)))

    def _clip(self, lot: np.random.Generator, frames: int) -> DrawnClip:
        seeds = SPLIT_SEEDS["train"]
        data = replace(self.config.data, frames=frames)
        return draw_clip(int(lot.integers(seeds.start, seeds.stop)), data)

    def _crops(self, lot: np.random.Generator) -> list[NDArray[np.uint8]]:
        """Crops, several out of each picture: drawing costs as much as learning from a crop."""
        crops: list[NDArray[np.uint8]] = []
        while len(crops) < self.config.batch:
            clip = self._clip(lot, 1)
            for picture, boxes in (
                (clip.reference, clip.reference_face_boxes),
                (clip.frames[0], clip.face_boxes[0]),
            ):
                crops += [self._crop(lot, picture, boxes[0]) for _ in range(_CROPS_PER_PICTURE)]
        return crops[: self.config.batch]

    def _crop(
        self, lot: np.random.Generator, picture: NDArray[np.uint8], box: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        side = self.config.crop
        room = np.array([picture.shape[1], picture.shape[0]]) - side
        corner = lot.integers(0, room + 1)
        if lot.random() < self.config.head_share and box[2] > box[0]:
            center = (box[:2] + box[2:]) / 2 + lot.uniform(-0.2, 0.2, 2) * side
            corner = np.clip(np.rint(center - side / 2), 0, room).astype(int)
        x, y = corner
        return picture[y : y + side, x : x + side]


def charbonnier_loss(squared_error: Tensor, small: float) -> Tensor:
    """Mean error: squared where it is small, absolute where it is large.

    Args:
        squared_error: Of every number.
        small: Where it turns from one to the other.
    """
    return (squared_error + small**2).sqrt().mean() - small


def decode_pictures(
    vae: VideoVAE, latents: Float[Tensor, "n 4 h w"]
) -> Float[Tensor, "n 3 height width"]:
    """Decode single pictures without the temporal layers, which are not even computed.

    Args:
        vae: The VAE.
        latents: As the encoder gives them, unscaled.
    """
    decoder: Any = vae.decoder
    hidden = decoder.conv_in(latents)
    first, *others = decoder.mid_block.resnets
    hidden = first.spatial_res_block(hidden, None)
    for block, attention in zip(others, decoder.mid_block.attentions, strict=False):
        hidden = block.spatial_res_block(attention(hidden), None)
    for up_block in decoder.up_blocks:
        for block in up_block.resnets:
            hidden = block.spatial_res_block(hidden, None)
        for upsampler in up_block.upsamplers or ():
            hidden = upsampler(hidden)
    return decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(hidden)))


class VaeObjective(Objective):
    """Reconstruction of drawn pictures.

    Args:
        config: The run.
    """

    def __init__(self, config: VaeTrainingConfig) -> None:
        super().__init__()
        self.config = config
        torch.manual_seed(config.loop.seed)
        self.vae = VideoVAE(**config.network())
        _prepare(self.vae, config.log_variance)
        if config.initial:
            weights = {k: v.clone() for k, v in read_state_dict(Path(config.initial)).items()}
            load_strict(self.vae, weights, source=config.initial, dtype=torch.float32)
            self.vae.requires_grad_(True)
        if config.decoder_only:
            self.vae.encoder.requires_grad_(False)
            self.vae.quant_conv.requires_grad_(False)
        for module in self.vae.modules():
            if isinstance(module, nn.Conv2d):  # an eighth faster on the CPU
                weight = module.weight.data.contiguous(memory_format=torch.channels_last)
                module.weight.data = weight
        self._held_out: tuple[Tensor, Tensor] | None = None

    def forward(self, batch: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Reconstruction and Kullback-Leibler losses of pictures or clips (see `PictureSource`)."""
        pictures = batch.flatten(0, 1) if batch.ndim == 5 else batch  # clips: one after another
        pictures = (pictures.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        mean, log_variance = self.vae.encode_moments(pictures)
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        latents = mean + (0.5 * log_variance).exp() * noise
        if batch.ndim == 5:
            indicator = mean.new_zeros(batch.shape[:2])
            restored = self.vae.decoder(
                latents, image_only_indicator=indicator, num_frames=batch.shape[1]
            )
        else:
            restored = decode_pictures(self.vae, latents)
        error = (restored - pictures).square()
        reconstruction = charbonnier_loss(error, self.config.charbonnier)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        return {
            "loss": reconstruction + self.config.kl_weight * divergence,
            "squared_error": error.mean(),
            "divergence": divergence,
        }

    @torch.no_grad()
    def validate(self, step: int) -> dict[str, float]:  # noqa: ARG002
        """PSNR [dB] of held-out pictures: whole, and in the head's box."""
        pictures, heads = self._validation_pictures()
        mean = self.vae.encode_chunks(pictures)
        scaled = mean * self.vae.scaling_factor
        restored = torch.cat([self.vae.decode_frames(z[None]) for z in scaled]).clamp(-1, 1)
        error = ((restored - pictures) / 2).square().mean(1)
        whole = -10 * error.mean((1, 2)).log10()
        inside = heads.flatten(1).any(1)
        in_head = (error * heads).sum((1, 2))[inside] / heads.sum((1, 2))[inside]
        return {
            "psnr": float(whole.mean()),
            "psnr_head": float((-10 * in_head.log10()).mean()),
            "latent_deviation": float(mean.std()),
        }

    def export(self, folder: Path) -> None:
        """Write `SVD/vae`; the scaling factor gives held-out latents unit deviation."""
        with torch.no_grad():
            latents = self.vae.encode_chunks(self._validation_pictures()[0])
        self.vae.register_to_config(scaling_factor=round(1 / float(latents.std()), 5))
        save_network("vae", self.vae, folder, overwrite=True)

    def _validation_pictures(self) -> tuple[Tensor, Tensor]:
        """Held-out pictures [n, 3, H, W] in [-1, 1] and masks [n, H, W] of their heads."""
        if self._held_out is None:
            data = replace(self.config.data, frames=1)
            seeds = SPLIT_SEEDS["validation"][: self.config.validation_clips]
            clips = [draw_clip(seed, data) for seed in seeds]
            pictures = np.concatenate([clip.frames for clip in clips])
            masks = np.stack([_head_mask(clip) for clip in clips])
            device = next(self.vae.parameters()).device
            self._held_out = (
                to_model_range(pictures).to(device),
                torch.from_numpy(masks).to(device),
            )
        return self._held_out


def _prepare(vae: VideoVAE, log_variance: float) -> None:
    """Start as a code of block means: the network then only has to learn what that lacks.

    Three pairs of channels carry the colours and their negatives unchanged through all levels
    (SiLU(x) - SiLU(-x) = x), residual branches start at zero, temporal layers as identity, and the
    posterior narrow. From the usual random start the colours alone take thousands of steps.
    """
    encoder, decoder = cast("Any", vae.encoder), cast("Any", vae.decoder)
    for name, module in vae.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            nn.init.zeros_(module.bias)  # pyright: ignore[reportArgumentType]
            if name.endswith("conv2"):
                nn.init.zeros_(module.weight)
    for attention in (*encoder.mid_block.attentions, *decoder.mid_block.attentions):
        nn.init.zeros_(attention.to_out[0].weight)
    nn.init.dirac_(decoder.time_conv_out.weight)
    with torch.no_grad():
        _carry_colours(encoder, decoder)
        quantize: Any = vae.quant_conv
        half = quantize.out_channels // 2
        quantize.weight.zero_()
        quantize.weight[:half, :half, 0, 0] = torch.eye(half)
        quantize.bias[half:].fill_(log_variance)


def _carry_colours(encoder: Any, decoder: Any) -> None:
    pairs = range(2 * _COLOURS)
    for block in (*encoder.down_blocks, *decoder.up_blocks):
        for resnet in block.resnets:
            shortcut = getattr(resnet, "spatial_res_block", resnet).conv_shortcut
            if shortcut is not None:
                _carry(shortcut, pairs, [[1.0]])
        for downsampler in getattr(block, "downsamplers", None) or ():
            # this convolution is padded on the right and below only
            _carry(downsampler.conv, pairs, [[0.25, 0.25, 0], [0.25, 0.25, 0], [0, 0, 0]])
        for upsampler in getattr(block, "upsamplers", None) or ():
            _carry(upsampler.conv, pairs, _CENTER)
    for first, last in ((encoder.conv_in, encoder.conv_out), (decoder.conv_in, decoder.conv_out)):
        first.weight[: 2 * _COLOURS].zero_()
        last.weight[:_COLOURS].zero_()
        for colour in range(_COLOURS):
            first.weight[colour, colour, 1, 1] = 1.0
            first.weight[_COLOURS + colour, colour, 1, 1] = -1.0
            last.weight[colour, colour, 1, 1] = 1.0
            last.weight[colour, _COLOURS + colour, 1, 1] = -1.0


def _carry(convolution: nn.Conv2d, channels: range, kernel: Any) -> None:
    convolution.weight[channels.start : channels.stop].zero_()
    for channel in channels:
        convolution.weight[channel, channel] = torch.tensor(kernel)


def _head_mask(clip: DrawnClip) -> NDArray[np.bool_]:
    height, width = clip.frames.shape[1:3]
    mask = np.zeros((height, width), dtype=bool)
    box = clip.face_boxes[0, 0]
    if box[2] > box[0]:
        margin = _HEAD_MARGIN * (box[2:] - box[:2])
        x0, y0 = np.clip(np.floor(box[:2] - margin), 0, (width, height)).astype(int)
        x1, y1 = np.clip(np.ceil(box[2:] + margin), 0, (width, height)).astype(int)
        mask[y0:y1, x0:x1] = True
    return mask


def _channels_first(pictures: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pictures, -1, -3)))


TASK = TrainingTask(VaeTrainingConfig, VaeObjective, PictureSource)
