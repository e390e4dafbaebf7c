from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from animator_core.cli import main
from animator_core.commands.training import _TASKS
from animator_core.errors import ConfigError
from animator_core.training import vae
from animator_core.training.aligner import AlignerTrainingConfig
from animator_core.training.animation_config import AnimationTrainingConfig
from animator_core.training.family import FamilyConfig
from animator_core.training.loop import LoopConfig, Objective
from animator_core.training.settings import read_settings, read_toml
from animator_core.training.tasks import TrainingTask

REPO = Path(__file__).resolve().parents[2]
_CONFIGS = {"animation": AnimationTrainingConfig, "family": FamilyConfig}  # not of the shared loop


@dataclass(frozen=True, kw_only=True)
class LineConfig:
    loop: LoopConfig
    slope: float = 2.0


class LineObjective(Objective):
    def __init__(self, config: LineConfig) -> None:
        super().__init__()
        self.line = nn.Linear(1, 1)
        self.slope = config.slope

    def forward(self, batch: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        del generator
        return {"loss": (self.line(batch) - self.slope * batch).square().mean()}

    def validate(self, step: int) -> dict[str, float]:
        return {"step": float(step)}

    def export(self, folder: Path) -> None:
        torch.save(self.line.state_dict(), folder / "line.pt")


def points(step: int, seed: int) -> Tensor:
    return torch.rand(4, 1, generator=torch.Generator().manual_seed(step + seed))


TASK = TrainingTask(LineConfig, LineObjective, lambda config: points)


def test_a_task_trains_and_goes_on(tmp_path):
    tables = {"loop": {"output": str(tmp_path), "steps": 2, "workers": 0, "ema": 0.0}}
    assert TASK(tables, "here") == tmp_path
    written = torch.load(tmp_path / "line.pt", weights_only=True)
    assert set(written) == {"weight", "bias"}
    checkpoint = (tmp_path / "checkpoint.pt").stat().st_mtime_ns
    assert TASK(tables, "here") == tmp_path  # nothing is left to do
    assert (tmp_path / "checkpoint.pt").stat().st_mtime_ns == checkpoint


def test_a_task_refuses_settings_that_it_does_not_know(tmp_path):
    with pytest.raises(ConfigError, match=r"here has speed.*loop, slope"):
        TASK({"loop": {"output": str(tmp_path)}, "speed": 1}, "here")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", _TASKS)
def test_every_task_can_be_run_and_has_a_settings_file(name):
    module, attribute = _TASKS[name]
    assert callable(getattr(importlib.import_module(f"animator_core.training.{module}"), attribute))
    assert read_toml(REPO / "configs" / f"{name}.toml")["task"] == name


@pytest.mark.parametrize("path", sorted((REPO / "configs").glob("*.toml")), ids=lambda p: p.stem)
def test_every_settings_file_is_valid(path):
    content = read_toml(path)
    name = content.pop("task", None)
    if name is None:  # the aligner has a command of its own
        read_settings(AlignerTrainingConfig, content, source=path)
        return
    module, attribute = _TASKS[name]
    task = getattr(importlib.import_module(f"animator_core.training.{module}"), attribute)
    config = _CONFIGS[name] if name in _CONFIGS else task.config
    read_settings(config, content, source=path)


def test_the_command_runs_the_task_of_the_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(vae, "TASK", TASK)
    settings = tmp_path / "line.toml"
    run = tmp_path / "run"
    settings.write_text(
        f'task = "vae"\n[loop]\noutput = {str(run)!r}\nsteps = 3\nworkers = 0\nema = 0.0\n'
    )
    assert main(["train", "--quiet", str(settings), "--stop-after", "1"]) == 0
    assert torch.load(run / "checkpoint.pt", weights_only=True)["step"] == 1
    assert main(["train", "--quiet", str(settings)]) == 0
    assert torch.load(run / "checkpoint.pt", weights_only=True)["step"] == 3
    assert capsys.readouterr().out.strip() == str(run)


def test_an_unknown_task_is_refused_before_any_training_is_imported(tmp_path):
    settings = tmp_path / "settings.toml"
    settings.write_text('task = "dance"\n')
    code = (
        "import sys\nfrom animator_core.cli import main\n"
        f"assert main(['train', {str(settings)!r}]) != 0\n"
        "print(*(m for m in sys.modules if m.startswith('animator_core.training.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["animator_core.training.settings"], done.stderr
    assert "'dance'" in done.stderr
    assert "face_detector" in done.stderr
