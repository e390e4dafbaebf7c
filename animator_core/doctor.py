"""Says what is installed, what works and what is found, and what to do about each gap."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

__all__ = ["Check", "Status", "format_report", "report"]

Status = Literal["ok", "warn", "missing"]

_MIN_PYTHON = (3, 10)
_NEEDED_PACKAGES = ("diffusers", "transformers", "accelerate", "safetensors", "einops", "numpy")
_OTHER_PACKAGES = {
    "huggingface_hub": "needed for `download`",
    "insightface": "needed to read faces",
    "tqdm": "needed for progress bars on the command line",
    "cv2": "opencv-python; needed to draw and extract poses",
}
_DISTRIBUTIONS = {"cv2": ("opencv-python", "opencv-python-headless", "opencv-contrib-python")}
_GIB = 1 << 30
_MIN_FREE_DISK = 12 * _GIB
"""The published weights, and as much again while they are converted."""
_MIN_RAM = 12 * _GIB
_MENDING = (
    "both packages write the same files, and the last one wins; mend with "
    "`pip install --force-reinstall --no-deps onnxruntime-gpu`, after "
    "`pip uninstall onnxruntime`"
)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the report.

    Attributes:
        name: What was looked at.
        status: "ok", "warn" (works, but not as well as it could) or "missing".
        found: What was found.
        remedy: What to do about it; empty if nothing.
    """

    name: str
    status: Status
    found: str
    remedy: str = ""


def report(
    models_folder: Path | str | None = None, *, stable_video_folder: Path | str | None = None
) -> list[Check]:
    """Look at everything; never raises, whatever is missing.

    Args:
        models_folder: Where weights are looked for; None skips them.
        stable_video_folder: Folder of Stable Video Diffusion, if it is elsewhere.
    """
    checks = [_python(), *_guarded("torch", _torch), *_packages()]
    checks += _guarded("onnxruntime", _onnxruntime)
    checks += _guarded("PyAV", _video_encoder)
    if models_folder is not None:
        folder = Path(models_folder)
        other = Path(stable_video_folder) if stable_video_folder is not None else None
        checks += _guarded("weights", lambda: _weights(folder, other))
    checks += _guarded("disk", lambda: [_disk(Path(models_folder or "."))])
    checks += _guarded("memory", lambda: [_memory()])
    return checks


def format_report(checks: list[Check]) -> str:
    """The report as text, one line per check and one more for each remedy."""
    marks = {"ok": "ok     ", "warn": "warning", "missing": "MISSING"}
    width = max((len(check.name) for check in checks), default=0)
    lines: list[str] = []
    for check in checks:
        lines.append(f"{marks[check.status]}  {check.name:<{width}}  {check.found}")
        if check.remedy:
            lines.append(f"{'':{len(marks['ok']) + width + 4}}→ {check.remedy}")
    gaps = sum(check.status == "missing" for check in checks)
    warnings = sum(check.status == "warn" for check in checks)
    lines.append(f"{gaps} missing, {warnings} warnings")
    return "\n".join(lines)


def _guarded(name: str, look: Callable[[], list[Check]]) -> list[Check]:
    """A broken package must not end the report: it is what the report is for."""
    try:
        return look()
    except ImportError as error:
        remedy = f"pip install -r requirements.txt ({error.name or name})"
        return [Check(name=name, status="missing", found=f"not usable: {error}", remedy=remedy)]
    except Exception as error:  # noqa: BLE001 - broken installations raise anything
        found = f"fails with {type(error).__name__}: {error}"
        return [Check(name=name, status="warn", found=found, remedy="reinstall the package")]


def _version(package: str) -> str | None:
    for distribution in _DISTRIBUTIONS.get(package, (package,)):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _python() -> Check:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info >= _MIN_PYTHON:
        return Check(name="Python", status="ok", found=found)
    return Check(
        name="Python", status="missing", found=found, remedy="install Python 3.10 or newer"
    )


def _torch() -> list[Check]:
    import torch

    checks = [Check(name="torch", status="ok", found=torch.__version__)]
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            found = f"{properties.name}, {properties.total_memory / _GIB:.1f} GiB"
            checks.append(Check(name=f"device cuda:{index}", status="ok", found=found))
    elif torch.backends.mps.is_available():
        checks.append(Check(name="device mps", status="ok", found="Apple GPU"))
    else:
        found = "CPU only; full-size models take hours there"
        remedy = "on a computer with an NVIDIA GPU, install torch's CUDA build (pytorch.org)"
        checks.append(Check(name="device cpu", status="warn", found=found, remedy=remedy))
    return checks


