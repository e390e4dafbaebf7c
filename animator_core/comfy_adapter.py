"""The only file of this package that knows ComfyUI: devices, progress, cancelling, folders."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import comfy.latent_formats
import comfy.model_management as mm
import comfy.model_patcher
import comfy.ops
import comfy.utils
import folder_paths
import latent_preview
import torch
from torch import nn

from .demo.model import DEMO_FOLDER
from .errors import CheckpointError, MediaError
from .interfaces import Precision, Progress, resolve_dtype
from .models.bundle import AnimatorModels, LatentColours

__all__ = [
    "BUILT_IN",
    "ComfyDeviceManager",
    "ComfyMonitor",
    "face_folder",
    "input_files",
    "input_path",
    "model_choices",
    "model_folder",
    "onnx_choices",
    "onnx_path",
    "output_path",
    "register_model_folder",
    "show_text",
    "weight_dtype",
]

BUILT_IN = "demo (built-in)"
"""The choice of what ships inside this pack."""

_FOLDER = "stableanimator"
_ANTELOPE_PLACES = (".", "antelopev2", "antelopev2/antelopev2")


class _Held(nn.Module):
    """A network as ModelPatcher wants it: with a `device` attribute that can be set."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.device: torch.device | None = None


_STREAMABLE: dict[type[nn.Module], type[nn.Module]] = {
    getattr(nn, name): getattr(comfy.ops.disable_weight_init, name)
    for name in ("Linear", "Conv1d", "Conv2d", "Conv3d", "GroupNorm", "LayerNorm", "Embedding")
}


def _make_streamable(network: nn.Module) -> None:
    """Let ComfyUI keep layers on the CPU and cast them on use, when memory is short.

    ComfyUI's layers are torch's with that one ability added and no state of their own, so a layer
    that is already built can become one by changing its class.
    """
    for module in network.modules():
        streamable = _STREAMABLE.get(type(module))
        if streamable is not None:
            module.__class__ = streamable
            if not hasattr(module, "bias"):  # ComfyUI's constructor gives embeddings one
                module.register_parameter("bias", None)


def _move_loose_tensors(network: nn.Module, device: torch.device) -> None:
    """Move what ComfyUI does not: parameters and buffers outside its own layers. A few kB."""
    for module in network.modules():
        if hasattr(module, "comfy_cast_weights"):
            continue
        for parameter in module.parameters(recurse=False):
            parameter.data = parameter.data.to(device)
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))


class ComfyDeviceManager:
    """Loads networks through ComfyUI's model management.

    ComfyUI decides what else stays in memory. The patchers live as long as this object.
    """

    def __init__(self) -> None:
        self._patchers: dict[int, Any] = {}
        self._in_use: list[tuple[list[nn.Module], int]] = []

    @property
    def device(self) -> torch.device:
        """The compute device that ComfyUI chose."""
        return mm.get_torch_device()

    def _patcher(self, network: nn.Module) -> Any:
        if id(network) not in self._patchers:
            _make_streamable(network)
            self._patchers[id(network)] = comfy.model_patcher.ModelPatcher(
                _Held(network),
                load_device=mm.get_torch_device(),
                offload_device=mm.unet_offload_device(),
            )
        return self._patchers[id(network)]

    def _load(self) -> None:
        """Have everything in use on the device; what an inner stage pushed out comes back."""
        if not self._in_use:
            return
        networks = [n for group, _ in self._in_use for n in group]
        need = max(need for _, need in self._in_use)
        # nodes run in inference mode; weights that are moved in it could never have a gradient
        # passed through them, which the face refiner needs
        with torch.inference_mode(False):
            mm.load_models_gpu([self._patcher(n) for n in networks], memory_required=need)
            for network in networks:
                _move_loose_tensors(network, self.device)

    @contextmanager
    def loaded(self, *modules: nn.Module, activation_bytes: int = 0) -> Generator[None, None, None]:
        """Hold modules on the compute device for the length of a `with` block."""
        entry = (list(modules), activation_bytes)
        self._in_use.append(entry)
        try:
            self._load()
            yield
        finally:
            self._in_use.remove(entry)
        self._load()  # not after an error: then nothing goes on

    def free_bytes(self) -> int:
        """Memory that ComfyUI can make free on the compute device [bytes]."""
        return int(mm.get_total_memory(self.device) - mm.extra_reserved_memory())


