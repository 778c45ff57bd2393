"""Networks within a budget: the widest of a family, limits of operations and time, what a design holds."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from simroot.data import from_arrays
from simroot.design import budgets, frontier, times
from simroot.design.budgets import Budget, widest
from simroot.design.families import FAMILIES
from simroot.design.search import CANDIDATES, comparison, design
from simroot.design.tasks import CIFAR_10, Task, deployed, parameters
from simroot.design.times import Times
from simroot.errors import ConfigError
from simroot.export.c.report import Precision, device_memory
from simroot.measure import count
from simroot.trials.experiment import Finished, Report


def widths(width: int) -> dict[str, int]:
    return {"channels": width}


def by_parameters(monkeypatch: pytest.MonkeyPatch, *, predicted: float = 1.0) -> list[int]:
    """Times that are parameters in thousands, predicted as so much of that; returns what is measured."""
    timed: list[int] = []

    def milliseconds(network: nn.Module, task: Task) -> float:
        timed.append(parameters(network))
        return parameters(network) / 1e3

    def guess(self: Times, model: str, overrides: Mapping[str, Any]) -> float:
        return predicted * parameters(deployed(model, overrides, self.task)) / 1e3

    monkeypatch.setattr(times, "milliseconds", milliseconds)
    monkeypatch.setattr(Times, "predicted", guess)
    return timed


@pytest.mark.slow
def test_widest_network_is_the_last_within_the_budget() -> None:
    # 40 c^2 + 90 c + 2: convolutions, biases, templates, weights, offsets and two betas.
    sizes = {5_000: 10, 4_902: 10, 4_901: 9, 132: 1}
    assert parameters(deployed("simnet3_compact", {"channels": 10})) == 4_902
    for size, width in sizes.items():
        assert widest("simnet3_compact", Budget(parameters=size), widths) == {"channels": width}
    with pytest.raises(ConfigError, match="the narrowest simnet3_compact is not within 131 parameters; expected a la"):
        widest("simnet3_compact", Budget(parameters=131), widths)


@pytest.mark.slow
def test_widest_network_within_operations_and_both() -> None:
    assert widest("simnet3_compact", Budget(macs=1_606_400), widths) == {"channels": 10}
    assert widest("simnet3_compact", Budget(macs=1_606_399), widths) == {"channels": 9}
    assert widest("simnet3_compact", Budget(1_000, 1_606_400), widths)["channels"] < 9
    assert widest("simnet3_compact", Budget(1_000_000, 1_606_399), widths) == {"channels": 9}


def test_widest_network_within_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A time that is the number of parameters in thousands: the same network as within so many parameters."""
    timed = by_parameters(monkeypatch)
    assert widest("simnet3_compact", Budget(milliseconds=4.902), widths) == {"channels": 10}
    assert widest("simnet3_compact", Budget(milliseconds=4.901), widths) == {"channels": 9}
    assert timed == [4_902, 4_052]  # the predictions are right


def test_time_is_asked_for_only_within_the_other_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = by_parameters(monkeypatch)
    widest("simnet3_compact", Budget(parameters=5_000, milliseconds=6.0), widths)
    assert timed == [4_902]


def test_classes_and_images_count() -> None:
    task = Task(num_classes=100, in_channels=1, image_size=24)
    found = widest("simnet3_compact", Budget(parameters=5_000), widths, task)
    wider = {"channels": found["channels"] + 1}
    assert (
        parameters(deployed("simnet3_compact", found, task))
        <= 5_000
        < parameters(deployed("simnet3_compact", wider, task))
    )
    assert task.input_size == (1, 24, 24)


def test_budget_needs_a_limit() -> None:
    with pytest.raises(ConfigError, match="the budget has no limit; expected a number of parameters"):
        Budget()
    assert str(Budget(20_000, 3_000_000, 0.5)) == "20,000 parameters, 3,000,000 MACs, 0.5 ms"
    assert str(Budget(macs=3_000_000)) == "3,000,000 MACs"
    assert str(Budget(ram=4096, precision="float32")) == "4,096 bytes of RAM in float32"


