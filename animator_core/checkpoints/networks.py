"""Tells networks apart by the names and shapes of their weights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import CheckpointError

__all__ = ["NETWORKS", "NetworkKind", "describe_keys", "identify", "infer_config"]


@dataclass(frozen=True, kw_only=True)
class NetworkKind:
    """How a kind of weight file is recognised.

    Attributes:
        name: Short name; for the five networks that we use, the field of `AnimatorModels`.
        title: What it is, for messages.
        keys: Regular expressions, each of which matches some name in the file.
        absent: Regular expressions that match no name in the file.
    """

    name: str
    title: str
    keys: tuple[str, ...]
    absent: tuple[str, ...] = ()

    def fits(self, names: Iterable[str]) -> bool:
        """Whether a file with these names is of this kind."""
        text = "\n".join(names)

        def occurs(pattern: str) -> bool:
            return re.search(pattern, text, re.MULTILINE) is not None

        return all(map(occurs, self.keys)) and not any(map(occurs, self.absent))


_ADAPTER = r"\.attn2\.processor\.id_to_k\.weight$"
_UNET = (r"^conv_in\.weight$", r"^down_blocks\.0\.", r"temporal_transformer_blocks")

NETWORKS: tuple[NetworkKind, ...] = (
    NetworkKind(name="unet", title="a video UNet with the ID adapter", keys=(*_UNET, _ADAPTER)),
    NetworkKind(name="pose_net", title="a PoseNet", keys=(r"^conv_layers\.0\.", r"^final_proj\.")),
    NetworkKind(
        name="face_encoder",
        title="a face encoder",
        keys=(r"^proj\.0\.weight$", r"^fusion_model\.proj_in\."),
    ),
    NetworkKind(
        name="vae",
        title="a VAE with the temporal decoder",
        keys=(r"^quant_conv\.", r"^decoder\.time_conv_out\."),
    ),
    NetworkKind(
        name="image_encoder",
        title="a CLIP image encoder",
        keys=(r"^vision_model\.embeddings\.", r"^visual_projection\."),
    ),
)
"""The networks of `AnimatorModels`."""

_OTHERS: tuple[NetworkKind, ...] = (
    NetworkKind(
        name="plain_unet",
        title="a video UNet without the ID adapter (plain Stable Video Diffusion)",
        keys=_UNET,
        absent=(_ADAPTER,),
    ),
    NetworkKind(
        name="image_unet",
        title="a UNet for single images",
        keys=(r"^conv_in\.weight$", r"^down_blocks\.0\.", r"^up_blocks\.0\."),
    ),
    NetworkKind(
        name="single_file",
        title="a single-file checkpoint with all parts in one (svd_xt.safetensors), where the "
        "diffusers folder is needed",
        keys=(r"^model\.diffusion_model\.",),
    ),
    NetworkKind(
        name="image_vae",
        title="a VAE without the temporal decoder",
        keys=(r"^quant_conv\.", r"^decoder\."),
    ),
    NetworkKind(name="lora", title="a LoRA", keys=(r"lora_(?:up|down|A|B)\b|\.lora",)),
    NetworkKind(
        name="face_recognition",
        title="an ArcFace recogniser",
        keys=(r"^layer1\.0\.", r"prelu", r"^features\."),
    ),
)


def identify(names: Iterable[str]) -> NetworkKind | None:
    """The kind of file that has these names, or None."""
    listed = list(names)
    return next((kind for kind in (*NETWORKS, *_OTHERS) if kind.fits(listed)), None)


def describe_keys(state_dict: Mapping[str, Tensor]) -> str:
    """One sentence on what a set of weights looks like."""
    kind = identify(state_dict)
    if kind is None:
        first = ", ".join(list(state_dict)[:3])
        return f"It looks like no network known here (its names begin with {first})."
    hint = (
        " The adapter's id_to_k and id_to_v weights are missing; without them the face would be "
        "lost, so it is refused. Use StableAnimator's Animation/unet.pth."
        if kind.name == "plain_unet"
        else ""
    )
    return f"It looks like {kind.title}.{hint}"


def _count(names: Iterable[str], pattern: str) -> int:
    """Different numbers that the pattern's group takes."""
    found = (re.match(pattern, name) for name in names)
    return len({match.group(1) for match in found if match})


