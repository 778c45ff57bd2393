"""Training in integers: from a run to a run that loses less, and is exported as it was trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from simroot.data import ImageData
from simroot.engines.host import channels_last, compiler
from simroot.errors import CheckpointError, ConfigError, DataError
from simroot.export import to_c
from simroot.export.c import whole
from simroot.training import Run, TrainingInterrupted, export_options, load_run, quantise, resume, train
from simroot.training.fit import StopTraining
from simroot.training.integers import open_integers
from training.support import QUICK, small_data
from training.test_train import assert_same, weights

LOUD = 300.0


class Uneven(nn.Module):
    """Two branches side by side, one of them louder by far: 8 bits for both hold little of the other one."""

    loudness: Tensor

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.loud, self.quiet = (nn.Conv2d(in_channels, 8, 3, padding=1) for _ in range(2))
        self.norm, self.dense = nn.BatchNorm2d(8), nn.Linear(16 * 4, num_classes)
        self.register_buffer("loudness", torch.tensor([LOUD] * 8 + [1.0] * 8).view(16, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat((self.loud(x).relu() * LOUD, self.norm(self.quiet(x)).relu()), 1)
        return self.dense((nn.functional.adaptive_avg_pool2d(both, 2) / self.loudness).flatten(1))


@pytest.fixture(autouse=True)
def _uneven(_tiny_networks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def create(name: str, num_classes: int, in_channels: int, **overrides: Any) -> nn.Module:
        return Uneven(num_classes, in_channels)

    monkeypatch.setattr("simroot.training.run.create_model", create)


@pytest.fixture
def trained(data: ImageData, tmp_path: Path) -> Run:
    recipe = replace(QUICK, epochs=6, learning_rate=0.2)
    return train("tiny", data, recipe, tmp_path / "float", accelerator="cpu", progress=False)


def go_on(run: Run, data: ImageData, out: Path, **options: Any) -> Run:
    words = {"epochs": 4, "learning_rate": 0.1, **options}
    return quantise(run.path, out, data=data, accelerator="cpu", progress=False, **words)


def in_integers(run: Run, data: ImageData) -> tuple[float, float, np.ndarray]:
    """Loss, accuracy and scores on the validation images, by what the export writes with the run's ranges."""
    begun = bool(run.config.get("integers"))
    integers = open_integers(run.path, run.model, data, run.recipe, begun=begun)
    pixels = data.val.read(torch.arange(len(data.val)))
    scores = whole.scores(integers.layers(run.model), channels_last(pixels.numpy()))
    found = torch.from_numpy(scores)
    loss = float(nn.functional.cross_entropy(found, data.val.labels))
    return loss, float((found.argmax(1) == data.val.labels).float().mean()), scores


def test_it_loses_less(data: ImageData, trained: Run, out: Path) -> None:
    """Two in five right before, four in five after; what it says is what the reference computes for its weights."""
    loss, accuracy, _ = in_integers(trained, data)
    assert trained.summary["accuracy"] - accuracy > 0.3
    run = go_on(trained, data, out)
    after, right, _ = in_integers(run, data)
    assert after < 0.75 * loss
    assert right - accuracy > 0.3
    assert run.summary["integers"] == pytest.approx({"accuracy": right, "loss": after}, abs=1e-6)
    assert "in integers before the training: accuracy" in (out / "train.log").read_text()
    assert run.recipe.epochs == 4
    assert run.recipe.schedule == "cosine"
    assert run.config["model"]["initial"] == str(trained.path.resolve())


@pytest.mark.slow
def test_what_was_trained_is_what_is_exported(data: ImageData, trained: Run, out: Path) -> None:
    """Other calibration images change nothing: the ranges are the run's."""
    if compiler() is None:
        pytest.skip("no C compiler is installed")
    run = go_on(trained, data, out, epochs=1)
    options = export_options(run, calibration=4)
    written = to_c(run.model, out / "model-int8", run.preparation.shape, **options)
    assert written.accuracy == pytest.approx(run.summary["integers"]["accuracy"])


def test_a_resumed_training_is_bit_identical(data: ImageData, trained: Run, out: Path, tmp_path: Path) -> None:
    whole_run = go_on(trained, data, tmp_path / "whole", epochs=2)

    class Stop(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 1:
                raise StopTraining

    with pytest.raises(TrainingInterrupted, match="--resume"):
        go_on(trained, data, out, epochs=2, callbacks=[Stop()])
    assert load_run(out).summary == {}
    ranges = (out / "ranges.json").read_bytes()
    run = resume(out, data=data, accelerator="cpu", progress=False)
    assert run.summary["integers"] == whole_run.summary["integers"]
    assert_same(weights(out), weights(whole_run.path))
    assert (out / "ranges.json").read_bytes() == ranges


@pytest.mark.parametrize("content", [None, b"{", b'{"numbers": []}'])
def test_ranges_that_are_gone_or_damaged(data: ImageData, trained: Run, out: Path, content: bytes | None) -> None:
    go_on(trained, data, out, epochs=1)
    (out / "ranges.json").unlink()
    if content is not None:
        (out / "ranges.json").write_bytes(content)
    message = "held the ranges" if content is None else "is damaged"
    with pytest.raises(CheckpointError, match=message):
        resume(out, data=data, accelerator="cpu", progress=False)
    with pytest.raises(CheckpointError, match=message):
        export_options(load_run(out), calibration=4)


def test_what_cannot_be_done(data: ImageData, trained: Run, out: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no run"):
        go_on(replace(trained, path=tmp_path), data, out)
    with pytest.raises(DataError, match="the data has changed"):
        go_on(trained, small_data(71), out)
    with pytest.raises(CheckpointError, match="does not say where its data came from"):
        quantise(trained.path, out, progress=False)
    with pytest.raises(ConfigError, match="holds a run already"):
        go_on(trained, data, trained.path)
    assert not out.exists()


def test_a_network_without_integers(data: ImageData, trained: Run, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(self: Uneven, x: Tensor) -> Tensor:
        return self.dense(self.norm(self.quiet(x)).cumsum(2).flatten(1)[:, :64])

    monkeypatch.setattr(Uneven, "forward", forward)
    with pytest.raises(ConfigError, match="no C form"):
        go_on(trained, data, out)
    assert not (out / "config.yaml").exists()
