"""Drawings that are made once and kept on disk, where drawing takes longer than training."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import ConfigError

__all__ = ["drawn_pool", "open_pool"]

logger = logging.getLogger(__name__)

Item = Mapping[str, NDArray[Any]]

_DESCRIPTION = "pool.json"


def drawn_pool(
    folder: str | Path,
    draw: Callable[[int], Item],
    count: int,
    *,
    settings: Mapping[str, Any],
    workers: int = 0,
) -> dict[str, NDArray[Any]]:
    """Arrays [count, ...] on disk, drawn now if they are not there yet.

    Args:
        folder: Where they are kept.
        draw: Draws item i: arrays whose names and shapes are the same for every i. It is sent to
            worker processes.
        count: Number of items.
        settings: What the drawings follow from, as JSON can hold it; kept beside them.
        workers: Processes that draw; 0 for this one.

    Returns:
        The arrays by name, memory-mapped.

    Raises:
        ConfigError: If the folder holds drawings of other settings.
    """
    folder = Path(folder)
    wanted = json.loads(json.dumps({"count": count, **settings}))
    if not (folder / _DESCRIPTION).exists():
        _draw_all(folder, draw, wanted, workers)
    found = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
    if found != wanted:
        raise ConfigError(
            f"{folder} holds drawings made with {found}, but this run asks for {wanted}. Remove "
            "the folder or choose another one."
        )
    return open_pool(folder)


def open_pool(folder: str | Path) -> dict[str, NDArray[Any]]:
    """The arrays of a finished pool by name, memory-mapped."""
    return {path.stem: np.load(path, mmap_mode="r") for path in sorted(Path(folder).glob("*.npy"))}


@dataclass(frozen=True)
class _Drawings(torch.utils.data.Dataset[Item]):
    draw: Callable[[int], Item]
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Item:
        return self.draw(index)


def _unchanged(item: Any) -> Any:
    return item


def _draw_all(
    folder: Path, draw: Callable[[int], Item], description: dict[str, Any], workers: int
) -> None:
    """Draw beside the folder and rename, so that a kill leaves no half pool."""
    partial = folder.with_name(folder.name + ".part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    count = int(description["count"])
    loader = torch.utils.data.DataLoader(
        _Drawings(draw, count), batch_size=None, num_workers=workers, collate_fn=_unchanged
    )
    arrays: dict[str, Any] = {}
    for index, item in enumerate(loader):
        for name, value in item.items():
            if name not in arrays:
                arrays[name] = np.lib.format.open_memmap(
                    partial / f"{name}.npy", "w+", value.dtype, (count, *value.shape)
                )
            arrays[name][index] = value
        if (index + 1) % max(count // 10, 1) == 0:
            logger.info("drawn %d of %d", index + 1, count)
    for array in arrays.values():
        array.flush()
    (partial / _DESCRIPTION).write_text(json.dumps(description), encoding="utf-8")
    partial.rename(folder)