class _MeasuredLatents(comfy.latent_formats.LatentFormat):
    """What previewers ask of latents whose colours are known."""

    def __init__(self, colours: LatentColours, scale: float) -> None:
        self.scale_factor = scale
        self.latent_channels = len(colours.factors)
        # ComfyUI previews latents as its samplers have them, scaled
        self.latent_rgb_factors = [[f / scale for f in row] for row in colours.factors]
        self.latent_rgb_factors_bias = list(colours.bias)


def _latent_format(models: AnimatorModels) -> comfy.latent_formats.LatentFormat | None:
    """What ComfyUI's previewers must know of a model's latents; None if nobody does."""
    if models.latent_colours is not None:
        return _MeasuredLatents(models.latent_colours, models.vae.scaling_factor)
    # Stable Video Diffusion's encoder is that of Stable Diffusion 1.5
    return comfy.latent_formats.SD15() if models.vae.latent_channels == 4 else None


class ComfyMonitor:
    """Shows progress and latent previews on the running node; obeys ComfyUI's Cancel.

    Args:
        models: Whose latents to preview; None for stages that report none.
    """

    def __init__(self, models: AnimatorModels | None = None) -> None:
        self._bar = comfy.utils.ProgressBar(1)
        self._previewer = None
        latent_format = None if models is None else _latent_format(models)
        if latent_format is not None:
            self._previewer = latent_preview.get_previewer(mm.get_torch_device(), latent_format)

    def update(self, progress: Progress) -> None:
        """Take one report."""
        preview, denoised = None, progress.denoised
        if self._previewer is not None and denoised is not None:
            frame = progress.done % denoised.shape[0]  # walks through the clip
            shown = denoised[frame : frame + 1]
            preview = self._previewer.decode_latent_to_preview_image("JPEG", shown)
        self._bar.update_absolute(progress.done, progress.total, preview)

    def raise_if_cancelled(self) -> None:
        """Raise ComfyUI's own exception when the user pressed Cancel."""
        mm.throw_exception_if_processing_interrupted()


def show_text(text: str, node_id: str | None) -> None:
    """Show a text on a node, for results and warnings that concern the user."""
    module = sys.modules.get("server")  # not loaded when nodes run without the web server
    server = getattr(getattr(module, "PromptServer", None), "instance", None)
    if server is not None and node_id is not None and hasattr(server, "send_progress_text"):
        server.send_progress_text(text, node_id)


def weight_dtype(precision: Precision) -> torch.dtype:
    """The dtype for weights; "auto" asks ComfyUI what this device is good at."""
    device = mm.get_torch_device()
    if precision == "auto" and device.type != "cpu":
        if mm.should_use_fp16(device):
            return torch.float16
        return torch.bfloat16 if mm.should_use_bf16(device) else torch.float32
    return resolve_dtype(precision, device)


def register_model_folder() -> None:
    """Make models/stableanimator known, beside what extra_model_paths.yaml names."""
    known = folder_paths.folder_names_and_paths
    paths, extensions = known.get(_FOLDER, ([], set()))
    default = str(Path(folder_paths.models_dir) / _FOLDER)
    merged = [*paths, *([] if default in paths else [default])]
    known[_FOLDER] = (merged, {*extensions, *folder_paths.supported_pt_extensions, ".onnx"})


def _installed_models() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for root in map(Path, folder_paths.get_folder_paths(_FOLDER)):
        if not root.is_dir():
            continue
        for folder in (root, *sorted(p for p in root.iterdir() if p.is_dir())):
            if (folder / "Animation").is_dir():
                found.setdefault(folder.name, folder)
    return found


def model_choices() -> list[str]:
    """Names of the installed models: folders that hold an `Animation` folder."""
    return list(_installed_models())


def model_folder(choice: str) -> Path:
    """Folder of an installed model.

    Raises:
        CheckpointError: If there is no such model (any more).
    """
    try:
        return _installed_models()[choice]
    except KeyError:
        places = ", ".join(folder_paths.get_folder_paths(_FOLDER))
        raise CheckpointError(
            f"There is no model {choice!r}; a model is a folder with `Animation` and `SVD` in it, "
            f"looked for in {places}."
        ) from None


