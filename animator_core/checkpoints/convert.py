"""Turns pickled weights into safetensors, strictly and whole or not at all."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..errors import CheckpointError
from ..interfaces import Monitor, Progress, SilentMonitor
from .build import IGNORED_KEYS, empty_network
from .lock import LOCK_NAME
from .networks import NETWORKS, describe_keys, identify, infer_config
from .state_dict import check_keys, read_state_dict
from .writing import atomic, write_safetensors

__all__ = ["convert"]

_LOGGER = logging.getLogger(__name__)
_PICKLES = (".pth", ".pt", ".bin")
_COPIED = (".json", ".onnx", ".safetensors")
_OUR_NETWORKS = {kind.name for kind in NETWORKS}
_CHUNK_BYTES = 1 << 24


@dataclass(frozen=True, kw_only=True)
class _Task:
    source: Path
    target: Path
    network: str


def convert(source: Path | str, output: Path | str, monitor: Monitor | None = None) -> list[Path]:
    """Convert one pickled weight file, or a whole models folder, to safetensors.

    Everything is checked before anything is written: every file must be safe to read and have
    exactly the names and shapes of one of the known networks. In a folder, files of other networks
    are left out with a warning. If the output is another folder, settings, ONNX networks and
    safetensors that belong to the model are copied along, so that it can be loaded from there.

    Args:
        source: A .pth, .pt or .bin file, or a models folder.
        output: Folder of the result; may be the source folder.
        monitor: Receives progress, and may cancel.

    Returns:
        The safetensors files written.

    Raises:
        CheckpointError: If there is nothing to convert, a file is damaged, unsafe or of an unknown
            network, a target exists, or the disk is too small.
    """
    source, output = Path(source), Path(output)
    monitor = monitor or SilentMonitor()
    if not source.exists():
        raise CheckpointError(f"Expected a weight file or folder at {source}, found nothing.")
    if source.is_dir():
        tasks, copies = _folder_tasks(source, output)
    else:
        network = _checked_network(source, read_state_dict(source))
        target = output / source.with_suffix(".safetensors").name
        tasks, copies = [_Task(source=source, target=target, network=network)], []
    targets = [task.target for task in tasks] + [target for _, target in copies]
    _raise_if_existing(targets)
    _raise_if_too_big([task.source for task in tasks] + [path for path, _ in copies], output)
    for task in tasks:
        weights = _without_ignored(task.network, read_state_dict(task.source))
        write_safetensors(task.target, weights, monitor=monitor)
        _LOGGER.info("%s: %s → %s", task.network, task.source, task.target)
    for path, target in copies:
        _copy(path, target, monitor)
    return [task.target for task in tasks]


def _without_ignored(network: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    ignored = IGNORED_KEYS.get(network, ())
    return {name: value for name, value in weights.items() if name not in ignored}


def _checked_network(path: Path, weights: dict[str, Tensor]) -> str:
    """The network that a file belongs to, exactly."""
    kind = identify(weights)
    if kind is None or kind.name not in _OUR_NETWORKS:
        known = ", ".join(network.title for network in NETWORKS)
        raise CheckpointError(
            f"{path} is not converted. {describe_keys(weights)} Expected one of: {known}."
        )
    weights = _without_ignored(kind.name, weights)
    network = empty_network(kind.name, infer_config(kind.name, weights, source=path))
    check_keys(network.state_dict(), weights, source=path, network=kind.title)
    return kind.name


def _folder_tasks(source: Path, output: Path) -> tuple[list[_Task], list[tuple[Path, Path]]]:
    tasks: list[_Task] = []
    for path in _files(source, _PICKLES):
        weights = read_state_dict(path)
        kind = identify(weights)
        if kind is None or kind.name not in _OUR_NETWORKS:
            _LOGGER.warning("%s is left out. %s", path, describe_keys(weights))
            continue
        target = (output / path.relative_to(source)).with_suffix(".safetensors")
        network = _checked_network(path, weights)
        tasks.append(_Task(source=path, target=target, network=network))
    if not tasks:
        raise CheckpointError(
            f"{source} holds no pickled weights of StableAnimator ({', '.join(_PICKLES)}); there "
            "is nothing to convert."
        )
    if output.resolve() == source.resolve():
        return tasks, []
    converted = {task.target for task in tasks}
    copies = [
        (path, output / path.relative_to(source))
        for path in _files(source, _COPIED)
        if path.suffix != ".safetensors" or _is_ours(path)
    ]
    return tasks, [(path, target) for path, target in copies if target not in converted]


def _files(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix in suffixes
        and path.is_file()
        and not path.name.startswith(".")
        and path.name != LOCK_NAME  # it lists the pickles
    )


def _is_ours(path: Path) -> bool:
    kind = identify(read_state_dict(path))
    return kind is not None and kind.name in _OUR_NETWORKS


def _raise_if_existing(targets: list[Path]) -> None:
    existing = [str(target) for target in targets if target.exists()]
    if existing:
        raise CheckpointError(
            f"{', '.join(existing)} exist and are not overwritten. Choose another output folder, "
            "or remove them first."
        )


def _raise_if_too_big(sources: list[Path], output: Path) -> None:
    needed = sum(path.stat().st_size for path in sources)
    existing = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise CheckpointError(
            f"The converted weights need {needed / 1e9:.1f} GB, but the disk of {output} has "
            f"{free / 1e9:.1f} GB free. Free some space or choose another output."
        )


def _copy(path: Path, target: Path, monitor: Monitor) -> None:
    total, done = path.stat().st_size, 0
    with path.open("rb") as reading, atomic(target) as writing:
        while chunk := reading.read(_CHUNK_BYTES):
            monitor.raise_if_cancelled()
            writing.write(chunk)
            done += len(chunk)
            monitor.update(Progress(stage=f"copying {path.name}", done=done, total=total))
