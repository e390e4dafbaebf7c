"""Where models, inputs and outputs lie: in a temporary folder until a test says otherwise."""

from __future__ import annotations

import tempfile
from pathlib import Path

_base = Path(tempfile.gettempdir()) / "animator-stand-in-never-made"
models_dir = str(_base / "models")
supported_pt_extensions = {".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"}
folder_names_and_paths: dict[str, tuple[list[str], set[str]]] = {}
_directories = {"input": str(_base / "input"), "output": str(_base / "output")}


def set_input_directory(input_dir: str) -> None:
    _directories["input"] = input_dir


def set_output_directory(output_dir: str) -> None:
    _directories["output"] = output_dir


def get_input_directory() -> str:
    return _directories["input"]


def get_output_directory() -> str:
    return _directories["output"]


def get_folder_paths(folder_name: str) -> list[str]:
    return list(folder_names_and_paths[folder_name][0])


def get_save_image_path(
    filename_prefix: str, output_dir: str, image_width: int = 0, image_height: int = 0
) -> tuple[str, str, int, str, str]:
    root = Path(output_dir).resolve()
    target = (root / filename_prefix).resolve()
    if not target.is_relative_to(root):
        raise Exception("Saving image outside the output folder is not allowed.")
    folder, name = target.parent, target.name
    folder.mkdir(parents=True, exist_ok=True)
    used = [p.stem.removeprefix(name).split("_")[1] for p in folder.glob(f"{name}_*")]
    counter = max((int(number) for number in used if number.isdigit()), default=0) + 1
    subfolder = folder.relative_to(root).as_posix()
    return str(folder), name, counter, "" if subfolder == "." else subfolder, filename_prefix
