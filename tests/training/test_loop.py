"""The training loop: exact to resume, cancelled without loss, strict about checkpoints."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from animator_core.errors import CancelledError, CheckpointError, ConfigError, DependencyError
from animator_core.interfaces import SilentMonitor
from animator_core.training.loop import LoopConfig, Objective, learning_rate, train
from animator_core.training.settings import read_settings, read_toml


@dataclass(frozen=True)
class Line:
    """Points of y = 3x - 1."""

    batch: int = 8

    def __call__(self, step, seed):
        x = torch.randn(self.batch, 1, generator=torch.Generator().manual_seed(seed))
        return {"x": x, "y": 3 * x - 1}


class Fit(Objective):
    def __init__(self, width=4):
        super().__init__()
        torch.manual_seed(0)
        self.frozen = nn.Linear(1, 1).requires_grad_(False)
        self.network = nn.Sequential(
            nn.Linear(1, width), nn.BatchNorm1d(width), nn.Linear(width, 1)
        )
        self.exported = 0

    def forward(self, batch, generator):
        noise = 0.01 * torch.randn(batch["y"].shape, generator=generator)
        error = (self.network(batch["x"]) - batch["y"] - noise).square().mean()
        return {"loss": error, "root": error.detach().sqrt()}

    def validate(self, step):
        with torch.no_grad():
            return {"at_zero": float(self.network(torch.zeros(1, 1)))}

    def export(self, folder):
        self.exported += 1
        folder.mkdir(parents=True, exist_ok=True)
        state = {k: v.clone() for k, v in self.network.state_dict().items()}
        save_file(state, folder / "fit.safetensors")


class StopAt(SilentMonitor):
    def __init__(self, step):
        self.last, self.seen = step, 0

    def update(self, progress):
        self.seen = progress.done

    def raise_if_cancelled(self):
        if self.seen >= self.last:
            raise CancelledError("Stopped.")


def config_in(folder, **changes):
    settings = {"steps": 12, "checkpoint_every": 5, "warmup_steps": 2, "workers": 0, "ema": 0.9}
    return LoopConfig(output=str(folder), **{**settings, **changes})


def weights(folder):
    return load_file(Path(folder) / "fit.safetensors")


def test_three_stops_change_nothing(tmp_path):
    whole = config_in(tmp_path / "whole", validate_every=4)
    train(Fit(), Line(), whole)
    broken = replace(whole, output=str(tmp_path / "broken"))
    for last in (2, 7, 8, None):
        train(Fit(), Line(), broken, stop_after=last)
    ours, theirs = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    logs = [
        [json.loads(x) for x in (tmp_path / n / "log.jsonl").read_text().splitlines()]
        for n in ("whole", "broken")
    ]
    assert [e["step"] for e in logs[0]] == [4, 5, 8, 10, 12]
    last = [{k: v for k, v in entries[-1].items() if k != "seconds"} for entries in logs]
    assert last[0] == last[1]
    assert logs[0][0]["validation"] == logs[1][1]["validation"]


def test_a_kill_after_the_checkpoint_repeats_the_same_steps(tmp_path):
    config = config_in(tmp_path / "a")
    train(Fit(), Line(), config, stop_after=5)
    checkpoint = (tmp_path / "a/checkpoint.pt").read_bytes()
    train(Fit(), Line(), config, stop_after=9)
    (tmp_path / "a/checkpoint.pt").write_bytes(checkpoint)  # as if killed before the next save
    train(Fit(), Line(), config)
    train(Fit(), Line(), config_in(tmp_path / "b"))
    assert all(
        torch.equal(v, weights(tmp_path / "b")[k]) for k, v in weights(tmp_path / "a").items()
    )
    steps = [json.loads(x)["step"] for x in (tmp_path / "a/log.jsonl").read_text().splitlines()]
    assert steps == [5, 10, 12]


def test_worker_processes_draw_the_same_numbers(tmp_path):
    train(Fit(), Line(), config_in(tmp_path / "a", steps=3))
    train(Fit(), Line(), config_in(tmp_path / "b", steps=3, workers=2))
    assert all(
        torch.equal(v, weights(tmp_path / "b")[k]) for k, v in weights(tmp_path / "a").items()
    )


def test_accumulation_is_the_mean_over_micro_batches(tmp_path):
    """The first step's gradient of 4 micro-batches equals that of their union."""

    class Union(Line):
        def __call__(self, step, seed):
            base = seed - seed % (1 << 16)
            parts = [Line()(step, base + i) for i in range(4)]
            return {k: torch.cat([p[k] for p in parts]) for k in ("x", "y")}

    class Plain(Fit):
        def __init__(self):
            super().__init__()
            self.network = nn.Linear(1, 1)

        def forward(self, batch, generator):
            return {"loss": (self.network(batch["x"]) - batch["y"]).square().mean()}

    settings = {"steps": 1, "ema": 0.0}
    for name, source, accumulation in (("a", Line(), 4), ("b", Union(), 1)):
        config = config_in(tmp_path / name, accumulation=accumulation, **settings)
        train(Plain(), source, config)
    first, second = weights(tmp_path / "a"), weights(tmp_path / "b")
    torch.testing.assert_close(first, second)


