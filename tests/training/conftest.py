from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from simroot.data import ImageData
from simroot.training.fit import _initial_model
from training.support import small_data, tiny_network

Install = Callable[[Callable[[int], float]], None]


@pytest.fixture(autouse=True)
def _tiny_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """``tiny`` is the only network, so that the tests do not wait for, or depend on, the real ones."""

    def create(name: str, num_classes: int, in_channels: int, **overrides: Any) -> nn.Module:
        assert name == "tiny"
        return tiny_network(num_classes, in_channels, **overrides)

    monkeypatch.setattr("simroot.training.run.create_model", create)


@pytest.fixture(autouse=True)
def _quick_pictures(quick_pictures: None) -> None:
    """In all of this folder."""


@pytest.fixture
def data() -> ImageData:
    return small_data()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def at_batch(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Calls a function with the number of each training batch, from 1, and multiplies the scores by what it returns."""

    def install(action: Callable[[int], float]) -> None:
        count = 0

        def hook(module: nn.Module, _: Any, scores: Tensor) -> Tensor:
            nonlocal count
            if not module.training or scores.is_meta:  # to see how much memory it takes, it is run without numbers
                return scores
            count += 1
            return scores * action(count)

        def build(*arguments: Any) -> nn.Module:
            model = _initial_model(*arguments)
            model.register_forward_hook(hook)
            return model

        monkeypatch.setattr("simroot.training.fit._initial_model", build)

    return install
