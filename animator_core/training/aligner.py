"""Training of the learned aligner: a loop that can be killed at any moment and goes on exactly.

Batch n is drawn from a generator seeded with (seed, n), so nothing about the data needs saving.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from ..errors import CheckpointError, ConfigError
from ..models.pose_aligner import AlignerOutput, PoseAligner, PoseAlignerConfig
from ..pose.aligner_features import (
    CLIP_FEATURES,
    FRAME_FEATURES,
    JOINT_FEATURES,
    AlignerFeatures,
    aligner_features,
)
from ..pose.learned_fit import load_aligner, network_inputs, predict_maps
from .aligner_data import AlignerCases, CaseConfig, make_cases

__all__ = [
    "AlignerTrainingConfig",
    "alignment_error",
    "evaluate",
    "load_training_config",
    "train",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AlignerTrainingConfig:
    """One training run.

    Attributes:
        output: Folder for weights, checkpoint and log.
        initial: Weights to start from (safetensors of an earlier run); fresh ones if empty.
        seed: Decides weights and data.
        steps: Optimizer steps.
        batch: Clips a step.
        frames: A step's clip length is drawn from these.
        learning_rate: Peak of the schedule.
        warmup_steps: Linear rise.
        decay: Share of the steps, at the end, over which the rate falls to zero (cosine).
        weight_decay: AdamW's.
        gradient_clip: Largest gradient norm.
        ema: Decay of the averaged weights, which are the ones that are kept.
        error_scale: Error, in torso lengths, at which the loss turns from linear to logarithmic.
        checkpoint_every: Steps between checkpoints.
        validate_every: Steps between validations; 0 for none.
        validation_cases: Clips of a validation.
        threads: CPU threads; 0 leaves torch's choice.
        data: What the cases look like.
        dim: Token width.
        layers: Transformer layers.
        guided: Whether the network starts from the robust closed-form fit.
        weighted: Whether it predicts per-joint weights.
    """

    output: str
    initial: str = ""
    seed: int = 0
    steps: int = 8000
    batch: int = 64
    frames: tuple[int, ...] = (32, 32, 32, 48, 24, 16, 6, 1)
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    decay: float = 0.5
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    ema: float = 0.998
    error_scale: float = 0.05
    checkpoint_every: int = 200
    validate_every: int = 500
    validation_cases: int = 512
    threads: int = 0
    data: CaseConfig = field(default_factory=CaseConfig)
    dim: int = 128
    layers: int = 4
    guided: bool = True
    weighted: bool = True

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if not self.frames or min(self.frames) < 1:
            raise ConfigError(
                f"frames is {self.frames}; give one or more clip lengths of 1 or more."
            )

    def network(self) -> PoseAlignerConfig:
        """Architecture of this run's network."""
        return PoseAlignerConfig(
            frame_features=FRAME_FEATURES,
            joint_features=JOINT_FEATURES,
            clip_features=CLIP_FEATURES,
            dim=self.dim,
            layers=self.layers,
            guided=self.guided,
            weighted=self.weighted,
        )


def load_training_config(path: str | Path) -> AlignerTrainingConfig:
    """Read a TOML file whose keys are the fields of `AlignerTrainingConfig`.

    Raises:
        ConfigError: If the file is missing, is not TOML, or has unknown or wrong keys.
    """
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        import tomli as tomllib
    try:
        content: dict[str, Any] = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"The training settings {path} cannot be read: {error}.") from error
    data: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in content.pop("data", {}).items()
    }
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
    try:
        return AlignerTrainingConfig(**values, data=CaseConfig(**data))
    except TypeError as error:
        raise ConfigError(f"The training settings {path} do not fit: {error}.") from error


def _errors(output: AlignerOutput, cases: AlignerCases, features: AlignerFeatures) -> Tensor:
    """Mean distance of the visible joints to where they belong, in torso lengths, [B]."""
    column = (-1, 1, 1)
    first = features.factor.reshape(column) * cases.clean + features.shift.reshape(column)
    wanted = cases.factor.reshape(column) * cases.clean + cases.shift.reshape(column)
    origin, unit = features.origin.reshape(column), features.unit.reshape(column)
    start, goal = (
        torch.from_numpy(((z - origin) / unit).astype(np.complex64)) for z in (first, wanted)
    )
    factor = torch.complex(output.factor[:, 0], output.factor[:, 1])[:, None, None]
    shift = torch.complex(output.shift[:, 0], output.shift[:, 1])[:, None, None]
    squared = torch.view_as_real(factor * start + shift - goal).square().sum(-1)
    seen = torch.from_numpy((cases.pair.driving_confidence > 0).astype(np.float32))
    size = torch.from_numpy((features.unit / cases.torso).astype(np.float32))
    distance = (squared + 1e-8).sqrt() * seen
    return distance.sum((1, 2)) / seen.sum((1, 2)).clamp(min=1) * size


def alignment_error(cases: AlignerCases, factor: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Mean distance of the visible joints to where they belong, in torso lengths, [B]."""
    wrong = (factor - cases.factor)[:, None, None] * cases.clean
    distance = np.abs(wrong + (shift - cases.shift)[:, None, None])
    seen = cases.pair.driving_confidence > 0
    return (distance * seen).sum((1, 2)) / np.maximum(seen.sum((1, 2)), 1) / cases.torso


def evaluate(network: PoseAligner, cases: AlignerCases) -> np.ndarray:
    """Errors of the network's maps, in torso lengths, [B]."""
    features = aligner_features(cases.pair, guided=network.config.guided)
    return alignment_error(cases, *predict_maps(network.eval(), features))


def _rate(config: AlignerTrainingConfig, step: int) -> float:
    rise = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    start = config.steps * (1 - config.decay)
    fall = max(0.0, (step - start) / max(config.steps - start, 1))
    return config.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * fall))


