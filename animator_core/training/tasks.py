"""What a settings file with `task = ` trains, and how that is run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from ..interfaces import Monitor
from .loop import BatchSource, LoopConfig, Objective, train
from .settings import read_settings

__all__ = ["TrainingTask"]


class _HasLoop(Protocol):
    @property
    def loop(self) -> LoopConfig: ...


_Config = TypeVar("_Config", bound=_HasLoop)


@dataclass(frozen=True)
class TrainingTask(Generic[_Config]):
    """A network that the shared loop trains.

    Attributes:
        config: Dataclass of the settings.
        objective: Makes networks and loss from them.
        batches: Makes the batch source from them; what has to be drawn before the loop's
            processes need it is drawn here.
    """

    config: type[_Config]
    objective: Callable[[_Config], Objective]
    batches: Callable[[_Config], BatchSource]

    def __call__(
        self, content: dict[str, Any], source: object, monitor: Monitor | None = None
    ) -> Path:
        """Train as a settings file says; goes on where it stopped.

        Args:
            content: The file's tables, without `task`.
            source: For messages.
            monitor: Sees the steps.

        Returns:
            The output folder, with what the objective exports.

        Raises:
            ConfigError: If a setting is unknown or not valid.
            CheckpointError: If weights to start or go on from belong to another network.
        """
        config = read_settings(self.config, content, source=source)
        batches = self.batches(config)
        return train(self.objective(config), batches, config.loop, monitor=monitor)