def _unet_config(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    levels = range(_count(weights, r"down_blocks\.(\d+)\."))
    attends = [f"down_blocks.{level}.attentions.0.norm.weight" in weights for level in levels]
    widths = tuple(
        weights[f"down_blocks.{level}.resnets.0.spatial_res_block.conv1.weight"].shape[0]
        for level in levels
    )
    time_ids = weights["add_embedding.linear_1.weight"].shape[1]
    token_width = next(v.shape[1] for k, v in weights.items() if k.endswith("id_to_k.weight"))
    depth = r".*\.attentions\.0\.transformer_blocks\.(\d+)\."
    return {
        "in_channels": weights["conv_in.weight"].shape[1],
        "out_channels": weights["conv_out.weight"].shape[0],
        "down_block_types": tuple(
            "CrossAttnDownBlockSpatioTemporal" if a else "DownBlockSpatioTemporal" for a in attends
        ),
        "up_block_types": tuple(
            "CrossAttnUpBlockSpatioTemporal" if a else "UpBlockSpatioTemporal"
            for a in reversed(attends)
        ),
        "block_out_channels": widths,
        "addition_time_embed_dim": time_ids // 3,
        "projection_class_embeddings_input_dim": time_ids,
        "layers_per_block": _count(weights, r"down_blocks\.0\.resnets\.(\d+)\."),
        "cross_attention_dim": token_width,
        "transformer_layers_per_block": _count(weights, depth),
        "num_attention_heads": (1,) * len(widths),  # no shape depends on it
    }


def _vae_config(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    levels = range(_count(weights, r"encoder\.down_blocks\.(\d+)\."))
    return {
        "in_channels": weights["encoder.conv_in.weight"].shape[1],
        "out_channels": weights["decoder.conv_out.weight"].shape[0],
        "down_block_types": ("DownEncoderBlock2D",) * len(levels),
        "block_out_channels": tuple(
            weights[f"encoder.down_blocks.{level}.resnets.0.conv1.weight"].shape[0]
            for level in levels
        ),
        "layers_per_block": _count(weights, r"encoder\.down_blocks\.0\.resnets\.(\d+)\."),
        "latent_channels": weights["quant_conv.weight"].shape[0] // 2,
    }


def _image_encoder_config(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    patches = weights["vision_model.embeddings.patch_embedding.weight"]
    positions = weights["vision_model.embeddings.position_embedding.weight"].shape[0]
    side = round((positions - 1) ** 0.5)
    return {
        "hidden_size": patches.shape[0],
        "intermediate_size": weights["vision_model.encoder.layers.0.mlp.fc1.weight"].shape[0],
        "num_hidden_layers": _count(weights, r"vision_model\.encoder\.layers\.(\d+)\."),
        "num_attention_heads": 1,  # no shape depends on it
        "image_size": side * patches.shape[-1],
        "patch_size": patches.shape[-1],
        "projection_dim": weights["visual_projection.weight"].shape[0],
    }


def _face_encoder_config(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    width = weights["norm.weight"].shape[0]
    return {
        "cross_attention_dim": width,
        "id_embeddings_dim": weights["proj.0.weight"].shape[1],
        "clip_embeddings_dim": weights["fusion_model.proj_in.weight"].shape[1],
        "num_tokens": weights["proj.2.weight"].shape[0] // width,
    }


def _pose_net_config(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    return {"noise_latent_channels": weights["final_proj.weight"].shape[0]}


_INFERENCE = {
    "unet": _unet_config,
    "vae": _vae_config,
    "image_encoder": _image_encoder_config,
    "face_encoder": _face_encoder_config,
    "pose_net": _pose_net_config,
}


def infer_config(name: str, weights: Mapping[str, Tensor], *, source: object) -> dict[str, Any]:
    """Constructor arguments of a network, as far as its weights' shapes tell them.

    The number of attention heads leaves no trace in the shapes and is set to 1; for checking names
    and shapes that is enough, for running the UNet or the image encoder it is not.

    Args:
        name: Field of `AnimatorModels`.
        weights: The network's weights.
        source: Where they come from, for messages.

    Raises:
        CheckpointError: If weights that tell the architecture are missing.
    """
    try:
        return _INFERENCE[name](weights)
    except (KeyError, IndexError, StopIteration) as error:
        raise CheckpointError(
            f"{source} should be the weights of the {name.replace('_', ' ')}, but {error} was not "
            f"found in it. {describe_keys(weights)} Fetch the file again."
        ) from error
