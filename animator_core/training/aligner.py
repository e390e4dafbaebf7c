"""Training of the learned aligner on generated skeletons."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..checkpoints.writing import write_safetensors
from ..errors import CheckpointError, ConfigError
from ..interfaces import Monitor
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
from .loop import LoopConfig, Objective, micro_batch
from .loop import train as run_loop
from .settings import read_settings, read_toml

__all__ = [
    "AlignerObjective",
    "AlignerTrainingConfig",
    "CaseSource",
    "alignment_error",
    "evaluate",
    "load_training_config",
    "train",
]

WEIGHTS_FILE = "pose_aligner.safetensors"


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

    def loop(self) -> LoopConfig:
        """What this training has in common with all others."""
        shared = {field.name for field in fields(LoopConfig)} & {f.name for f in fields(self)}
        return LoopConfig(**{name: getattr(self, name) for name in shared}, workers=0, device="cpu")


def load_training_config(path: str | Path) -> AlignerTrainingConfig:
    """Read a TOML file whose keys are the fields of `AlignerTrainingConfig`.

    Raises:
        ConfigError: If the file is missing, is not TOML, or has unknown or wrong keys.
    """
    return read_settings(AlignerTrainingConfig, read_toml(path), source=path)


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


@dataclass(frozen=True)
class CaseSource:
    """Draws the cases of a step.

    Attributes:
        config: The run.
    """

    config: AlignerTrainingConfig

    def __call__(self, step: int, seed: int) -> AlignerCases:
        """Clips of one length, which is drawn from those of the run."""
        # the first micro-batch of a step has the stream that the shipped weights were trained on
        position = micro_batch(seed)
        rng = np.random.default_rng([self.config.seed, step, *([position] if position else [])])
        frames = int(rng.choice(self.config.frames))
        return make_cases(rng, self.config.batch, _with_frames(self.config.data, frames))


class AlignerObjective(Objective):
    """Errors of the predicted maps on generated cases.

    Args:
        config: The run.
    """

    def __init__(self, config: AlignerTrainingConfig) -> None:
        super().__init__()
        self.config = config
        torch.manual_seed(config.seed)
        self.network = PoseAligner(config.network())
        if config.initial:
            self.network.load_state_dict(_initial_weights(config))

    def forward(self, batch: AlignerCases, generator: torch.Generator) -> dict[str, Tensor]:
        """Logarithmic loss of the cases' errors."""
        del generator  # all chance is in the cases
        features = aligner_features(batch.pair, guided=self.config.guided)
        errors = _errors(self.network(network_inputs(features)), batch, features)
        return {"loss": torch.log1p(errors / self.config.error_scale).mean()}

    def validate(self, step: int) -> dict[str, float]:  # noqa: ARG002
        """Errors on cases that training does not see."""
        rng = np.random.default_rng([self.config.seed, 1, 2, 3])
        cases = make_cases(rng, self.config.validation_cases, self.config.data)
        errors = evaluate(self.network, cases)
        return {
            "median": float(np.median(errors)),
            "mean": float(errors.mean()),
            "p90": float(np.quantile(errors, 0.9)),
            "loss": float(np.log1p(errors / self.config.error_scale).mean()),
        }

    def export(self, folder: Path) -> None:
        """Write the weights, with the architecture in the header."""
        weights = {k: v.contiguous() for k, v in self.network.state_dict().items()}
        metadata = {"architecture": json.dumps(asdict(self.config.network()))}
        write_safetensors(folder / WEIGHTS_FILE, weights, metadata=metadata, overwrite=True)


def _with_frames(data: CaseConfig, frames: int) -> CaseConfig:
    return CaseConfig(**{**asdict(data), "frames": frames})


def train(
    config: AlignerTrainingConfig, stop_after: int | None = None, monitor: Monitor | None = None
) -> Path:
    """Train the aligner, going on from the output folder's checkpoint if there is one.

    Args:
        config: The run.
        stop_after: Stop at this step instead of the last; the run can be resumed.
        monitor: Sees the steps.

    Returns:
        The averaged weights (safetensors, with the architecture in the header).

    Raises:
        CheckpointError: If the checkpoint or the initial weights belong to another network.
    """
    objective, loop = AlignerObjective(config), config.loop()
    folder = run_loop(objective, CaseSource(config), loop, monitor=monitor, stop_after=stop_after)
    return folder / WEIGHTS_FILE