def _packages() -> list[Check]:
    checks: list[Check] = []
    for package in _NEEDED_PACKAGES:
        checks += _guarded(package, lambda package=package: [_package(package)])
    for package, purpose in _OTHER_PACKAGES.items():
        version = _version(package)
        if version is not None:
            checks.append(Check(name=package, status="ok", found=version))
        else:
            found = f"not installed; {purpose}"
            remedy = f"pip install {_DISTRIBUTIONS.get(package, (package,))[0]}"
            checks.append(Check(name=package, status="warn", found=found, remedy=remedy))
    return checks


def _package(name: str) -> Check:
    importlib.import_module(name)
    return Check(name=name, status="ok", found=_version(name) or "unknown version")


def _onnxruntime() -> list[Check]:
    both = _version("onnxruntime") is not None and _version("onnxruntime-gpu") is not None
    import onnxruntime

    providers: list[str] = onnxruntime.get_available_providers()
    names = ", ".join(name.removesuffix("ExecutionProvider") for name in providers)
    found = f"{onnxruntime.__version__} with {names}"
    if both:  # harmless where there is no GPU, or where the GPU's build won
        found += "; onnxruntime and onnxruntime-gpu are both installed"
    if _has_cuda() and "CUDAExecutionProvider" not in providers:
        single = "`pip uninstall onnxruntime`, then `pip install onnxruntime-gpu`"
        found += "; poses and faces are found on the CPU, though there is a GPU"
        remedy = _MENDING if both else single
        return [Check(name="onnxruntime", status="warn", found=found, remedy=remedy)]
    return [Check(name="onnxruntime", status="ok", found=found)]


def _has_cuda() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


def _video_encoder() -> list[Check]:
    import av

    try:
        av.Codec("h264", "w")
    except ValueError:
        remedy = "pip install --force-reinstall av; or write a folder of PNGs instead"
        found = f"{av.__version__} without an h264 encoder"
        return [Check(name="PyAV", status="missing", found=found, remedy=remedy)]
    return [Check(name="PyAV", status="ok", found=f"{av.__version__} with h264")]


def _weights(folder: Path, stable_video_folder: Path | None) -> list[Check]:
    from .checkpoints.files import candidates, find_component
    from .checkpoints.manifest import COMPONENTS, ONNX_FILES

    checks: list[Check] = []
    for component in COMPONENTS:
        places = candidates(component, folder, stable_video_folder)
        group = "stable-video" if component.in_stable_video else "adapter"
        names = " or ".join(component.file_names[:2])
        wanted = places[0] / names
        checks.append(_weight(component.title, find_component(component, places), wanted, group))
    for group, name, places in ONNX_FILES:
        paths = [folder / place / name for place in places]
        found = next((path for path in paths if path.is_file()), None)
        checks.append(_weight(name, found, paths[0], group))
    return checks


def _weight(title: str, found: Path | None, wanted: Path, group: str) -> Check:
    from .checkpoints.file_kind import file_kind
    from .checkpoints.manifest import GROUPS
    from .errors import CheckpointError

    licence = next(g.licence for g in GROUPS if g.name == group)
    name = f"weights: {title}"
    if found is None:
        remedy = f"python -m animator_core download --components {group} (licence: {licence})"
        return Check(name=name, status="missing", found=f"not at {wanted}", remedy=remedy)
    size = found.stat().st_size
    text = f"{found}, {size / 1e6:,.1f} MB. Licence: {licence}"
    try:
        file_kind(found)
    except CheckpointError as error:
        return Check(name=name, status="missing", found=text, remedy=str(error))
    return Check(name=name, status="ok", found=text)


def _disk(folder: Path) -> Check:
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(existing).free
    found = f"{free / _GIB:.1f} GiB free at {existing}"
    if free < _MIN_FREE_DISK:
        remedy = f"downloading and converting all weights needs {_MIN_FREE_DISK // _GIB} GiB"
        return Check(name="disk", status="warn", found=found, remedy=remedy)
    return Check(name="disk", status="ok", found=found)


def _memory() -> Check:
    total = _total_ram()
    if total is None:
        found = "size unknown"
        return Check(name="memory", status="ok", found=found)
    found = f"{total / _GIB:.1f} GiB"
    if total < _MIN_RAM:
        remedy = f"full-size models want {_MIN_RAM // _GIB} GiB; close other programs, use fp16"
        return Check(name="memory", status="warn", found=found, remedy=remedy)
    return Check(name="memory", status="ok", found=found)


def _total_ram() -> int | None:
    """Memory of this computer [bytes]; None where neither psutil nor the system tells."""
    try:
        import psutil
    except ImportError:
        import os

        sysconf: Any = getattr(os, "sysconf", None)  # not on Windows
        return sysconf("SC_PAGE_SIZE") * sysconf("SC_PHYS_PAGES") if sysconf else None
    return psutil.virtual_memory().total