def test_looking_for_networks_leaves_torchs_random_state() -> None:
    before = torch.get_rng_state()
    widest("simnet3_compact", Budget(parameters=200), widths)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("budget", "depth"), [(5_000, 1), (9_000, 1), (11_000, 2), (34_000, 2), (40_000, 3)])
def test_larger_networks_are_deeper(budget: int, depth: int) -> None:
    (family,) = (family for family in FAMILIES if family.name == "resnet")
    assert family.at(Budget(parameters=budget)).overrides.get("depth", 3) == depth


def test_design_is_within_the_budget_and_almost_fills_it() -> None:
    budget = Budget(macs=700_000)
    found = design(budget, CIFAR_10, ["simnet_mixed", "convnet_plain"])
    assert [each.network.name for each in found] == ["simnet_mixed", "convnet_plain"]
    for each in found:
        cost = count(deployed(each.network.model, each.network.overrides), (3, 32, 32))
        assert (each.parameters, each.macs, each.milliseconds) == (cost.parameters, cost.macs, None)
        assert 600_000 < each.macs <= 700_000
        assert each.network.overrides == json.loads(json.dumps(dict(each.network.overrides)))


@pytest.mark.parametrize("most", [None, 1, 7, 100, 5_000])
@pytest.mark.parametrize("power", [0.5, 1, 2, 3])
@pytest.mark.parametrize("last", [0, 1, 6, 63, 64, 700])
def test_few_guesses_find_the_last_width_that_fits(last: int, power: float, most: int | None) -> None:
    asked = []

    def used(width: int) -> float:
        asked.append(width)
        return float((width / (last + 0.5)) ** power)

    assert budgets._widest_used(used, most) == (last if most is None else min(last, most))
    assert len(asked) == len(set(asked)) <= 16
    assert most is None or max(asked) <= most


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_design_within_the_memory_of_a_device(precision: Precision, caplog: pytest.LogCaptureFixture) -> None:
    task = Task(image_size=16)
    limit = Budget(ram=6_000, flash=9_000, precision=precision)
    with caplog.at_level(logging.WARNING, logger="simroot"):
        (found,) = design(limit, task, ["simnet_mixed", "tiniest"])
    assert "tiniest is left out: layer_norm of layer norm1 has no C form" in caplog.text
    model = deployed(found.network.model, found.network.overrides, task)
    assert found.memory == device_memory(model, task.input_size, precision)
    assert found.memory.precision == precision
    assert found.memory.ram <= 6_000
    assert found.memory.flash <= 9_000
    # The next width, a quarter of a channel more, is too large for one of the two.
    wider = {**found.network.overrides, "channels": float(found.network.overrides["channels"]) + 0.25}
    needed = device_memory(deployed(found.network.model, wider, task), task.input_size, precision)
    assert needed.ram > 6_000 or needed.flash > 9_000


def test_families_that_cannot_are_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    task = Task(image_size=8)
    with caplog.at_level(logging.WARNING, logger="simroot"):
        found = design(Budget(parameters=5_000), task, ["simnet2", "resnet"])
    assert [each.network.name for each in found] == ["resnet"]
    assert "simnet2 is left out: image_size of simnet2 is 8; the smallest that works is 15" in caplog.text
    with pytest.raises(ConfigError, match="no network is within 5,000 parameters with images of 8 pixels"):
        design(Budget(parameters=5_000), task, ["simnet2"])
    with pytest.raises(ConfigError, match="unknown family 'simnet9'; known are simnet_residual; "):
        design(Budget(parameters=5_000), task, ["simnet9"])


def test_a_limit_of_time_puts_the_time_into_the_design(monkeypatch: pytest.MonkeyPatch) -> None:
    by_parameters(monkeypatch)
    (found,) = design(Budget(milliseconds=1.0), CIFAR_10, ["convnet_plain"])
    assert 850 < found.parameters <= 1_000
    assert found.milliseconds == found.predicted == found.parameters / 1e3


