"""Times of layers, by a clock that the layers themselves set forward."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from simroot.errors import ConfigError
from simroot.measure import time_layers

module = importlib.import_module("simroot.measure.layer_times")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Takes(nn.Module):
    """Sets the clock forward by what is asked, in turn."""

    def __init__(self, clock: Clock, *seconds: float) -> None:
        super().__init__()
        self.clock, self.seconds, self.calls = clock, seconds, 0

    def forward(self, x: Tensor) -> Tensor:
        self.clock.now += self.seconds[self.calls % len(self.seconds)]
        self.calls += 1
        return x


class Block(nn.Module):
    """Takes two seconds itself, and calls its layer twice."""

    def __init__(self, clock: Clock, layer: nn.Module) -> None:
        super().__init__()
        self.clock, self.layer = clock, layer

    def forward(self, x: Tensor) -> Tensor:
        self.clock.now += 2
        return self.layer(self.layer(x))


def test_each_module_without_those_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    # Three runs warm up; of the timed ones the first layer takes 1, 1 and 10 seconds.
    first = Takes(clock, 50, 50, 50, 1, 1, 10)
    model = nn.Sequential(first, Block(clock, Takes(clock, 3))).train()
    found = time_layers(model, (2, 3, 3), batch=4, seconds=20)
    assert found == {"": 0, "0": 1, "1": 2, "1.layer": 6}
    assert first.calls == 6
    assert model.training


def test_options_and_what_is_put_back() -> None:
    shapes: list[Any] = []
    threads = torch.get_num_threads()
    model = nn.Flatten()
    model.register_forward_pre_hook(lambda _, inputs: shapes.append((inputs[0].shape, torch.get_num_threads())))
    time_layers(model, (5,), batch=2, threads=threads + 1, seconds=1e-3)
    assert set(shapes) == {((2, 5), threads + 1)}
    assert torch.get_num_threads() == threads
    assert len(model._forward_pre_hooks) == 1
    assert not model._forward_hooks
    with pytest.raises(ConfigError, match="batch 0"):
        time_layers(model, (5,), batch=0)
    with pytest.raises(ConfigError, match=r"Linear cannot process an example of shape \(5,\): mat1 and mat2"):
        time_layers(nn.Linear(3, 4), (5,))


def test_inputs_are_of_the_networks_type() -> None:
    assert time_layers(nn.Linear(3, 4).double(), (3,), seconds=1e-3).keys() == {""}
