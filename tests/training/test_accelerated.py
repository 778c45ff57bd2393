"""Trainings by native kernels, the default: to the bit when resumed, and without a trace in what they leave."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from simroot.data import ImageData
from simroot.layers import acceleration
from simroot.ops import kernels_in_use
from simroot.training import Recipe, TrainingInterrupted, load_run, resume, train
from simroot.training.config import read_whole
from training.conftest import Install
from training.support import QUICK
from training.test_train import assert_same, weights

pytestmark = pytest.mark.skipif(kernels_in_use().name == "reference", reason="no native kernels here")

BRIEF = replace(QUICK, epochs=2)
SAID = "native kernels train"


def separable(num_classes: int, in_channels: int, *, image_size: int) -> nn.Module:
    assert image_size >= 4
    return nn.Sequential(
        nn.Conv2d(in_channels, 16, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False),
        nn.BatchNorm2d(16),
        nn.Hardswish(),
        nn.Conv2d(16, 16, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, num_classes),
    )


@pytest.fixture(autouse=True)
def _separable(monkeypatch: pytest.MonkeyPatch, _tiny_networks: None) -> None:
    def create(name: str, num_classes: int, in_channels: int, **overrides: Any) -> nn.Module:
        return separable(num_classes, in_channels, **overrides)

    monkeypatch.setattr("simroot.training.run.create_model", create)


@pytest.fixture
def begun(data: ImageData, tmp_path: Path, at_batch: Install) -> Callable[..., Path]:
    """Trains into a new directory, until Ctrl-C in a batch of six if one is given."""

    def run(name: str, recipe: Recipe = BRIEF, stop: int = 0, **given: Any) -> Path:
        def action(count: int) -> float:
            if count == stop:
                raise KeyboardInterrupt
            return 1.0

        path = tmp_path / name
        at_batch(action)
        if not stop:
            train("tiny", data, recipe, path, accelerator="cpu", progress=False, **given)
            return path
        with pytest.raises(TrainingInterrupted):
            train("tiny", data, recipe, path, accelerator="cpu", progress=False, **given)
        at_batch(lambda count: 1.0)
        return path

    return run


def edit(path: Path, pattern: str, text: str) -> None:
    config = path / "config.yaml"
    before = config.read_text()
    config.write_text(re.sub(pattern, text, before))
    assert config.read_text() != before


def far(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference of two state dicts, whose names must be the same."""
    assert list(one) == list(other)
    return max(float((one[name].double() - other[name]).abs().max()) for name in one)


def test_it_is_the_default_and_differs_in_rounding_alone(begun: Callable[..., Path]) -> None:
    fast, plain = begun("fast"), begun("plain", replace(BRIEF, accelerate=False))
    assert SAID in (fast / "train.log").read_text()
    assert "2 x batch normalisation and activation where the next convolution reads" in (fast / "train.log").read_text()
    assert SAID not in (plain / "train.log").read_text()
    for which in ("best", "last"):
        assert 0 < far(weights(fast, which), weights(plain, which)) < 1e-3
    states = [torch.load(path / "last.ckpt", weights_only=True)["state_dict"] for path in (fast, plain)]
    assert far(*states) < 1e-3


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_resumed_run_is_bit_identical(begun: Callable[..., Path], data: ImageData, ema: float) -> None:
    recipe = replace(BRIEF, ema=ema)
    whole, interrupted = begun("whole", recipe), begun("interrupted", recipe, stop=4)
    resume(interrupted, data=data, accelerator="cpu", progress=False)
    for which in ("best", "last"):
        assert_same(weights(interrupted, which), weights(whole, which))


@pytest.mark.parametrize("fast_first", [True, False])
def test_it_can_be_turned_on_and_off_between(begun: Callable[..., Path], data: ImageData, fast_first: bool) -> None:
    path = begun("run", replace(BRIEF, accelerate=fast_first, ema=0.9), stop=4)
    edit(path, r"accelerate: \w+", f"accelerate: {str(not fast_first).lower()}")
    before = (path / "train.log").read_text()
    resume(path, data=data, accelerator="cpu", progress=False)
    assert (SAID in before, SAID in (path / "train.log").read_text()[len(before) :]) == (fast_first, not fast_first)
    whole = begun("whole", replace(BRIEF, ema=0.9))
    assert far(weights(path, "last"), weights(whole, "last")) < 1e-3


def test_a_run_of_before_goes_on_without(begun: Callable[..., Path], data: ImageData) -> None:
    plain = begun("plain", replace(BRIEF, accelerate=False))
    path = begun("run", replace(BRIEF, accelerate=False), stop=4)
    edit(path, r"accelerate: \w+\n *", "")
    resume(path, data=data, accelerator="cpu", progress=False)
    assert SAID not in (path / "train.log").read_text()
    assert_same(weights(path, "last"), weights(plain, "last"))
    assert read_whole(path / "config.yaml")["recipe"]["accelerate"] is False
    assert Recipe.from_dict({}).accelerate
    assert Recipe() == Recipe(accelerate=False)  # a run of before is the same training


def test_what_is_left_is_the_networks_own(begun: Callable[..., Path], data: ImageData) -> None:
    """It can be evaluated, start another training and teach it."""
    first = begun("first")
    run = load_run(first)
    assert not acceleration(run.model)
    assert run.predict(data.train.read(torch.arange(2))).shape == (2, 3)
    path = begun("second", replace(BRIEF, distil=0.5), initial=first, teacher=first)
    log = (path / "train.log").read_text()
    assert SAID in log
    assert "imitates" in log
