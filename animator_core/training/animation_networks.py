"""The networks of an animation training: which are loaded, which start anew, which are trained."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.utils.checkpoint
from diffusers.models.attention import TemporalBasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D, TemporalResnetBlock
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel
from torch import nn

from ..checkpoints.build import ModelConfigs, load_models, load_network
from ..checkpoints.state_dict import read_state_dict
from ..demo.model import demo_configs
from ..errors import CheckpointError
from ..models.bundle import AnimatorModels
from ..models.face_encoder import FaceEncoder
from ..models.face_recognition import IResNet, build_recogniser
from ..models.pose_net import PoseNet
from ..models.unet import VideoUNet
from .animation_config import AnimationTrainingConfig, FrozenNetworks

__all__ = [
    "FrozenParts",
    "fresh_models",
    "load_frozen",
    "load_recogniser",
    "load_training_models",
    "require_gradients",
]

logger = logging.getLogger(__name__)

_PUBLISHED_TRAINED = "attentions"  # the identity layers' names contain it, too


@dataclass(frozen=True, kw_only=True)
class FrozenParts:
    """Networks that are only used.

    Attributes:
        vae: Pictures to latents and back.
        image_encoder: CLIP image tower.
    """

    vae: Any
    image_encoder: nn.Module


def load_frozen(config: FrozenNetworks) -> FrozenParts:
    """VAE and image encoder.

    Raises:
        CheckpointError: If a file is missing or does not fit.
    """
    return FrozenParts(
        vae=load_network("vae", config.models),
        image_encoder=load_network("image_encoder", config.image_encoder or config.models),
    )


def load_recogniser(path: str | Path) -> IResNet:
    """The face recogniser, frozen.

    Args:
        path: Weights, or the published ONNX file.

    Raises:
        CheckpointError: If it is missing or does not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(
            f"Expected the face recogniser at {path}, found none; give the path of "
            "glintr100_torch.safetensors or glintr100.onnx as `recogniser`."
        )
    if path.suffix == ".onnx":
        from ..models.face_recognition_onnx import recogniser_state_from_onnx

        return build_recogniser(recogniser_state_from_onnx(path))
    return build_recogniser(read_state_dict(path))


def load_training_models(config: AnimationTrainingConfig) -> AnimatorModels:
    """All networks of a run, those to be trained requiring gradients.

    Raises:
        CheckpointError: If a file is missing or does not fit.
    """
    if config.start == "models":
        models = load_models(config.frozen.models, torch.float32)
    else:
        frozen = load_frozen(config.frozen)
        models = fresh_models(_architecture(config), frozen, seed=config.loop.seed)
    require_gradients(models, config.trained)
    return models


def require_gradients(models: AnimatorModels, trained: Literal["published", "all"]) -> None:
    """Mark what is trained: PoseNet, face encoder, and the UNet's attentions or all of it.

    Args:
        models: All networks.
        trained: See `AnimationTrainingConfig`.
    """
    parameters = [
        *models.pose_net.parameters(),
        *models.face_encoder.parameters(),
        *(
            parameter
            for name, parameter in models.unet.named_parameters()
            if trained == "all" or _PUBLISHED_TRAINED in name
        ),
    ]
    for network in (models.unet, models.vae, models.image_encoder):
        network.requires_grad_(requires_grad=False)
    for parameter in parameters:
        parameter.data = parameter.data.clone()  # loaded ones lie in their file
        parameter.requires_grad_()


def _architecture(config: AnimationTrainingConfig) -> ModelConfigs:
    configs = demo_configs()
    unet = dict(configs.unet)
    if config.widths:
        unet["block_out_channels"] = config.widths
    if config.heads:
        unet["num_attention_heads"] = config.heads
    return replace(configs, unet=unet)


def fresh_models(configs: ModelConfigs, frozen: FrozenParts, *, seed: int) -> AnimatorModels:
    """Networks to be trained from nothing.

    Residual branches start at zero and temporal layers change nothing, so that a training on
    single pictures can later go on with clips. Identity tokens start at random: at zero their
    distribution alignment would enlarge the first gradients a hundred thousand times.

    Args:
        configs: Architecture of the trained networks.
        frozen: The other networks.
        seed: Of the random weights.

    Raises:
        CheckpointError: If UNet and image encoder do not fit together.
    """
    channels = frozen.vae.config.latent_channels
    unet_config = {**configs.unet, "in_channels": 2 * channels, "out_channels": channels}
    width = unet_config["cross_attention_dim"]
    projection = frozen.image_encoder.config.projection_dim  # pyright: ignore[reportAttributeAccessIssue]
    if projection != width:
        raise CheckpointError(
            f"The UNet's tokens have width {width} but the image encoder's have {projection}; "
            "they must be equal."
        )
    torch.manual_seed(seed)
    unet = VideoUNet(**unet_config)
    _start_at_identity(unet)
    face_encoder = FaceEncoder(**configs.arguments("face_encoder"))
    nn.init.normal_(face_encoder.fusion_model.proj_out.weight, std=width**-0.5)
    return AnimatorModels(
        unet=unet,
        pose_net=PoseNet(**configs.arguments("pose_net")),
        face_encoder=face_encoder,
        vae=frozen.vae,
        image_encoder=frozen.image_encoder,
        dtype=torch.float32,
        name="fresh",
    )


def _zero(layer: Any) -> None:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _start_at_identity(unet: VideoUNet) -> None:
    for module in unet.modules():
        if isinstance(module, (ResnetBlock2D, TemporalResnetBlock)):
            _zero(module.conv2)
        elif isinstance(module, TransformerSpatioTemporalModel):
            _zero(module.proj_out)
            _zero(module.time_pos_embed.linear_2)
        elif isinstance(module, TemporalBasicTransformerBlock):
            attentions: list[Any] = [module.attn1, module.attn2]
            for attention in attentions:
                _zero(attention.to_out[0])
            for feed_forward in (module.ff_in, module.ff):
                _zero(feed_forward.net[-1])
    _zero(unet.conv_out)
