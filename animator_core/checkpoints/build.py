"""Builds the model bundle: from files, or with random weights; and writes it to files."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from ..models.bundle import AnimatorModels
from ..models.face_encoder import FaceEncoder
from ..models.image_encoder import CLIP_PRESET, build_image_encoder
from ..models.pose_net import PoseNet
from ..models.unet import UNET_PRESET, VideoUNet
from ..models.vae import VAE_PRESET, VideoVAE
from .files import ModelFiles, candidates, find_component, find_model_files, read_config
from .manifest import COMPONENTS
from .networks import infer_config
from .state_dict import load_strict, read_metadata, read_state_dict
from .writing import write_json, write_safetensors

__all__ = [
    "IGNORED_KEYS",
    "PUBLISHED",
    "ModelConfigs",
    "build_models",
    "empty_network",
    "load_models",
    "load_network",
    "save_models",
    "save_network",
]

_LOGGER = logging.getLogger(__name__)

_FP32_OF_VAE = ("encoder.", "quant_conv.")
"""Overflow in half precision; needed once per run and small, so they stay in fp32 for good."""

IGNORED_KEYS: Mapping[str, tuple[str, ...]] = {
    "image_encoder": ("vision_model.embeddings.position_ids",),
}
"""Entries that carry no weights: transformers before 4.31 saved this counter."""

_REQUIRED_SETTINGS: Mapping[str, tuple[str, ...]] = {
    "unet": ("block_out_channels", "cross_attention_dim", "num_attention_heads"),
    "vae": ("block_out_channels", "latent_channels"),
    "image_encoder": ("hidden_size", "projection_dim", "num_attention_heads"),
}


@dataclass(frozen=True, kw_only=True)
class ModelConfigs:
    """Architecture of the five networks: their constructors' arguments.

    Attributes:
        unet: See `UNET_PRESET`.
        vae: See `VAE_PRESET`.
        image_encoder: See `CLIP_PRESET`.
        face_encoder: Arguments of `FaceEncoder`; widths that follow from the others may be left
            out.
        pose_net: Arguments of `PoseNet`; likewise.
    """

    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    image_encoder: Mapping[str, Any]
    face_encoder: Mapping[str, Any] = field(default_factory=dict)
    pose_net: Mapping[str, Any] = field(default_factory=dict)

    def arguments(self, name: str) -> dict[str, Any]:
        """Constructor arguments of one network, with the widths that follow from the others."""
        derived: dict[str, dict[str, Any]] = {
            "pose_net": {"noise_latent_channels": self.unet["block_out_channels"][0]},
            "face_encoder": {
                "cross_attention_dim": self.unet["cross_attention_dim"],
                "clip_embeddings_dim": self.image_encoder["projection_dim"],
            },
        }
        return {**derived.get(name, {}), **getattr(self, name)}


PUBLISHED = ModelConfigs(unet=UNET_PRESET, vae=VAE_PRESET, image_encoder=CLIP_PRESET)
"""The architecture that the published weights belong to."""

_PRESETS: Mapping[str, Mapping[str, Any]] = {
    "unet": UNET_PRESET,
    "vae": VAE_PRESET,
    "image_encoder": {**CLIP_PRESET, "num_channels": 3},
}
_BUILDERS: Mapping[str, Callable[..., nn.Module]] = {
    "unet": VideoUNet,
    "vae": VideoVAE,
    "image_encoder": lambda **config: build_image_encoder(config),
    "face_encoder": FaceEncoder,
    "pose_net": PoseNet,
}
_WEIGHT_FILES: Mapping[str, str] = {
    "unet": "Animation/unet.safetensors",
    "pose_net": "Animation/pose_net.safetensors",
    "face_encoder": "Animation/face_encoder.safetensors",
    "vae": "SVD/vae/diffusion_pytorch_model.safetensors",
    "image_encoder": "SVD/image_encoder/model.safetensors",
}


@contextmanager
def _no_weights() -> Iterator[None]:
    """Networks built inside have their parameters on the meta device, but real buffers."""
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        yield


def empty_network(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """A network without values, in eval mode, parameters frozen and on the meta device.

    Args:
        name: Field of `AnimatorModels`.
        arguments: Its constructor's arguments.

    Raises:
        CheckpointError: If the arguments do not make a network.
    """
    try:
        with _no_weights():
            module = _BUILDERS[name](**arguments)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise CheckpointError(
            f"The architecture of the {name.replace('_', ' ')} is not valid: {error}. "
            "Fetch its config.json again; it must belong to the weights."
        ) from error
    return module.eval().requires_grad_(False)


def _fp32_prefixes(name: str, module: nn.Module, dtype: torch.dtype) -> tuple[str, ...]:
    upcast = isinstance(module, VideoVAE) and bool(module.config["force_upcast"])
    return _FP32_OF_VAE if upcast and name == "vae" and dtype != torch.float32 else ()


def _settings(name: str, files: ModelFiles) -> dict[str, Any]:
    """Architecture from config.json, or the published one where there is no config.json."""
    path = files.configs.get(name)
    if path is None:
        _LOGGER.info("no config.json for the %s; assuming the published architecture", name)
        return dict(_PRESETS[name])
    config = read_config(path)
    lacking = [key for key in _REQUIRED_SETTINGS[name] if key not in config]
    if lacking:
        raise CheckpointError(
            f"{path} lacks {', '.join(lacking)}, which the architecture of the "
            f"{name.replace('_', ' ')} follows from. Fetch it again from {files.folder.name}'s "
            "source."
        )
    return {key: config[key] for key in _PRESETS[name] if key in config}


def load_models(
    folder: Path | str,
    dtype: torch.dtype,
    *,
    stable_video_folder: Path | str | None = None,
    name: str | None = None,
) -> AnimatorModels:
    """Load all networks of a models folder, strictly.

    The files are mapped into memory: weights that are stored in `dtype` are not copied.

    Args:
        folder: Has `Animation/{unet,pose_net,face_encoder}.{safetensors,pth}` and
            `SVD/{unet,vae,image_encoder}`.
        dtype: Dtype of the networks. In half precision the VAE's encoder stays in fp32, if its
            config.json says `force_upcast`.
        stable_video_folder: The folder of Stable Video Diffusion, if it is not in `folder`.
        name: For messages; the folder's name if None.

    Returns:
        The networks on the CPU, frozen, in eval mode.

    Raises:
        CheckpointError: If a file is missing, damaged, unsafe, or of another network.
    """
    half = dtype in (torch.float16, torch.bfloat16)
    files = find_model_files(folder, stable_video_folder=stable_video_folder, half_precision=half)
    settings = {part: _settings(part, files) for part in _PRESETS}
    configs = ModelConfigs(**settings)
    networks: dict[str, Any] = {}
    for part, path in files.weights.items():
        weights = read_state_dict(path)
        for key in IGNORED_KEYS.get(part, ()):
            weights.pop(key, None)
        arguments = configs.arguments(part)
        if part == "face_encoder":
            inferred = infer_config(part, weights, source=path)
            arguments = {**inferred, **arguments}
        networks[part] = empty_network(part, arguments)
        prefixes = _fp32_prefixes(part, networks[part], dtype)
        load_strict(networks[part], weights, source=path, dtype=dtype, fp32_prefixes=prefixes)
    trained = read_metadata(files.weights["unet"]).get("trained", "true") != "false"
    return AnimatorModels(
        **networks, dtype=dtype, name=name or Path(folder).resolve().name, trained=trained
    )


def load_network(name: str, folder: Path | str) -> nn.Module:
    """Load one network that has its config.json beside it: fp32, frozen, eval mode, on the CPU.

    Args:
        name: "vae" or "image_encoder".
        folder: The models folder, with `SVD/` in it; it may lack the other networks.

    Raises:
        CheckpointError: If the file is missing, damaged, unsafe, or of another network.
    """
    component = next(c for c in COMPONENTS if c.name == name)
    places = candidates(component, Path(folder))
    path = find_component(component, places)
    if path is None:
        raise CheckpointError(
            f"Expected the {component.title} in {places[0]}, found none; give the folder that "
            f"holds {component.subfolder}/."
        )
    config = read_config(path.with_name("config.json"))
    module = empty_network(name, {k: config[k] for k in _PRESETS[name] if k in config})
    weights = read_state_dict(path)
    for key in IGNORED_KEYS.get(name, ()):
        weights.pop(key, None)
    load_strict(module, weights, source=path, dtype=torch.float32)
    return module


def build_models(
    configs: ModelConfigs,
    *,
    seed: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    name: str = "untrained",
) -> AnimatorModels:
    """Networks with random weights: for tests, benchmarks and the untrained demo.

    Every weight matters, also those that a training starts at zero.

    Args:
        configs: The architecture; `PUBLISHED` for the full size.
        seed: The weights follow from it, on one kind of device.
        dtype: Dtype of the networks.
        device: Where the weights are drawn and stay; drawing 2 billion on a GPU takes seconds.
        name: For messages.
    """
    generator = torch.Generator(device).manual_seed(seed)
    networks: dict[str, Any] = {}
    for part in _BUILDERS:
        module = empty_network(part, configs.arguments(part))
        prefixes = _fp32_prefixes(part, module, dtype)
        weights = {}
        for key, value in module.state_dict().items():
            kept = torch.float32 if key.startswith(prefixes) else dtype
            weights[key] = _random_weight(key, value.shape, generator).to(kept)
        load_strict(module, weights, source=f"seed {seed}", dtype=dtype, fp32_prefixes=prefixes)
        networks[part] = module.to(device)  # buffers that are no weights
    return AnimatorModels(**networks, dtype=dtype, name=name, trained=False)


def _random_weight(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Values that keep activations near unit variance."""
    device = generator.device
    if len(shape) > 1:
        noise = torch.randn(shape, generator=generator, device=device)
        return noise.div_(math.sqrt(math.prod(shape[1:])))
    constants = {"bias": 0.0, "weight": 1.0, "scale": 2.0, "mix_factor": 0.5}
    last = name.rpartition(".")[-1]
    if last in constants:
        return torch.full(shape, constants[last], device=device)
    return torch.randn(shape, generator=generator, device=device)


