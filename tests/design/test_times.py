"""The cost model of a machine: fitted once, kept, fitted again when what was kept is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from simroot.design import times
from simroot.design.tasks import CIFAR_10, Task, deployed
from simroot.design.times import Times, cost_model
from simroot.errors import DataError
from simroot.measure import count, prediction

SOME = (("convnet_plain", {"channels": 2.0}), ("convnet_plain", {"channels": 4.0}), ("simnet2", {"channels": [4, 8]}))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[nn.Module]:
    """What is measured by a timer that takes a nanosecond for each MAC."""
    seen: list[nn.Module] = []

    def milliseconds(network: nn.Module, task: Task, seconds: float = 1.0) -> float:
        seen.append(network)
        return count(network, task.input_size).macs / 1e6

    monkeypatch.setattr(times, "_FITTED", SOME)
    monkeypatch.setattr(times, "milliseconds", milliseconds)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return seen


def test_networks_are_measured_once_and_what_was_found_is_kept(measured: list[nn.Module], tmp_path: Path) -> None:
    first = cost_model()
    assert len(measured) == len(SOME)
    assert len(list((tmp_path / "simroot").glob("times-*.json"))) == 1
    assert cost_model() == first
    assert len(measured) == len(SOME)
    expected = count(deployed(*SOME[1]), CIFAR_10.input_size).macs / 1e6
    assert Times(CIFAR_10).predicted(*SOME[1]) == pytest.approx(expected, rel=0.02)


def test_another_processor_is_measured_anew(measured: list[nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    cost_model()
    monkeypatch.setattr(times, "processor", lambda: "another one")
    cost_model()
    assert len(measured) == 2 * len(SOME)


def test_damaged_files_are_measured_again(measured: list[nn.Module], tmp_path: Path) -> None:
    first = cost_model()
    (kept,) = (tmp_path / "simroot").glob("times-*.json")
    kept.write_text(kept.read_text()[:-9])
    assert cost_model() == first
    assert len(measured) == 2 * len(SOME)
    assert prediction.read(kept) == first


def test_a_folder_that_cannot_be_written_to_is_named(
    measured: list[nn.Module], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "simroot").write_text("a file")
    assert cost_model().milliseconds
    assert "times of operators are not kept" in caplog.text
    with pytest.raises(DataError):
        prediction.read(tmp_path / "simroot" / "none.json")


@pytest.mark.slow
def test_all_that_is_fitted_to_can_be_built() -> None:
    for model, overrides in times._FITTED:
        assert prediction.work(deployed(model, overrides), CIFAR_10.input_size)