def test_cancel_saves_and_goes_on(tmp_path):
    config = config_in(tmp_path / "a")
    with pytest.raises(CancelledError):
        train(Fit(), Line(), config, monitor=StopAt(7))
    saved = torch.load(tmp_path / "a/checkpoint.pt", weights_only=True)
    assert saved["step"] == 7
    train(Fit(), Line(), config)
    train(Fit(), Line(), config_in(tmp_path / "b"))
    assert all(
        torch.equal(v, weights(tmp_path / "b")[k]) for k, v in weights(tmp_path / "a").items()
    )


def test_frozen_parts_stay_and_are_not_saved(tmp_path):
    objective = Fit()
    before = objective.frozen.weight.clone()
    train(objective, Line(), config_in(tmp_path))
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert torch.equal(objective.frozen.weight, before)
    assert not any(name.startswith("frozen") for name in saved["network"])
    assert any("running_mean" in name for name in saved["network"])


def test_loss_falls(tmp_path):
    config = config_in(tmp_path, steps=150, learning_rate=0.1, checkpoint_every=50)
    train(Fit(width=8), Line(32), config)
    entries = [json.loads(x) for x in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert entries[-1]["loss"] < 0.6 * entries[0]["loss"]


def test_another_network_s_checkpoint_is_refused(tmp_path):
    train(Fit(), Line(), config_in(tmp_path), stop_after=2)
    with pytest.raises(CheckpointError, match="belongs to another network"):
        train(Fit(width=5), Line(), config_in(tmp_path))


def test_nothing_to_train(tmp_path):
    with pytest.raises(ConfigError, match="Nothing is to be trained"):
        train(Fit().requires_grad_(False), Line(), config_in(tmp_path))


def test_a_finished_run_does_nothing(tmp_path):
    train(Fit(), Line(), config_in(tmp_path))
    objective = Fit()
    train(objective, Line(), config_in(tmp_path))
    assert objective.exported == 0


def test_missing_packages_are_named(tmp_path):
    with pytest.raises(DependencyError, match="adamw8bit"):
        train(Fit(), Line(), config_in(tmp_path, optimizer="adamw8bit"))
    with pytest.raises(DependencyError, match="tracker"):
        train(Fit(), Line(), config_in(tmp_path, tracker="nosuchtracker"))


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"accumulation": 0}, {"optimizer": "sgd"}, {"precision": "fp8"}, {"ema": 1}],
)
def test_bad_settings(tmp_path, wrong):
    with pytest.raises(ConfigError):
        config_in(tmp_path, **wrong)


def test_learning_rate_rises_stays_and_falls(tmp_path):
    config = config_in(tmp_path, steps=100, warmup_steps=10, decay=0.5, learning_rate=1.0)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:51] == [1.0] * 41
    assert rates[-1] < 0.01
    assert sorted(rates[50:], reverse=True) == rates[50:]


@dataclass(frozen=True, kw_only=True)
class Outer:
    loop: LoopConfig
    widths: tuple[int, ...] = (1,)


def test_settings_from_toml(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('widths = [1, 2]\n[loop]\noutput = "x"\nsteps = 3\nbetas = [0.5, 0.6]\n')
    settings = read_settings(Outer, read_toml(path), source=path)
    assert settings == Outer(loop=LoopConfig(output="x", steps=3, betas=(0.5, 0.6)), widths=(1, 2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("width = 3", "width, which Outer does not know"),
        ("[loop]\nspeed = 3", "table loop has speed"),
        ("widths = [1]", "loop"),
        ("widths = [", "cannot be read"),
    ],
)
def test_bad_toml(tmp_path, text, message):
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_settings(Outer, read_toml(path), source=path)


def test_missing_toml(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_toml(tmp_path / "none.toml")