def _installed_onnx() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for kind in (_FOLDER, "detection"):  # the latter is where other pose packs keep the same files
        if kind not in folder_paths.folder_names_and_paths:
            continue
        for root in map(Path, folder_paths.get_folder_paths(kind)):
            for path in sorted(root.rglob("*.onnx")) if root.is_dir() else []:
                found.setdefault(path.relative_to(root).as_posix(), path)
    return found


def onnx_choices(published: str) -> list[str]:
    """Names of ONNX files: the published one, installed or not, a built-in one, then others."""
    others = [name for name in sorted(_installed_onnx()) if name != published]
    built_in = [BUILT_IN] if (DEMO_FOLDER / published).is_file() else []
    return [published, *built_in, *others]


def onnx_path(choice: str, published: str) -> Path:
    """The file of a choice; one of the same name in another folder serves too.

    Args:
        choice: One of `onnx_choices`.
        published: Name of the published file, whose place the built-in one takes.

    Raises:
        CheckpointError: If it is not installed.
    """
    if choice == BUILT_IN:
        return DEMO_FOLDER / published
    installed = _installed_onnx()
    name = choice.rpartition("/")[2]
    same_name = [path for path in installed.values() if path.name == name]
    if choice in installed or same_name:
        return installed.get(choice) or same_name[0]
    places = ", ".join(folder_paths.get_folder_paths(_FOLDER))
    raise CheckpointError(
        f"{name} is not installed; it was looked for in {places} and the folders below. "
        "docs/weights.md of this pack says where to get it."
    )


def face_folder() -> Path:
    """The folder of insightface's antelopev2, where this pack or others keep it.

    Raises:
        CheckpointError: If it is nowhere.
    """
    roots = [Path(p) for p in folder_paths.get_folder_paths(_FOLDER)]
    roots += [p for root in roots if root.is_dir() for p in sorted(root.iterdir()) if p.is_dir()]
    roots.append(Path(folder_paths.models_dir) / "insightface" / "models")
    for root in roots:
        if any((root / below / "glintr100.onnx").is_file() for below in _ANTELOPE_PLACES):
            return root
    raise CheckpointError(
        "insightface's antelopev2 is not installed; put its scrfd_10g_bnkps.onnx and "
        f"glintr100.onnx into {roots[0] / 'antelopev2'} (for non-commercial research only)."
    )


def input_files(*suffixes: str) -> list[str]:
    """Files of ComfyUI's input folder with one of these suffixes, by relative name."""
    root = Path(folder_paths.get_input_directory())
    files = (p for p in root.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
    return sorted(p.relative_to(root).as_posix() for p in files)


def _below(folder: str, name: str) -> tuple[Path, Path]:
    """A folder, and a path in it that shows where `..` leads; links are not followed.

    People link files and folders of other disks into ComfyUI's, and these are wanted.
    """
    root = os.path.abspath(folder)
    return Path(root), Path(os.path.abspath(os.path.join(root, name)))


def input_path(name: str) -> Path:
    """A file of ComfyUI's input folder.

    Raises:
        MediaError: If it is not there, or lies outside.
    """
    root, path = _below(folder_paths.get_input_directory(), name)
    if not path.is_relative_to(root):
        raise MediaError(f"{name!r} lies outside ComfyUI's input folder; put the file into it.")
    if not path.is_file():
        raise MediaError(f"There is no file {name!r} in ComfyUI's input folder {root}.")
    return path


def output_path(prefix: str, suffix: str) -> tuple[Path, str]:
    """A new file in ComfyUI's output folder, and its subfolder there.

    Raises:
        MediaError: If the place lies outside, or its folder cannot be made or read.
    """
    root, place = _below(folder_paths.get_output_directory(), prefix)
    if not place.is_relative_to(root):
        raise MediaError(f"{prefix!r} leads out of ComfyUI's output folder; use a name inside it.")
    try:
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, str(root))
    except OSError as error:
        raise MediaError(
            f"{prefix!r} cannot be written in ComfyUI's output folder {root}: {error}. "
            "Choose another filename_prefix, or free that folder."
        ) from error
    return Path(folder) / f"{name}_{counter:05}_{suffix}", subfolder
