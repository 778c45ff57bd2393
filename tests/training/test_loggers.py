"""Loggers of Lightning's by name."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger, Logger

from simroot.data import ImageData
from simroot.errors import ConfigError
from simroot.training import TrainingInterrupted, loggers, resume, train
from simroot.training.fit import StopTraining
from training.support import QUICK

OPTIONS: dict[str, Any] = {"accelerator": "cpu", "progress": False}


class Remembers(Logger):
    """A logger of the user's own."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__()
        self.rows: dict[int, Mapping[str, float]] = {}
        self.recipe: dict[str, Any] = {}
        self.stop_after = stop_after

    name, version = "remembers", 0

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        assert step is not None
        self.rows[step] = metrics
        if step == self.stop_after:
            raise StopTraining

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.recipe = dict(params)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_they_get_what_metrics_csv_gets(data: ImageData, out: Path) -> None:
    own = Remembers()
    train("tiny", data, QUICK, out, logger=["csv", own, "csv"], **OPTIONS)
    expected, found = rows(out / "metrics.csv"), rows(out / "logs" / "csv" / "version_0" / "metrics.csv")
    assert [row["epoch"] for row in found] == ["1", "2", "3"]
    for ours, theirs in zip(expected, found, strict=True):
        assert {name: float(theirs[name]) for name in ours} == pytest.approx(
            {name: float(value) for name, value in ours.items()}, rel=1e-6
        )
    assert sorted(own.rows) == [1, 2, 3]
    assert own.recipe["learning_rate"] == "0.05"


def test_a_resumption_goes_on_telling(data: ImageData, out: Path) -> None:
    with pytest.raises(TrainingInterrupted):
        train("tiny", data, QUICK, out, logger=Remembers(stop_after=1), **OPTIONS)
    own = Remembers()
    resume(out, data=data, logger=[own], **OPTIONS)
    assert sorted(own.rows) == [2, 3]


def test_what_is_missing_is_said_before_anything_starts(
    data: ImageData, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    for name, package in (("tensorboard", "tensorboard"), ("wandb", "wandb"), ("comet", "comet-ml")):
        with pytest.raises(ConfigError, match=f"the logger {name} needs a package: pip install {package}$"):
            train("tiny", data, QUICK, out, logger=name, **OPTIONS)
    with pytest.raises(ConfigError, match=r"there is no logger 'tensorbord'; did you mean tensorboard\?"):
        train("tiny", data, QUICK, out, logger="tensorbord", **OPTIONS)
    assert not out.exists()


def test_one_that_does_not_start_is_said(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise ValueError("no account\nmore")

    monkeypatch.setattr(CSVLogger, "__init__", refuse)
    with pytest.raises(ConfigError, match=r"the logger csv does not start: no account$"):
        loggers.make_loggers("csv", out)


def test_every_name_is_one_of_lightnings() -> None:
    import lightning.pytorch.loggers as known

    assert {kind for kind, _ in loggers._KNOWN.values()} == set(known.__all__) - {"Logger"}


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="TensorBoard is not installed")
def test_tensorboard_reads_the_files(data: ImageData, out: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train("tiny", data, QUICK, out, logger="tensorboard", **OPTIONS)
    found = EventAccumulator(str(out / "logs" / "tensorboard")).Reload()
    assert [each.step for each in found.Scalars("val_accuracy")] == [1, 2, 3]
