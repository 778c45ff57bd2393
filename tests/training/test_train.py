import csv
import errno
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from simroot.data import ImageData, from_arrays, loader
from simroot.errors import ConfigError, TrainingError
from simroot.measure import count
from simroot.models import create_model, model_entry
from simroot.training import Run, TrainingInterrupted, load_run, recipe, schedule_factor, train
from simroot.training.environment import commit, versions
from simroot.training.module import ClassificationModule
from simroot.training.recipes import Optimizer
from training.conftest import Install
from training.support import QUICK, reference_training, tiny_network

FILES = {
    "best.ckpt",
    "images.safetensors",
    "kept.safetensors",
    "config.yaml",
    "confusion.png",
    "curves.png",
    "last.ckpt",
    "metrics.csv",
    "model.safetensors",
    "summary.json",
    "train.log",
}


def weights(path: Path, which: str = "last") -> dict[str, torch.Tensor]:
    return load_run(path, which).model.state_dict()


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def rows(path: Path) -> list[dict[str, float]]:
    with (path / "metrics.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def quick(data: ImageData, out: Path, **changes: object) -> Run:
    chosen = recipe(**{**QUICK.to_dict(), **changes})
    return train("tiny", data, chosen, out, accelerator="cpu", progress=False)


@pytest.mark.parametrize(("norm", "noise", "clip"), [(False, 0.0, None), (True, 0.1, 0.5)])
def test_gives_the_weights_and_figures_of_a_plain_loop(
    data: ImageData, out: Path, norm: bool, noise: float, clip: float | None
) -> None:
    chosen = recipe(**{**QUICK.to_dict(), "clip_norm": clip})
    overrides = {"norm": norm, "noise": noise}
    train("tiny", data, chosen, out, overrides=overrides, accelerator="cpu", progress=False)
    torch.manual_seed(chosen.seed)
    model = tiny_network(3, 3, image_size=8, norm=norm, noise=noise)
    steps = len(data.train) // chosen.batch_size
    rates = [chosen.learning_rate * schedule_factor(chosen, step, steps) for step in range(chosen.epochs * steps)]
    losses = reference_training(model, data, chosen, rates)

    assert_same(weights(out), model.state_dict())
    found = rows(out)
    assert [row["epoch"] for row in found] == [1, 2, 3]
    assert [row["train_loss"] for row in found] == pytest.approx(losses, rel=1e-6)
    model.eval()
    batches = loader(data.val, len(data.val), mean=data.mean, std=data.std, train=False)
    ((images, labels),) = batches
    with torch.no_grad():
        scores = model(images)
    assert found[-1]["val_loss"] == pytest.approx(float(nn.functional.cross_entropy(scores, labels)), rel=1e-5)
    assert found[-1]["val_accuracy"] == pytest.approx(float((scores.argmax(1) == labels).float().mean()))


def test_leaves_everything_in_the_run_directory(data: ImageData, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(out.parent)
    run = train("tiny", data, QUICK, out, accelerator="cpu", progress=False)
    assert {path.name for path in out.iterdir()} == FILES
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    summary = json.loads((out / "summary.json").read_text())
    assert run.summary == summary
    best = max(rows(out), key=lambda row: row["val_accuracy"])
    assert summary["best_epoch"] == best["epoch"]
    assert summary["accuracy"] == pytest.approx(best["val_accuracy"])
    assert summary["loss"] == pytest.approx(best["val_loss"], rel=1e-5)
    assert summary["last_accuracy"] == pytest.approx(rows(out)[-1]["val_accuracy"])
    cost = count(tiny_network(3, 3, image_size=8), (3, 8, 8))
    assert {key: summary[key] for key in ("parameters", "macs", "flops")} == {
        "parameters": cost.parameters,
        "macs": cost.macs,
        "flops": cost.flops,
    }
    assert summary["seconds"] == pytest.approx(sum(row["seconds"] for row in rows(out)), rel=1e-5)
    assert (summary["data"]["train"], summary["data"]["val"]) == (len(data.train), len(data.val))
    assert summary["versions"] == versions()
    assert summary["recipe"]["shift"] == 1
    assert run.classes == data.classes
    assert run.recipe == QUICK
    assert not run.model.training
    assert "epoch 3/3" in (out / "train.log").read_text()


def test_a_run_has_the_cost_of_the_table(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simroot.training.run.create_model", create_model)
    entry = model_entry("simnet_mixed")
    pixels = torch.randint(256, (30, *entry.input_size), dtype=torch.uint8)
    data = from_arrays(pixels, torch.arange(30) % entry.num_classes, validation=10)
    run = train(entry.name, data, recipe(epochs=1, batch_size=10), out, accelerator="cpu", progress=False)
    assert entry.parameters is not None
    assert (run.summary["parameters"], run.summary["macs"]) == (entry.parameters, entry.macs)
    assert sum(parameter.numel() for parameter in run.model.parameters()) > entry.parameters  # norms fold away


def test_a_network_that_cannot_be_counted_is_trained(
    data: ImageData, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Sorted(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sort(1).values

    def build(*_: object, **__: object) -> nn.Module:
        return nn.Sequential(nn.Flatten(), Sorted(), nn.Linear(3 * 8 * 8, 3))

    monkeypatch.setattr("simroot.training.run.create_model", build)
    run = quick(data, out, epochs=1)
    assert {name: run.summary[name] for name in ("parameters", "macs", "flops")} == {
        "parameters": 579,
        "macs": None,
        "flops": None,
    }
    assert "does not say what the network costs" in (out / "train.log").read_text()


def test_same_seed_same_bits_whatever_the_global_generator(data: ImageData, tmp_path: Path) -> None:
    quick(data, tmp_path / "a")
    torch.manual_seed(77)
    before = torch.get_rng_state()
    quick(data, tmp_path / "b")
    assert torch.equal(torch.get_rng_state(), before)
    quick(data, tmp_path / "c", seed=1)
    assert_same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not torch.equal(weights(tmp_path / "a")["0.weight"], weights(tmp_path / "c")["0.weight"])


def test_best_weights_are_those_of_the_best_epoch(data: ImageData, out: Path, at_batch: Install) -> None:
    # Three batches an epoch; after the first epoch the labels are learned the wrong way round.
    at_batch(lambda number: 1.0 if number <= 3 else -1.0)
    run = quick(data, out, learning_rate=0.2, schedule="constant", epochs=3)
    assert run.summary["best_epoch"] == 1
    assert run.summary["last_accuracy"] < run.summary["accuracy"]
    assert not torch.equal(weights(out, "best")["0.weight"], weights(out, "last")["0.weight"])


def test_shift_and_mirror_are_chosen_by_the_data(data: ImageData, out: Path) -> None:
    from dataclasses import replace

    run = quick(replace(data, named="digits"), out, shift=None, mirror=None, epochs=1)
    assert (run.recipe.shift, run.recipe.mirror) == (1, False)
    other = quick(data, out.with_name("other"), shift=None, mirror=None, epochs=1)
    assert (other.recipe.shift, other.recipe.mirror) == (1, True)


@pytest.mark.slow
def test_bfloat16_and_adamw_learn(data: ImageData, out: Path) -> None:
    run = quick(data, out, precision="bf16", optimizer="adamw", learning_rate=0.01, label_smoothing=0.1, epochs=25)
    assert run.summary["accuracy"] > 0.6
    assert all(tensor.dtype == torch.float32 for tensor in run.model.parameters())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_bfloat16_with_clipped_gradients(data: ImageData, out: Path, optimizer: Optimizer) -> None:
    run = quick(data, out, precision="bf16", optimizer=optimizer, clip_norm=1.0, epochs=2)
    assert run.summary["epochs"] == 2


def test_what_is_refused_before_the_first_step_leaves_the_directory_free(data: ImageData, out: Path) -> None:
    with pytest.raises(ConfigError, match="Lightning cannot train with accelerator abacus"):
        train("tiny", data, QUICK, out, accelerator="abacus", progress=False)
    with pytest.raises(ConfigError, match="shift is 8; expected less than the image size, 8 pixels"):
        quick(data, out, shift=8)
    assert not (out / "config.yaml").exists()
    quick(data, out, epochs=1)


def test_refuses_a_directory_that_holds_a_run(data: ImageData, out: Path) -> None:
    quick(data, out, epochs=1)
    before = (out / "metrics.csv").read_bytes()
    with pytest.raises(ConfigError, match=rf"{out} holds a run already .*--resume {out} or choose another --out"):
        quick(data, out, epochs=1)
    assert (out / "metrics.csv").read_bytes() == before
    with pytest.raises(ConfigError, match="is a file"):
        quick(data, out / "metrics.csv")


def test_wrong_overrides_leave_no_directory(data: ImageData, out: Path) -> None:
    with pytest.raises(ConfigError, match="plain values"):
        train("tiny", data, QUICK, out, data_source={"name_or_path": object()}, progress=False)
    assert not out.exists()


@pytest.mark.parametrize("number", [5, 6])  # in the middle of the second epoch, and its last step
def test_a_loss_that_is_not_finite_stops_at_once(data: ImageData, out: Path, at_batch: Install, number: int) -> None:
    seen = []

    def action(count: int) -> float:
        seen.append(count)
        return float("nan") if count == number else 1.0

    at_batch(action)
    with pytest.raises(TrainingError, match=rf"loss is nan in epoch 2, step {number - 3}; .*learning_rate.*clip_norm"):
        quick(data, out)
    assert seen[-1] == number
    assert len(rows(out)) == 1
    assert all(tensor.isfinite().all() for tensor in weights(out).values())


def test_weights_that_are_not_finite_are_not_kept(data: ImageData, out: Path) -> None:
    # The loss of the only step is finite, what the step makes of the weights is not.
    with pytest.raises(TrainingError, match="validation loss is nan after epoch 1"):
        quick(data, out, epochs=1, batch_size=48, schedule="constant", warmup=0.0, learning_rate=1e38)
    assert not (out / "last.ckpt").exists()


def test_a_network_that_is_dead_behind_a_finite_loss_is_not_kept(
    data: ImageData, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A similarity takes NaN for a missing coordinate, so that filters of NaN may go with a loss of log(classes)."""

    before = ClassificationModule.on_train_epoch_end

    def epoch_end(module: ClassificationModule) -> None:
        next(module.model.parameters()).data.fill_(float("nan"))
        before(module)

    monkeypatch.setattr(ClassificationModule, "on_train_epoch_end", epoch_end)
    with pytest.raises(TrainingError, match=r"0\.weight is not finite after epoch 1; .*learning_rate"):
        quick(data, out)
    assert not (out / "last.ckpt").exists()


def test_full_disk_is_told_and_leaves_the_last_checkpoint(
    data: ImageData, out: Path, at_batch: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def action(count: int) -> float:
        if count == 4:  # the first epoch is complete
            monkeypatch.setattr("os.fsync", full)
        return 1.0

    at_batch(action)
    with pytest.raises(TrainingError, match=r"cannot write .*: No space left on device; .*make room"):
        quick(data, out)
    assert len(rows(out)) == 1
    assert not [path for path in out.iterdir() if path.suffix == ".tmp"]
    weights(out)


@pytest.fixture
def _signals_as_on_a_terminal() -> Iterator[None]:
    """A shell starts background jobs with Ctrl-C ignored, and Python leaves it so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_signals_as_on_a_terminal")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_signals_end_with_the_command_that_goes_on(data: ImageData, out: Path, at_batch: Install, name: str) -> None:
    def action(count: int) -> float:
        if count == 5:
            signal.raise_signal(getattr(signal, name))
        return 1.0

    at_batch(action)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(TrainingInterrupted, match=rf"{name} in epoch 2 of 3.*simroot train --resume {out}") as caught:
        quick(data, out)
    assert (caught.value.path, caught.value.signal) == (out, name)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert len(rows(out)) == 1
    assert not (out / "summary.json").exists()


def test_signals_of_others_are_left_alone(data: ImageData, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python does not know the handlers of C code, faulthandler's for one: to set them "back" takes them away."""
    put, touched = signal.signal, set[int]()

    def seen(number: int, handler: Any) -> Any:
        touched.add(number)
        return put(number, handler)

    monkeypatch.setattr("signal.signal", seen)
    quick(data, out, epochs=1)
    assert touched == {signal.SIGTERM}


def test_a_line_per_epoch_away_from_a_terminal(data: ImageData, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train("tiny", data, QUICK, out, accelerator="cpu")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [line.split(":")[0] for line in captured.err.splitlines() if line.startswith("epoch ")] == [
        "epoch 1/3",
        "epoch 2/3",
        "epoch 3/3",
    ]


def test_a_bar_on_a_terminal(
    data: ImageData, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "simroot.training.fit.Console", lambda **options: Console(**options, force_terminal=True, width=100)
    )
    train("tiny", data, QUICK, out, accelerator="cpu")
    shown = capsys.readouterr().err
    assert "epoch 3/3" in shown
    assert "validation accuracy" in shown
    assert "training loss" not in shown


def test_switches_are_put_back(data: ImageData, out: Path) -> None:
    quick(data, out, epochs=1)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]


def test_commit_is_a_hash_or_none() -> None:
    found = commit()
    assert found is None or len(found) == 40
