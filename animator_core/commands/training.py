"""Commands that train networks."""

from __future__ import annotations

from typing import Any

from ..console import Console

__all__ = ["run_train_aligner"]


def run_train_aligner(args: Any, console: Console) -> int:
    """Train the pose aligner as a settings file says; goes on where it stopped.

    Raises:
        ConfigError: If the settings cannot be read.
    """
    from ..training.aligner import load_training_config, train

    path = train(load_training_config(args.config))
    console.result(str(path))
    return 0
