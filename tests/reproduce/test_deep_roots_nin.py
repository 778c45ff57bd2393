"""What the experiments with NiN's variants train, and what they make of it, on networks that are not trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from simroot.data import ImageData, from_arrays
from simroot.errors import ConfigError
from simroot.images.preparation import Preparation
from simroot.models import create_model, list_models
from simroot.reproduce import EXPERIMENTS, deep_roots_nin, experiment
from simroot.training import recipe
from simroot.training.run import Run
from simroot.trials.experiment import Finished
from simroot.trials.runs import Trial


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name.startswith("deep-roots")])
def test_trials_share_one_recipe_the_paper_s_claim_first(name: str) -> None:
    trials = experiment(name).trials(8, 3)
    assert [trial.model for trial in trials[:2]] == ["nin", "nin_root8"]
    assert {trial.recipe for trial in trials} == {recipe(epochs=8, seed=3, weight_decay=5e-4)}
    assert {trial.model for trial in trials} <= set(list_models())
    assert len({trial.model for trial in trials}) == len(trials)


def test_unknown_experiment() -> None:
    with pytest.raises(ConfigError, match="unknown experiment 'table'; known are deep-roots-table-2"):
        experiment("table")


def finished(model: str, accuracy: float, path: Path = Path()) -> Finished:
    row = {"model": model, "accuracy": accuracy, "parameters": 10, "macs": 20, "epochs": 8}
    return Finished(Trial(model, recipe()), path, row)


@pytest.fixture
def data() -> ImageData:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (600, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return from_arrays(pixels, torch.arange(600) % 2)


def test_table_and_plot(data: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deep_roots_nin, "_times", lambda names, _: {name: 1.0 + n for n, name in enumerate(names)})
    runs = [finished("nin", 0.9), finished("nin_root8", 0.91), finished("nin_tree4", 0.8), finished("nin", 0.92)]
    report = experiment("deep-roots-figure-5").report(runs, data)
    lines = report.markdown.splitlines()
    assert lines[2] == "| nin | 10 | 20 | 91.00 ± 1.41 (2 seeds) | 92.11 | 1.00 | 39.0 |"
    assert lines[3] == "| nin_root8 | 10 | 20 | 91.00 | 92.15 | 2.00 | 24.4 |"
    assert lines[4] == "| nin_tree4 | 10 | 20 | 80.00 | - | 3.00 | - |"
    assert report.figure is not None
    labels = [text.get_text() for text in report.figure.axes[0].get_legend().get_texts()]  # type: ignore[union-attr]
    assert labels == ["without groups", "root", "tree"]
    assert report.facts["milliseconds"]["per_image"] == {"nin": 1.0, "nin_root8": 2.0, "nin_tree4": 3.0}


def test_times_are_of_the_data_s_networks(data: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def compare(candidates: Any, engines: Any, **options: Any) -> list[Any]:
        asked.extend(candidates)
        return []

    monkeypatch.setattr(deep_roots_nin, "compare", compare)
    deep_roots_nin._times(["nin", "nin_root8"], data)
    assert [(each.name, each.input_size) for each in asked] == [("nin", (3, 8, 8)), ("nin_root8", (3, 8, 8))]
    assert asked[0].network(torch.zeros(1, 3, 8, 8)).shape == (1, 2)


def test_correlations(data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = {}
    for name in ("nin", "nin_root8"):
        torch.manual_seed(0)
        model = create_model(name, 2, image_size=8).eval()
        path = tmp_path / name
        runs[path] = Run(path, model, name, {}, data.classes, data.mean, data.std, Preparation(3, 8), summary={})
    monkeypatch.setattr(deep_roots_nin, "load_run", lambda path, weights: runs[path])
    report = experiment("deep-roots-figure-6").report(
        [finished("nin", 0.5, tmp_path / "nin"), finished("nin_root8", 0.5, tmp_path / "nin_root8")], data
    )
    numbers = report.facts["block_diagonality"]
    assert list(numbers) == ["nin", "nin_root8"]
    # Untrained: only the groups make blocks.
    assert abs(numbers["nin"]["whitened"]) < 0.02 < 0.05 < numbers["nin_root8"]["whitened"]
    assert numbers["nin"]["whitened, arranged"] > numbers["nin"]["whitened"]
    assert report.figure is not None
    panels = [axes for axes in report.figure.axes if axes.get_title()]
    assert [len(axes.patches) for axes in panels] == [4, 4]
    assert report.markdown.startswith("| network | plain | whitened | whitened, arranged |")


def test_correlations_need_weights(data: ImageData) -> None:
    reported = replace(finished("nin", 0.5), path=None)
    with pytest.raises(ConfigError, match="no run of the experiment is here"):
        experiment("deep-roots-figure-6").report([reported], data)