def _write_whole(path: Path, write: Any) -> None:
    """Write beside the file and rename, so that a kill leaves the old file or the new one."""
    partial = path.with_name(path.name + ".part")
    write(partial)
    os.replace(partial, path)


def _initial_weights(config: AlignerTrainingConfig) -> dict[str, Tensor]:
    """Weights of an earlier run.

    Raises:
        CheckpointError: If they are missing or belong to another network.
    """
    earlier = load_aligner(Path(config.initial))
    if earlier.config != config.network():
        raise CheckpointError(
            f"The network in {config.initial} is {earlier.config} but this run's is "
            f"{config.network()}; give both runs the same settings."
        )
    return earlier.state_dict()


class _Run:
    """Network, averaged weights, optimizer and step of a run."""

    def __init__(self, config: AlignerTrainingConfig) -> None:
        self.config = config
        torch.manual_seed(config.seed)
        self.network = PoseAligner(config.network())
        if config.initial:
            self.network.load_state_dict(_initial_weights(config))
        self.averaged = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), betas=(0.9, 0.99), weight_decay=config.weight_decay
        )
        self.step = 0
        self.folder = Path(config.output)
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def log(self) -> Path:
        return self.folder / "log.jsonl"

    def advance(self) -> float:
        """One optimizer step; returns the loss."""
        config = self.config
        rng = np.random.default_rng([config.seed, self.step])
        frames = int(rng.choice(config.frames))
        cases = make_cases(rng, config.batch, _with_frames(config.data, frames))
        features = aligner_features(cases.pair, guided=config.guided)
        self.network.train()
        errors = _errors(self.network(network_inputs(features)), cases, features)
        loss = torch.log1p(errors / config.error_scale).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.gradient_clip)
        for group in self.optimizer.param_groups:
            group["lr"] = _rate(config, self.step)
        self.optimizer.step()
        self.step += 1
        keep = min(config.ema, self.step / (self.step + 10))
        for key, value in self.network.state_dict().items():
            self.averaged[key].lerp_(value, 1 - keep)
        return float(loss.detach())

    def save(self) -> None:
        """Checkpoint and averaged weights, each whole or not at all."""
        state = {
            "network": self.network.state_dict(),
            "averaged": self.averaged,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        _write_whole(self.checkpoint, lambda path: torch.save(state, path))
        weights = {k: v.contiguous() for k, v in self.averaged.items()}
        architecture = json.dumps(asdict(self.config.network()))
        metadata = {"architecture": architecture, "step": str(self.step)}
        _write_whole(
            self.folder / "pose_aligner.safetensors",
            lambda path: save_file(weights, path, metadata),
        )

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one.

        Raises:
            CheckpointError: If the checkpoint belongs to another network.
        """
        if not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, weights_only=True)
        try:
            self.network.load_state_dict(state["network"])
        except RuntimeError as error:
            raise CheckpointError(
                f"{self.checkpoint} belongs to another network; choose another output folder or "
                f"remove it: {error}."
            ) from error
        self.averaged = state["averaged"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        if self.log.exists():  # entries after the checkpoint will be written again
            lines = self.log.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if json.loads(line)["step"] <= self.step]
            text = "".join(f"{line}\n" for line in kept)
            _write_whole(self.log, lambda path: path.write_text(text, encoding="utf-8"))

    def validate(self) -> dict[str, float]:
        """Errors of the averaged weights on cases that training does not see."""
        network = PoseAligner(self.config.network())
        network.load_state_dict(self.averaged)
        rng = np.random.default_rng([self.config.seed, 1, 2, 3])
        errors = evaluate(network, make_cases(rng, self.config.validation_cases, self.config.data))
        return {
            "median": float(np.median(errors)),
            "mean": float(errors.mean()),
            "p90": float(np.quantile(errors, 0.9)),
            "loss": float(np.log1p(errors / self.config.error_scale).mean()),
        }


def _with_frames(data: CaseConfig, frames: int) -> CaseConfig:
    return CaseConfig(**{**asdict(data), "frames": frames})


def train(config: AlignerTrainingConfig, stop_after: int | None = None) -> Path:
    """Train the aligner, going on from the output folder's checkpoint if there is one.

    Args:
        config: The run.
        stop_after: Stop at this step instead of the last; the run can be resumed.

    Returns:
        The averaged weights (safetensors, with the architecture in the header).
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    run = _Run(config)
    run.resume()
    last = config.steps if stop_after is None else min(stop_after, config.steps)
    losses: list[float] = []
    started = time.monotonic()
    while run.step < last:
        losses.append(run.advance())
        entry: dict[str, Any] = {}
        if config.validate_every and run.step % config.validate_every == 0:
            entry["validation"] = run.validate()
        if run.step % config.checkpoint_every == 0 or run.step == last:
            entry |= {"step": run.step, "train_loss": float(np.mean(losses))}
            entry["learning_rate"] = _rate(config, run.step - 1)
            entry["seconds"] = round(time.monotonic() - started, 1)
            with run.log.open("a", encoding="utf-8") as log:
                log.write(json.dumps(entry) + "\n")
            run.save()
            logger.info("Aligner training, step %d: loss %.4f", run.step, entry["train_loss"])
            losses.clear()
    return run.folder / "pose_aligner.safetensors"
