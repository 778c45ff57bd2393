"""Trainings that write what a run directory holds, and train nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from simroot.data import ImageData, from_arrays
from simroot.models import model_entry
from simroot.training import Recipe, for_data, recipe
from simroot.training.run import create_run, make_config, read_config
from simroot.training.teacher import teacher_config
from simroot.trials.runs import Trial

MODEL = "nin_compact"


def images(count: int = 40) -> ImageData:
    pixels = torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return from_arrays(pixels, torch.arange(count) % 2, name="noise")


def usual(**changes: Any) -> Recipe:
    """The network's own recipe, changed."""
    return recipe(**{**model_entry(MODEL).recipe, **changes})


class Trainings:
    """Stands in for training: writes what a run directory holds, and keeps a list of what was asked for."""

    def __init__(self, data: ImageData) -> None:
        self.data = data
        self.asked: list[tuple[str, str]] = []
        self.stop = False

    def train(self, model: str, data: ImageData, chosen: Recipe, out: Path, **options: Any) -> Any:
        self.asked.append(("train", out.name))
        begin(
            out,
            data,
            Trial(model, chosen, options["overrides"], options["initial"], teacher=options["teacher"]),
            options["data_source"],
        )
        if self.stop:
            raise KeyboardInterrupt
        finish(out)
        return SimpleNamespace(path=out)

    def resume(self, out: Path, *, data: ImageData, **options: Any) -> Any:
        self.asked.append(("resume", out.name))
        assert len(data.train) == len(self.data.train)
        finish(out)
        return SimpleNamespace(path=out)


def begin(path: Path, data: ImageData, trial: Trial, source: Mapping[str, Any] | None = None) -> None:
    chosen = for_data(trial.recipe, data.named, data.image_size)
    taught = teacher_config(trial.teacher, None)
    create_run(path, make_config(trial.model, trial.overrides, data, source, chosen, {}, trial.initial, taught))


def finish(path: Path, accuracy: float = 0.5) -> None:
    config = read_config(path)
    used = config["recipe"]
    summary = {
        "model": config["model"]["name"],
        "overrides": config["model"]["overrides"],
        "seed": used["seed"],
        "epochs": used["epochs"],
        "accuracy": accuracy + 0.1,
        "last_accuracy": accuracy,
        "recipe": used,
        **dict.fromkeys(("parameters", "macs", "flops", "seconds"), 1),
        "versions": {},
        "commit": None,
    }
    curve = [accuracy + 0.1] * (used["epochs"] - 1) + [accuracy]
    lines = [f"{epoch},{value}" for epoch, value in enumerate(curve, start=1)]
    (path / "metrics.csv").write_text("\n".join(["epoch,val_accuracy", *lines, ""]))
    (path / "summary.json").write_text(json.dumps(summary))


def trial(seed: int = 0, **changes: Any) -> Trial:
    return Trial(MODEL, usual(epochs=2, seed=seed), **changes)