def _written_config(name: str, module: nn.Module) -> dict[str, Any]:
    return {key: getattr(module.config, key) for key in _PRESETS[name]}


def save_models(models: AnimatorModels, folder: Path | str, *, overwrite: bool = False) -> Path:
    """Write a model in the published layout, as safetensors.

    Args:
        models: The networks, in any dtype.
        folder: The models folder to write; made if need be.
        overwrite: Replace files that exist.

    Returns:
        The folder.

    Raises:
        CheckpointError: If a file exists, or cannot be written. No half file is left behind.
    """
    for part in _BUILDERS:
        save_network(
            part, getattr(models, part), folder, trained=models.trained, overwrite=overwrite
        )
    return Path(folder)


def save_network(
    name: str, module: nn.Module, folder: Path | str, *, trained: bool = True, overwrite: bool
) -> Path:
    """Write one network of a models folder, with its config.json where the layout has one.

    Args:
        name: Field of `AnimatorModels`.
        module: The network, in any dtype.
        folder: The models folder; made if need be.
        trained: False marks random weights.
        overwrite: Replace files that exist.

    Returns:
        The weights' file.

    Raises:
        CheckpointError: If a file exists, or cannot be written. No half file is left behind.
    """
    path = Path(folder) / _WEIGHT_FILES[name]
    if name in _PRESETS:
        config = _written_config(name, module)
        write_json(Path(folder) / "SVD" / name / "config.json", config, overwrite=overwrite)
    metadata = {"trained": "true" if trained else "false"}
    write_safetensors(path, module.state_dict(), metadata=metadata, overwrite=overwrite)
    return path