@pytest.mark.slow
@pytest.mark.parametrize("predicted", [0.3, 0.8, 1.3, 4.0])
def test_nothing_over_the_limit_is_listed_whatever_was_predicted(
    monkeypatch: pytest.MonkeyPatch, predicted: float
) -> None:
    timed = by_parameters(monkeypatch, predicted=predicted)
    found = design(Budget(milliseconds=2.0), CIFAR_10, ["convnet_plain", "resnet", "simnet_mixed"])
    assert [each.milliseconds for each in found] == [each.parameters / 1e3 for each in found]
    assert all(each.parameters <= 2_000 and each.parameters in timed for each in found)
    assert len(timed) <= 3 * len(found)  # what is over the limit is measured twice


def test_a_moments_disturbance_does_not_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    by_parameters(monkeypatch)
    found = iter([5.0, 0.9, 5.0, 5.0])
    monkeypatch.setattr(times, "milliseconds", lambda network, task: next(found))
    assert [Times(CIFAR_10).of("simnet3_compact", {"channels": 1}, limit=1.0) for _ in range(2)] == [0.9, 5.0]


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("most", [None, 3, 1_000])
@pytest.mark.parametrize("share", [0.5, 1.0, 1.5])
def test_few_times_are_measured(power: float, most: int | None, share: float) -> None:
    """Predictions are wrong by a half, and by another power of the width."""
    measured: list[int] = []

    def time(width: int) -> float:
        measured.append(width)
        return 0.05 + (width / 200) ** power

    def predict(width: int) -> float:
        return share * (0.05 + (width / 200) ** 1.3)

    found = budgets._widest_timed(time, predict, 1.05, most)
    assert found in measured  # what is chosen has been measured
    assert len(measured) <= 8
    assert time(found) <= 1.05
    assert found == most or time(found) >= 0.8 * 1.05


def test_nothing_is_within_a_time_that_even_the_narrowest_takes_longer_than() -> None:
    for most in (None, 7):
        assert budgets._widest_timed(lambda width: 2.0 + width, lambda width: width, 1.0, most) == 0


@pytest.mark.slow
def test_time_is_measured() -> None:
    assert 0 < times.milliseconds(deployed("convnet_plain", {"channels": 4.0}), CIFAR_10) < 1_000


def test_comparison_trains_all_of_them_alike() -> None:
    networks = [CANDIDATES[name].at(Budget(parameters=5_000)) for name in ("simnet_mixed", "convnet_plain")]
    plan = comparison(Budget(parameters=5_000), networks)
    assert plan.title == "Networks within 5,000 parameters"
    trials = plan.trials(3, 1)
    assert [trial.model for trial in trials] == ["simnet_mixed", "convnet_plain"]
    kept: list[Mapping[str, Any]] = [{**vars(trial.recipe), "learning_rate": 0, "clip_norm": 0} for trial in trials]
    assert kept[0] == kept[1]


def test_report_says_what_to_do_with_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frontier, "report", lambda by_budget, finished, data: Report(f"| {list(by_budget)} |"))
    networks = [CANDIDATES[name].at(Budget(parameters=5_000)) for name in ("simnet_mixed", "convnet_plain")]
    plan = comparison(Budget(parameters=5_000), networks)
    rows = [
        {"model": model, "overrides": {}, "accuracy": accuracy, "command": f"simroot train {accuracy}"}
        for model, accuracy in (("simnet_mixed", 0.7), ("convnet_plain", 0.6))
    ]
    places = [tmp_path / "one", None]
    runs = [Finished(*each) for each in zip(plan.trials(3, 1), places, rows, strict=True)]
    data = from_arrays(torch.zeros(20, 3, 32, 32).byte(), torch.arange(20) % 2, validation=4)
    first, _, last = plan.report(runs, data).markdown.partition("\n\n")
    assert first == "| ['5,000 parameters'] |"
    assert last == (
        "The best is simnet_mixed channels=8.5 depth=1, seed 1. To train it for longer: `simroot train 0.7` with more "
        f"epochs. For the device, as it is: `simroot export {tmp_path / 'one'}`."
    )
    assert "simroot export" not in plan.report([runs[1]], data).markdown
    # one lucky seed is not the best network
    again = [(run, accuracy) for run, both in zip(runs, ((0.65, 0.65), (0.4, 0.8)), strict=True) for accuracy in both]
    lucky = [replace(run, row={**run.row, "accuracy": accuracy}) for run, accuracy in again]
    assert "The best is simnet_mixed" in plan.report(lucky, data).markdown
