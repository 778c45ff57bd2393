"""Which trainings an experiment starts, resumes and takes up; no network is trained here."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from simroot.data import ImageData
from simroot.errors import ConfigError
from simroot.training.run import read_config
from simroot.trials import runs as module
from simroot.trials.experiment import Experiment, Finished, Report, accuracy_text, by_model, conduct, markdown_table
from simroot.trials.runs import Runs, Trial, command, row
from trials.standins import MODEL, Trainings, begin, finish, images, trial, usual


def test_what_is_finished_is_not_trained_again(trainings: Trainings, tmp_path: Path) -> None:
    folder = Runs(tmp_path, trainings.data, None)
    assert folder.find(trial()) is None
    first = folder.complete(trial())
    assert folder.complete(trial()) == folder.finished(trial()) == first
    assert trainings.asked == [("train", "nin_compact-noise-2-epochs-seed-0")]


def test_what_was_interrupted_is_resumed(trainings: Trainings, tmp_path: Path) -> None:
    folder = Runs(tmp_path, trainings.data, None)
    trainings.stop = True
    with pytest.raises(KeyboardInterrupt):
        folder.complete(trial())
    assert folder.finished(trial()) is None
    assert folder.complete(trial()) == folder.finished(trial())
    assert [what for what, _ in trainings.asked] == ["train", "resume"]


def test_a_pretrained_trial_gets_its_own_start_made_once(
    trainings: Trainings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, int, str]] = []

    def pretrain(name: str, data: ImageData, overrides: Any, out: Path, *, seed: int, facts: Any, offsets: str) -> None:
        assert data is trainings.data
        assert facts["data"]["name"] == "noise"
        made.append((name, seed, offsets))
        out.mkdir(parents=True)
        (out / "model.safetensors").touch()

    monkeypatch.setattr(module, "pretrain", pretrain)
    folder, wanted = Runs(tmp_path, trainings.data, None), trial(3, pretrained=True)
    random, path = folder.complete(trial(3)), folder.complete(wanted)
    assert path != random
    assert folder.complete(wanted) == folder.finished(wanted) == path
    assert made == [(MODEL, 3, "labels")]
    initial = Path(read_config(path)["model"]["initial"])
    assert initial.parent.parent == tmp_path / "pre-trained"
    words = command(read_config(path)).split()
    assert words[words.index("--pretrain") + 1].startswith("--")
    other = Runs(tmp_path, replace(trainings.data, name="other"), None)
    assert other._initial(wanted) != folder._initial(wanted)


def test_a_taught_trial_says_so_in_its_row_and_command(trainings: Trainings, tmp_path: Path) -> None:
    seen: list[list[Finished]] = []
    taught = trial(teacher="simnet_5k_cifar10")
    plan = replace(experiment(seen), trials=lambda epochs, seed: [taught])
    other = replace(plan, trials=lambda epochs, seed: [trial()])
    where: dict[str, Any] = {"results": tmp_path / "results"}
    path = conduct("taught", plan, trainings.data, runs=tmp_path / "runs", **where)
    (found,) = json.loads(path.read_text())["rows"]
    assert found["teacher"] == "simnet_5k_cifar10"
    assert "--teacher simnet_5k_cifar10" in found["command"]
    conduct("taught", plan, trainings.data, runs=tmp_path / "none", train=False, **where)
    assert [each.row for each in seen[1]] == [found]  # known by its row alone
    with pytest.raises(ConfigError, match="holds no finished run"):
        conduct("taught", other, trainings.data, runs=tmp_path / "none", train=False, **where)


def test_runs_from_elsewhere_are_taken_up_a_finished_one_first(trainings: Trainings, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        begin(tmp_path / name, trainings.data, trial())
    finish(tmp_path / "b")
    assert Runs(tmp_path, trainings.data, None).complete(trial()) == tmp_path / "b"
    assert trainings.asked == []


@pytest.mark.parametrize(
    "other",
    [
        trial(seed=1),
        trial(overrides={"channels": 4}),
        trial(initial=Path("weights.safetensors")),
        trial(teacher="simnet_5k_cifar10"),
        Trial(MODEL, usual(epochs=3)),
        Trial(MODEL, usual(epochs=2, learning_rate=0.05)),
        Trial(MODEL, usual(epochs=2, shift=0)),
        Trial("nin", usual(epochs=2)),
    ],
)
def test_another_trial_is_another_run(trainings: Trainings, tmp_path: Path, other: Trial) -> None:
    folder = Runs(tmp_path, trainings.data, None)
    folder.complete(trial())
    assert folder.find(other) is None
    assert folder.complete(other) != folder.complete(trial())
    assert folder.complete(other) == folder.find(other)
    assert len(trainings.asked) == 2


def test_other_data_is_another_run(trainings: Trainings, tmp_path: Path) -> None:
    Runs(tmp_path, trainings.data, None).complete(trial())
    assert Runs(tmp_path, images(50), None).find(trial()) is None
    renamed = replace(trainings.data, name="elsewhere")  # an archive under another name
    assert Runs(tmp_path, renamed, None).find(trial()) is not None


def test_decided_and_undecided_augmentation_are_the_same(trainings: Trainings, tmp_path: Path) -> None:
    folder = Runs(tmp_path, trainings.data, None)
    decided = Trial(MODEL, usual(epochs=2, shift=1, mirror=True))
    assert folder.complete(trial()) == folder.complete(decided)


def test_a_damaged_run_is_named_and_left(
    trainings: Trainings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.yaml").write_text("model: [")
    with caplog.at_level(logging.WARNING):
        assert Runs(tmp_path, trainings.data, None).find(trial()) is None
    assert "left out a run" in caplog.text
    assert "broken" in caplog.text


def test_a_row_is_made_from_the_run_s_files(trainings: Trainings, tmp_path: Path) -> None:
    source = {"name_or_path": tmp_path / "noise.zip", "limit": 9}
    found = row(Runs(tmp_path, trainings.data, source).complete(trial(seed=3, overrides={"channels": 4})))
    wanted = {"model", "seed", "epochs", "accuracy", "parameters", "macs", "flops", "seconds", "recipe", "command"}
    assert wanted <= found.keys()
    assert (found["seed"], found["epochs"], found["accuracy"], found["best_accuracy"]) == (3, 2, 0.5, 0.6)
    assert found["validation_accuracy_by_epoch"] == [0.6, 0.5]
    assert found["command"] == (
        f"simroot train --data {tmp_path / 'noise.zip'} --limit 9 --model nin_compact --set channels=4 "
        "--recipe.epochs 2 --recipe.seed 3"
    )
    json.dumps(found)


def test_a_command_says_what_differs_from_the_usual_recipe(tmp_path: Path) -> None:
    changed = usual(epochs=2, shift=0, clip_norm=1.0, milestones=(0.5, 0.75), schedule="step", nesterov=False)
    begin(tmp_path / "run", images(), Trial(MODEL, changed))
    words = command(read_config(tmp_path / "run"))
    assert words == (
        "simroot train --data noise --model nin_compact --recipe.epochs 2 --recipe.nesterov false "
        "--recipe.schedule step --recipe.milestones 0.5,0.75 --recipe.clip_norm 1.0 --recipe.shift 0"
    )


def experiment(seen: list[list[Finished]]) -> Experiment:
    def trials(epochs: int, seed: int) -> list[Trial]:
        return [Trial(MODEL, usual(epochs=epochs, seed=seed), {"channels": width}) for width in (4, 6, 8)]

    def report(finished: Any, data: ImageData) -> Report:
        from matplotlib.figure import Figure

        seen.append(list(finished))
        return Report("the table", Figure(), {"images": len(data.val)})

    return Experiment("Noise", 5, trials, report)


def test_conduct_writes_rows_table_and_plot(trainings: Trainings, tmp_path: Path) -> None:
    seen: list[list[Finished]] = []
    where: dict[str, Any] = {"runs": tmp_path / "runs", "results": tmp_path / "results"}
    path = conduct("noise", experiment(seen), trainings.data, **where, seeds=(0, 1))
    content = json.loads(path.read_text())
    assert [(r["overrides"]["channels"], r["seed"]) for r in content["rows"]] == [
        (width, seed) for seed in (0, 1) for width in (4, 6, 8)
    ]
    assert {r["epochs"] for r in content["rows"]} == {5}
    assert content["split"] == {"training": 32, "validation": 8, "classes": 2}
    assert (content["title"], content["data"], content["images"]) == ("Noise", "noise", 8)
    assert content["versions"]
    text = (tmp_path / "results" / "noise.md").read_text()
    assert "the table" in text
    assert text.count("    simroot train") == 6
    assert (tmp_path / "results" / "noise.png").stat().st_size > 0
    assert len(trainings.asked) == 6
    conduct("noise", experiment(seen), trainings.data, **where, seeds=(0, 1))
    assert len(trainings.asked) == 6


def test_conduct_quickly(trainings: Trainings, tmp_path: Path) -> None:
    trainings.data = data = images(1000)
    trainings.data = replace(data, train=data.train.subset(torch.arange(256)))  # what a resumption would be given
    path = conduct("noise", experiment([]), data, runs=tmp_path / "runs", results=tmp_path, quick=True, seeds=(4, 5))
    content = json.loads(path.read_text())
    assert path.name == "noise-quick.json"
    assert [(r["overrides"]["channels"], r["seed"], r["epochs"]) for r in content["rows"]] == [(4, 4, 1), (6, 4, 1)]
    assert content["split"] == {"training": 256, "validation": 200, "classes": 2}


def test_report_only_takes_what_is_finished(trainings: Trainings, tmp_path: Path) -> None:
    where: dict[str, Any] = {"runs": tmp_path / "runs", "results": tmp_path / "results"}
    with pytest.raises(ConfigError, match="holds no finished run of Noise"):
        conduct("noise", experiment([]), trainings.data, **where, train=False)
    seen: list[list[Finished]] = []
    begin(where["runs"] / "one", trainings.data, Trial(MODEL, usual(epochs=5), {"channels": 6}))
    begin(where["runs"] / "two", trainings.data, Trial(MODEL, usual(epochs=5), {"channels": 8}))
    finish(where["runs"] / "one")
    conduct("noise", experiment(seen), trainings.data, **where, train=False)
    assert [each.path for each in seen[0]] == [where["runs"] / "one"]
    assert trainings.asked == []


def test_report_only_keeps_rows_of_runs_that_are_elsewhere(trainings: Trainings, tmp_path: Path) -> None:
    seen: list[list[Finished]] = []
    results = tmp_path / "results"
    for number, (width, accuracy) in enumerate([(4, 0.3), (6, 0.4), (6, 0.5), (8, 0.6)]):
        runs = tmp_path / f"runs-{number}"
        begin(runs / "one", trainings.data, Trial(MODEL, usual(epochs=5), {"channels": width}))
        finish(runs / "one", accuracy)
        path = conduct("noise", experiment(seen), trainings.data, runs=runs, results=results, train=False)
    rows = json.loads(path.read_text())["rows"]
    assert [(row["overrides"]["channels"], row["accuracy"]) for row in rows] == [(4, 0.3), (6, 0.5), (8, 0.6)]
    assert [each.path for each in seen[-1]] == [None, None, runs / "one"]
    assert conduct("noise", experiment(seen), trainings.data, runs=tmp_path, results=results, train=False) == path
    assert json.loads(path.read_text())["rows"] == rows
    assert trainings.asked == []


@pytest.mark.parametrize("train", [False, True])
def test_rows_of_other_seeds_stay(trainings: Trainings, tmp_path: Path, train: bool) -> None:
    where: dict[str, Any] = {"results": tmp_path / "results"}
    conduct("noise", experiment([]), trainings.data, runs=tmp_path / "runs", seeds=(0, 1), **where)
    path = conduct("noise", experiment([]), trainings.data, runs=tmp_path / "runs", seeds=(1,), train=train, **where)
    assert sorted(row["seed"] for row in json.loads(path.read_text())["rows"]) == [0, 0, 0, 1, 1, 1]
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    conduct("noise", experiment([]), trainings.data, runs=tmp_path / "runs", seeds=(2,), train=train, **where)
    expected = [0, 0, 0, 1, 1, 1, *[2] * 3 * train]
    assert sorted(row["seed"] for row in json.loads(path.read_text())["rows"]) == expected


@pytest.mark.parametrize("damage", ["summary.json", "metrics.csv"])
def test_a_damaged_run_does_not_end_the_others(
    trainings: Trainings, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    where: dict[str, Any] = {"runs": tmp_path / "runs", "results": tmp_path / "results"}
    conduct("noise", experiment([]), trainings.data, **where)
    broken = Runs(where["runs"], trainings.data, None).find(Trial(MODEL, usual(epochs=5), {"channels": 6}))
    assert broken is not None
    (broken / damage).write_text("{}")
    (where["results"] / "noise.json").unlink()
    path = conduct("noise", experiment([]), trainings.data, **where)
    assert [row["overrides"]["channels"] for row in json.loads(path.read_text())["rows"]] == [4, 8]
    assert f"channels=6, seed 0 is left out: summary.json or metrics.csv of {broken}" in caplog.text or (
        f"metrics.csv of {broken} has 0 epochs; expected 5" in caplog.text
    )


def test_a_network_that_cannot_be_built_does_not_end_the_others(trainings: Trainings, tmp_path: Path) -> None:
    plan = experiment([])
    trials = replace(plan, trials=lambda epochs, seed: [Trial("nonet", usual()), *plan.trials(epochs, seed)])
    path = conduct("noise", trials, trainings.data, runs=tmp_path, results=tmp_path)
    assert len(json.loads(path.read_text())["rows"]) == 3


def test_report_only_keeps_rows_of_early_reports(trainings: Trainings, tmp_path: Path) -> None:
    """They did not tell random starts, nor fields of the recipe that came later."""
    begin(tmp_path / "one", trainings.data, Trial(MODEL, usual(epochs=5), {"channels": 4}))
    finish(tmp_path / "one")
    where: dict[str, Any] = {"results": tmp_path / "results", "train": False}
    path = conduct("noise", experiment([]), trainings.data, runs=tmp_path, **where)
    content = json.loads(path.read_text())
    del content["rows"][0]["start"], content["rows"][0]["recipe"]["crop"]
    path.write_text(json.dumps(content))
    conduct("noise", experiment([]), trainings.data, runs=tmp_path / "elsewhere", **where)
    assert json.loads(path.read_text())["rows"] == content["rows"]


@pytest.mark.parametrize("changes", [{"epochs": 6}, {"data": images(50)}])
def test_report_only_keeps_no_row_of_another_experiment(
    trainings: Trainings, tmp_path: Path, changes: dict[str, Any]
) -> None:
    begin(tmp_path / "one", trainings.data, Trial(MODEL, usual(epochs=5), {"channels": 4}))
    finish(tmp_path / "one")
    where: dict[str, Any] = {"results": tmp_path / "results", "train": False}
    conduct("noise", experiment([]), data=trainings.data, runs=tmp_path, **where)
    with pytest.raises(ConfigError, match="holds no finished run"):
        conduct("noise", experiment([]), **{"data": trainings.data, "runs": tmp_path / "elsewhere", **where, **changes})


@pytest.mark.parametrize("text", ['{"rows": ', "[]", "{}"])
def test_report_only_does_not_overwrite_what_is_no_report(trainings: Trainings, tmp_path: Path, text: str) -> None:
    (tmp_path / "noise.json").write_text(text)
    with pytest.raises(ConfigError, match=r"noise\.json is no report of an experiment"):
        conduct("noise", experiment([]), trainings.data, runs=tmp_path, results=tmp_path, train=False)
    assert (tmp_path / "noise.json").read_text() == text


def finished(model: str, accuracy: float) -> Finished:
    return Finished(trial(), Path(), {"model": model, "accuracy": accuracy})


def test_seeds_are_put_together() -> None:
    found = by_model([finished("a", 0.5), finished("b", 0.7), finished("a", 0.6)])
    assert {name: len(each) for name, each in found.items()} == {"a": 2, "b": 1}
    assert accuracy_text(found["b"]) == "70.00"
    assert accuracy_text(found["a"]) == "55.00 ± 7.07 (2 seeds)"


def test_markdown() -> None:
    assert markdown_table(["a", "b"], [["x", "1"]]) == "| a | b |\n| --- | ---: |\n| x | 1 |"
