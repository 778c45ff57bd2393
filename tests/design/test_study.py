"""The search: proposals within the budget, halving, interruptions, shared studies, what is reported and printed."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from simroot.data import ImageData, from_arrays
from simroot.design import study as studies
from simroot.design.budgets import Budget
from simroot.design.families import Family
from simroot.design.search import CANDIDATES
from simroot.design.study import judged_part, open_study, search
from simroot.design.study_report import report_study
from simroot.design.tasks import deployed, task_of
from simroot.errors import ConfigError, TrainingError
from simroot.measure import count
from simroot.training.claim import claimed
from simroot.trials.networks import Network
from simroot.trials.runs import Runs, Trial

pytest.importorskip("optuna", reason="optuna is not installed")

BUDGET = Budget(parameters=900)
FAMILIES = ("convnet_plain", "simnet_mixed")
EPOCHS = 9

# A training's accuracy after each epoch.
Curve = Callable[[Trial], Sequence[float]]


def images() -> ImageData:
    pixels = torch.randint(0, 256, (80, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return from_arrays(pixels, torch.arange(80) % 2, validation=16)


@pytest.fixture
def sized(monkeypatch: pytest.MonkeyPatch) -> None:
    """The widest network of a family is found at once."""

    def chosen(self: Family, choices: Mapping[str, Any], budget: Budget, *others: Any) -> Network:
        if budget.parameters is not None and budget.parameters < 100:
            raise ConfigError(f"the narrowest {self.model} is not within {budget}")
        return Network(self.name, self.model, self.shape(1, **choices))

    monkeypatch.setattr(Family, "chosen", chosen)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, sized: None) -> list[Trial]:
    """Trainings that are only told: their accuracy rises with the learning rate. What was trained."""
    seen: list[Trial] = []
    follow(monkeypatch, seen, lambda trial: [trial.recipe.learning_rate / 10] * EPOCHS)
    return seen


def follow(monkeypatch: pytest.MonkeyPatch, seen: list[Trial], curve: Curve) -> None:
    def complete(self: Runs, trial: Trial, *, callbacks: Sequence[Any], **options: Any) -> Path:
        assert (len(self.data.train), len(self.data.val)) == (56, 8)
        seen.append(trial)
        history: list[Mapping[str, float]] = []
        for epoch, accuracy in enumerate(curve(trial), start=1):
            for callback in callbacks:
                callback.on_train_epoch_start(None, SimpleNamespace(history=history))
            history.append({"epoch": epoch, "val_accuracy": accuracy})
        return self.folder / "run"

    monkeypatch.setattr(Runs, "complete", complete)

    def curves() -> list[float]:
        return list(curve(seen[-1]))

    monkeypatch.setattr(
        studies, "row", lambda path: {"accuracy": curves()[-1], "validation_accuracy_by_epoch": curves()}
    )
    monkeypatch.setattr(studies, "read_config", lambda path: {"data": {}})
    monkeypatch.setattr(studies, "command", lambda config: f"simroot train --data {config['data']['source']}")


def go_on(folder: Path, number: int, *, url: str | None = None, budget: Budget = BUDGET, **options: Any) -> Any:
    study = open_study(url, folder, 0)
    arguments = {"epochs": EPOCHS, "seed": 0, "runs": folder / "runs", "source": "PLACE", **options}
    search(study, budget, images(), FAMILIES, number=number, **arguments)
    return study


def test_what_is_trained_is_within_the_budget_and_on_a_part_of_the_training_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Trial] = []
    follow(monkeypatch, trained, lambda trial: [0.5] * EPOCHS)
    study = go_on(tmp_path, 2)
    assert len(trained) == len(study.trials) == 2
    for trial in trained:
        network = deployed(trial.model, trial.overrides, task_of(images()))
        assert 300 < count(network, (3, 12, 12)).parameters <= 900
        assert trial.recipe.epochs == EPOCHS
    assert len({trial.recipe.learning_rate for trial in trained}) == 2
    part = judged_part(images())
    assert (len(part.train), len(part.val)) == (56, 8)


def test_trainings_that_lag_behind_end_early(trained: list[Trial], tmp_path: Path) -> None:
    """After one and after three of nine epochs only the best third goes on: of those that come to a rung second."""
    study = go_on(tmp_path, 12)
    ended = {trial.number: trial.last_step for trial in study.trials if trial.state.name == "PRUNED"}
    assert ended
    assert set(ended.values()) <= {1, 3}
    best = max(trained, key=lambda trial: trial.recipe.learning_rate)
    assert study.best_value == best.recipe.learning_rate / 10


def test_the_same_call_goes_on_up_to_the_number(trained: list[Trial], tmp_path: Path) -> None:
    go_on(tmp_path, 2)
    go_on(tmp_path, 3)
    go_on(tmp_path, 3)
    assert len(trained) == 3


@pytest.mark.parametrize("killed", [False, True])
def test_what_was_stopped_is_taken_up_again(
    killed: bool, trained: list[Trial], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(trial: Trial) -> Sequence[float]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if killed:  # nothing can be said any more
            patched.setattr(studies, "_put_back", lambda *arguments: None)
        follow(patched, trained, stop)
        with pytest.raises(KeyboardInterrupt):
            go_on(tmp_path, 2)
    follow(monkeypatch, trained, lambda trial: [0.5] * EPOCHS)
    study = go_on(tmp_path, 2)
    first, again, _ = trained
    assert (again.model, again.overrides, again.recipe) == (first.model, first.overrides, first.recipe)
    assert [trial.state.name for trial in study.trials][:2] == ["FAIL", "COMPLETE"]
    assert len(study.trials) == 3


def test_what_another_process_is_at_is_left_to_it(trained: list[Trial], tmp_path: Path) -> None:
    study = open_study(None, tmp_path, 0)
    other = study.ask()
    other.set_user_attr("place", [socket.gethostname(), str(tmp_path / "other")])
    with claimed(tmp_path / "other"):
        # another thread's or process's claim, as far as this one can tell
        from simroot.training import claim

        claim._held.clear()
        go_on(tmp_path, 2)
        claim._held[(tmp_path / "other").resolve()] = 0
    assert len(trained) == 1
    assert open_study(None, tmp_path, 0).trials[0].state.name == "RUNNING"


@pytest.mark.slow
def test_a_database_is_shared(trained: list[Trial], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/search.db"
    go_on(tmp_path / "one", 2, url=url)
    go_on(tmp_path / "two", 3, url=url)
    assert len(trained) == 3
    assert not (tmp_path / "two" / "search.journal").exists()


def test_failed_trainings_are_left_out_and_named(
    sized: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def diverge(trial: Trial) -> Sequence[float]:
        raise TrainingError("the loss is nan")

    follow(monkeypatch, [], diverge)
    study = go_on(tmp_path, 2)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "FAIL"]
    assert "is left out: the loss is nan" in caplog.text
    with pytest.raises(ConfigError, match="no training of the search could be completed; the log says why"):
        report_study(study, tmp_path)


def test_mistakes(trained: list[Trial], tmp_path: Path) -> None:
    go_on(tmp_path, 1)
    with pytest.raises(ConfigError, match="the study is of a search with other budget and epochs; choose other --res"):
        go_on(tmp_path, 2, budget=Budget(parameters=800), epochs=3)
    with pytest.raises(ConfigError, match="20 proposals in a row do not fit, the last since the narrowest"):
        go_on(tmp_path / "small", 1, budget=Budget(parameters=20))
    with pytest.raises(ConfigError, match="the study nonsense://x cannot be opened: Can't load plugin"):
        open_study("nonsense://x", tmp_path, 0)
    (tmp_path / "search.journal").write_text("nonsense\n{}\n")
    with pytest.raises(ConfigError, match=r"the study .*search.journal cannot be opened"):
        open_study(None, tmp_path, 0)
    with pytest.raises(ConfigError, match="unknown family 'vgg'"):
        search(None, BUDGET, images(), ["vgg"], number=1, epochs=1, seed=0, runs=tmp_path, source={})  # type: ignore[arg-type]


@pytest.mark.slow
def test_report_has_the_best_and_what_mattered(trained: list[Trial], tmp_path: Path) -> None:
    study = go_on(tmp_path, 14)
    content = json.loads(report_study(study, tmp_path).read_text())
    rate = max(trial.recipe.learning_rate for trial in trained)
    assert content["best"]["learning_rate"] == rate
    assert content["best"]["accuracy"] == rate / 10
    assert len(content["trials"]) == 14
    assert content["importances"]["learning rate"] > 0.5
    text = (tmp_path / "search.md").read_text()
    assert "| network | shape | learning rate | parameters | MACs | accuracy (%) |" in text
    assert text.endswith("    simroot train --data PLACE\n")
    assert (tmp_path / "search.png").stat().st_size > 1000


@pytest.mark.parametrize("name", CANDIDATES)
def test_every_choice_of_a_family_is_one_of_its_shape(name: str) -> None:
    """Choices change the network: two values of one choice are not the same overrides."""
    family = CANDIDATES[name]
    for choice, values in family.choices.items():
        found = [json.dumps(family.shape(24, **{"depth": 2, choice: value})) for value in values]
        assert len(set(found)) == len(values), choice
