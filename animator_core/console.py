"""Progress bars, messages and Ctrl-C for the command line."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from .errors import CancelledError

if TYPE_CHECKING:  # it imports torch, which `--help` has to do without
    from .interfaces import Progress

__all__ = ["Console"]

_MANY_UNITS = 100_000  # so many are bytes


class Console:
    """A `Monitor` that draws a bar for each stage on stderr, and keeps the stages' times.

    Args:
        quiet: Show neither bars nor messages; results and errors are still shown.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.seconds: dict[str, float] = {}
        self._cancelled = False
        self._bar: Any = None
        self._bar_stage = ""
        self._mark = time.perf_counter()

    def say(self, message: str) -> None:
        """Tell the user something."""
        if not self.quiet:
            self.result(message)

    def result(self, message: str) -> None:
        """Print what the command was run for."""
        self.close_bar()
        sys.stdout.write(message + "\n")
        sys.stdout.flush()

    def complain(self, message: str) -> None:
        """Print an error."""
        self.close_bar()
        sys.stderr.write(message + "\n")

    def update(self, progress: Progress) -> None:
        """Take one report; the time since the last one counts for its stage."""
        self._add_time(progress.stage)
        if self.quiet:
            return
        bar = self._bar
        if bar is None or self._bar_stage != progress.stage:
            bar = self._open_bar(progress)
        bar.total = progress.total
        bar.update(progress.done - bar.n)

    def raise_if_cancelled(self) -> None:
        """Raise if Ctrl-C was pressed.

        Raises:
            CancelledError: If so.
        """
        if self._cancelled:
            raise CancelledError("Stopped.")

    def cancel(self) -> None:
        """Ask the running stage to stop at its next step."""
        self._cancelled = True

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage that reports no progress itself."""
        self.raise_if_cancelled()
        self.start_clock()
        try:
            yield
        finally:
            self._add_time(name)

    def start_clock(self) -> None:
        """Count time from now on."""
        self._mark = time.perf_counter()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let the first Ctrl-C stop at the next step, and a second one at once."""

        def on_interrupt(_signal: int, _frame: FrameType | None) -> None:
            if self._cancelled:
                raise KeyboardInterrupt
            self.cancel()
            self.complain("Stopping after the current step; press Ctrl-C again to stop at once.")

        before = signal.signal(signal.SIGINT, on_interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def close_bar(self) -> None:
        """End the bar, so that text can follow."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _add_time(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._mark
        self._mark = now

    def _open_bar(self, progress: Progress) -> Any:
        from tqdm import tqdm

        self.close_bar()
        counts_bytes = progress.total > _MANY_UNITS
        self._bar_stage = progress.stage
        self._bar = tqdm(
            total=progress.total,
            desc=progress.stage,
            unit="B" if counts_bytes else "it",
            unit_scale=counts_bytes,
            file=sys.stderr,
            dynamic_ncols=True,
        )
        return self._bar
