"""The training loop of every network: accelerate underneath, exact to resume.

Nothing about the data is saved: micro-batch m of step n is drawn from `(seed, n, m)`, whatever
process draws it. A run that was killed therefore goes on with the same numbers, and two processes
see what one process with twice the accumulation sees.
"""

from __future__ import annotations

import json
import logging
import time
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from ..checkpoints.writing import atomic
from ..errors import CancelledError, CheckpointError, ConfigError
from ..interfaces import Monitor, Progress, SilentMonitor
from .acceleration import learning_rate, make_optimizer, on_device, open_accelerator

__all__ = ["BatchSource", "LoopConfig", "Objective", "learning_rate", "micro_batch", "train"]

logger = logging.getLogger(__name__)

_SEEDS_PER_STEP = 1 << 16  # more micro-batches than any step has


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """What every training has in common.

    Attributes:
        output: Folder for weights, checkpoint and log.
        seed: Decides data and noise.
        steps: Optimizer steps.
        accumulation: Micro-batches of a step, per process.
        learning_rate: Peak of the schedule.
        warmup_steps: Linear rise.
        decay: Share of the steps, at the end, over which the rate falls to zero (cosine).
        betas: AdamW's.
        weight_decay: AdamW's.
        gradient_clip: Largest gradient norm.
        optimizer: `adamw` (fused if it can be), `adamw8bit` (needs bitsandbytes), `muon` (`Muon`).
        ema: Decay of the averaged weights, which are the ones that are kept; 0 for none.
        precision: Of the forward pass; weights stay in fp32.
        checkpoint_every: Steps between checkpoints.
        validate_every: Steps between validations; 0 for none.
        workers: Processes that draw batches ahead.
        threads: CPU threads; 0 leaves torch's choice.
        device: `auto` takes a GPU if there is one.
        tracker: A tracker of accelerate's beside the log file ("tensorboard"), or empty.
    """

    output: str
    seed: int = 0
    steps: int = 8000
    accumulation: int = 1
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    decay: float = 0.4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    optimizer: Literal["adamw", "adamw8bit", "muon"] = "adamw"
    ema: float = 0.995
    precision: Literal["no", "fp16", "bf16"] = "no"
    checkpoint_every: int = 200
    validate_every: int = 0
    workers: int = 1
    threads: int = 0
    device: Literal["auto", "cpu"] = "auto"
    tracker: str = ""

    def __post_init__(self) -> None:
        for name in ("steps", "accumulation", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.optimizer not in ("adamw", "adamw8bit", "muon"):
            raise ConfigError(f"optimizer is {self.optimizer!r}; use adamw, adamw8bit or muon.")
        if self.precision not in ("no", "fp16", "bf16"):
            raise ConfigError(f"precision is {self.precision!r}; use no, fp16 or bf16.")
        if self.device not in ("auto", "cpu"):
            raise ConfigError(f"device is {self.device!r}; use auto or cpu.")
        if not 0 <= self.ema < 1:
            raise ConfigError(f"ema is {self.ema} but must be at least 0 and below 1.")


def micro_batch(seed: int) -> int:
    """Which micro-batch of its step a source's seed belongs to, from 0."""
    return seed % _SEEDS_PER_STEP


class BatchSource(Protocol):
    """Draws micro-batches; it is sent to worker processes, so it holds no networks."""

    def __call__(self, step: int, seed: int) -> Any:
        """One micro-batch.

        Args:
            step: Optimizer step that it is for.
            seed: Everything random follows from it.
        """
        ...


class Objective(nn.Module):
    """What a training minimises: the networks, frozen ones included, and their loss.

    Parameters that require a gradient are trained, averaged and kept in the checkpoint.
    """

    @abstractmethod
    def forward(self, batch: Any, generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of a micro-batch.

        Args:
            batch: What the source drew, on the device.
            generator: A CPU generator for the noise of this micro-batch.

        Returns:
            Scalars: `loss`, which is minimised, and others, which are logged.
        """

    @abstractmethod
    def validate(self, step: int) -> dict[str, float]:
        """Figures of the averaged weights, which are in place, on data that training never sees."""

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Write the averaged weights, which are in place, as files that the loaders read."""


def train(
    objective: Objective,
    source: BatchSource,
    config: LoopConfig,
    *,
    monitor: Monitor | None = None,
    stop_after: int | None = None,
) -> Path:
    """Train, going on from the output folder's checkpoint if there is one.

    Args:
        objective: Networks and loss.
        source: Draws the data.
        config: The run.
        monitor: Sees the steps; on Cancel the run saves and ends, and can be resumed.
        stop_after: End at this step instead of the last.

    Returns:
        The output folder.

    Raises:
        CheckpointError: If the checkpoint belongs to another network or run.
        DependencyError: If an optimizer or a tracker is not installed.
        CancelledError: If the user stopped it; the checkpoint is up to date.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    run = _Run(objective, source, config, monitor or SilentMonitor())
    run.resume()
    run.advance_to(config.steps if stop_after is None else min(stop_after, config.steps))
    return run.folder


class _Schedule(torch.utils.data.Dataset[Any]):
    """The micro-batches of one process, in the order in which it needs them."""

    def __init__(self, source: BatchSource, config: LoopConfig, rank: int, world: int) -> None:
        self.source, self.config, self.rank, self.world = source, config, rank, world

    def __len__(self) -> int:
        return self.config.steps * self.config.accumulation

    def __getitem__(self, index: int) -> tuple[Any, int]:
        step, micro = divmod(index, self.config.accumulation)
        # the same set of micro-batches, however many processes share them
        position = micro * self.world + self.rank
        seed = (self.config.seed << 40) + step * _SEEDS_PER_STEP + position
        return self.source(step, seed), seed

    def batches(self, first_step: int) -> Iterator[tuple[Any, int]]:
        """From a step on."""
        indices = range(first_step * self.config.accumulation, len(self))
        loader = torch.utils.data.DataLoader(
            self,
            batch_size=None,
            sampler=indices,
            num_workers=self.config.workers,
            prefetch_factor=4 if self.config.workers else None,
        )
        return iter(loader)


class _Run:
    """Networks, averaged weights, optimizer and step of a run."""

    def __init__(
        self, objective: Objective, source: BatchSource, config: LoopConfig, monitor: Monitor
    ) -> None:
        self.config, self.monitor, self.objective = config, monitor, objective
        self.accelerator = open_accelerator(config)
        trained = [p for p in objective.parameters() if p.requires_grad]
        if not trained:
            raise ConfigError("Nothing is to be trained: no parameter requires a gradient.")
        self.model, self.optimizer = self.accelerator.prepare(
            objective, make_optimizer(trained, config, self.accelerator.device)
        )
        # without averaging the weights are their own average, and take no memory twice
        self.averaged = {
            k: v.detach().clone() if config.ema else v.detach() for k, v in self._state().items()
        }
        self.step = self.saved_step = 0
        self.folder = Path(config.output)
        processes = (self.accelerator.process_index, self.accelerator.num_processes)
        self.schedule = _Schedule(source, config, *processes)

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def log(self) -> Path:
        return self.folder / "log.jsonl"

    def _state(self) -> dict[str, Tensor]:
        """What training changes: trained parameters, and buffers of the modules that have some."""
        network = self.objective
        state: dict[str, Tensor] = {k: v for k, v in network.named_parameters() if v.requires_grad}
        for prefix, module in network.named_modules():
            own = list(module.parameters(recurse=False))
            if own and all(p.requires_grad for p in own):
                for name, value in module.named_buffers(prefix, recurse=False):
                    state[name] = value
        return state

    def advance_to(self, last: int) -> None:
        """Run optimizer steps until `last`."""
        if self.step >= last:
            return
        batches = self.schedule.batches(self.step)
        sums: dict[str, float] = {}
        started, first = time.monotonic(), self.step
        try:
            while self.step < last:
                for name, value in self._advance(batches).items():
                    sums[name] = sums.get(name, 0.0) + value
                self.monitor.update(Progress(stage="training", done=self.step, total=last))
                due = self.step % self.config.checkpoint_every == 0 or self.step == last
                entry = self._validated()
                if due or entry:
                    entry |= {k: v / (self.step - first) for k, v in sums.items()}
                    entry["learning_rate"] = learning_rate(self.config, self.step - 1)
                    entry["seconds"] = round(time.monotonic() - started, 1)
                    self._write_log(entry)
                    sums, first = {}, self.step
                if due:
                    self.save()
                self.monitor.raise_if_cancelled()
            # the first process still writes: one that leaves early would leave it hanging
            self.accelerator.wait_for_everyone()
        except CancelledError:  # raised between two steps: nothing that was trained is lost
            if self.step > self.saved_step:
                self.save()
            raise
        finally:
            # DistributedDataParallel must go before its process group: were it the last to hold the
            # group, the group's thread would wait for Python's lock, and Python for that thread
            self.model = self.objective
            self.accelerator.free_memory()
            self.accelerator.end_training()

    def _advance(self, batches: Iterator[tuple[Any, int]]) -> dict[str, float]:
        """One optimizer step; returns the mean losses over all processes."""
        config, accelerator = self.config, self.accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.step)
        totals: dict[str, Tensor] = {}
        self.model.train()
        for _ in range(config.accumulation):
            batch, seed = next(batches)
            generator = torch.Generator(device="cpu").manual_seed(seed)
            with accelerator.accumulate(self.model):
                with accelerator.autocast():
                    losses = self.model(on_device(batch, accelerator.device), generator)
                accelerator.backward(losses["loss"])
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(self.model.parameters(), config.gradient_clip)
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
            for name, value in losses.items():
                totals[name] = totals.get(name, 0) + value.detach() / config.accumulation
        self.step += 1
        self._average()
        reduced: Any = accelerator.reduce(totals, reduction="mean")
        return {name: float(value) for name, value in reduced.items()}

    @torch.no_grad()
    def _average(self) -> None:
        if not self.config.ema:
            return
        keep = min(self.config.ema, self.step / (self.step + 10))
        for key, value in self._state().items():
            if value.is_floating_point():
                self.averaged[key].lerp_(value, 1 - keep)
            else:
                self.averaged[key].copy_(value)

    @torch.no_grad()
    def _with_averaged(self, use: Any) -> Any:
        """Call a function while the averaged weights are in place."""
        state = self._state() if self.config.ema else {}
        kept = {k: v.detach().clone() for k, v in state.items()}
        try:
            for key, value in state.items():
                value.copy_(self.averaged[key])
            return use(self.objective.eval())
        finally:
            for key, value in state.items():
                value.copy_(kept[key])

    def _validated(self) -> dict[str, Any]:
        every = self.config.validate_every
        if not every or self.step % every or not self.accelerator.is_main_process:
            return {}
        return {"validation": self._with_averaged(lambda network: network.validate(self.step))}

    def _write_log(self, entry: dict[str, Any]) -> None:
        flat = {k: v for k, v in entry.items() if isinstance(v, float)}
        flat |= {f"validation/{k}": v for k, v in entry.get("validation", {}).items()}
        self.accelerator.log(flat, step=self.step)
        if not self.accelerator.is_main_process:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", encoding="utf-8") as log:
            log.write(json.dumps({"step": self.step, **entry}) + "\n")
        logger.info("step %d: %s", self.step, ", ".join(f"{k} {v:.4f}" for k, v in flat.items()))

    def save(self) -> None:
        """Checkpoint and exported weights, each file whole or not at all."""
        if not self.accelerator.is_main_process:
            return
        state: dict[str, Any] = {
            "network": {k: v.detach() for k, v in self._state().items()},
            "averaged": self.averaged,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        if self.accelerator.scaler is not None:
            state["scaler"] = self.accelerator.scaler.state_dict()
        with atomic(self.checkpoint, overwrite=True) as file:
            torch.save(state, file)
        self._with_averaged(lambda network: network.export(self.folder))
        self.saved_step = self.step

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one.

        Raises:
            CheckpointError: If the checkpoint belongs to another network or run.
        """
        if not self.checkpoint.exists():
            return
        saved = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        state = self._state()
        wrong = sorted(
            k
            for k in state.keys() | saved["network"].keys()
            if k not in state
            or k not in saved["network"]
            or state[k].shape != saved["network"][k].shape
        )
        if wrong:
            raise CheckpointError(
                f"{self.checkpoint} belongs to another network: {', '.join(wrong[:4])} "
                f"({len(wrong)} in all) do not fit. Choose another output folder or remove it."
            )
        with torch.no_grad():
            for key, value in state.items():
                value.copy_(saved["network"][key])
                self.averaged[key].copy_(saved["averaged"][key])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.accelerator.scaler is not None and "scaler" in saved:
            self.accelerator.scaler.load_state_dict(saved["scaler"])
        self.step = self.saved_step = saved["step"]
        if self.accelerator.is_main_process and self.log.exists():
            self._forget_later_entries()

    def _forget_later_entries(self) -> None:
        """Entries after the checkpoint will be written again."""
        lines = self.log.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if json.loads(line)["step"] <= self.step]
        with atomic(self.log, overwrite=True) as file:
            file.write("".join(f"{line}\n" for line in kept).encode())
