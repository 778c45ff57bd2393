"""The papers' tables and figures on the command line."""

import json
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest

from cli.result import Simroot
from simroot.cli.main import _parser
from simroot.cli.train import choose_recipe
from simroot.models import model_entry
from simroot.reproduce import EXPERIMENTS, TABLES
from simroot.training import Recipe, TrainingInterrupted, for_data, recipe
from simroot.trials.clusters import Jobs
from simroot.trials.runs import command


def test_names(simroot: Simroot) -> None:
    out = simroot("reproduce").out
    assert all(name in out for name in (*TABLES, *EXPERIMENTS))
    assert simroot("reproduce", "--json").json == list({**TABLES, **EXPERIMENTS})


def test_table_as_json(simroot: Simroot) -> None:
    rows = simroot("reproduce", "deep-roots-table-2", "--json").json
    assert rows[3] == {
        "model": "nin_root8",
        "parameters": 314_954,
        "macs": 103_343_498,
        "paper_parameters": 315_000,
        "paper_macs": 103_000_000,
    }


def test_table(simroot: Simroot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    out = simroot("reproduce", "deep-roots-table-2").out
    assert "314,954" in out
    assert "5 of 5 rows agree in every printed digit" in out
    assert max(map(len, out.splitlines())) <= 100


def test_unknown_table(simroot: Simroot) -> None:
    result = simroot("reproduce", "table-9")
    assert result.code == 2
    assert "unknown table or figure 'table-9'; known are deep-roots-table-2" in result.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("deep-roots-table-4", "--train"), "deep-roots-table-4 is counted, not trained; leave out --train"),
        (("deep-roots-figure-5", "--data", "digits", "--report-only"), "holds no finished run of Deep Roots, figure 5"),
        (("deep-roots-figure-5", "--seeds", "1,1"), "'1,1' are no seeds; expected different whole numbers"),
        (("deep-roots-figure-5", "--seeds", "one"), "'one' are no seeds"),
        (("deep-roots-figure-5", "--data", "digits", "--cluster", "host"), "'host'; expected dask:ADDRESS"),
        (("deep-roots-figure-5", "--jobs", "0"), "--jobs: "),
    ],
)
def test_mistakes(
    simroot: Simroot, words: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = simroot("reproduce", *words)
    assert result.code == 2
    assert message in result.err.splitlines()[-1]


def test_a_signal(simroot: Simroot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def conduct(*_: Any, **__: Any) -> None:
        raise TrainingInterrupted("stopped. To go on: simroot train --resume runs/nin", tmp_path, "SIGTERM")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("simroot.trials.experiment.conduct", conduct)
    result = simroot("reproduce", "--data", "digits", "simnets-compact")
    assert result.code == 128 + signal.SIGTERM
    assert result.err.endswith("--resume runs/nin, or, with the trainings that are left, the same command again\n")


def test_jobs(simroot: Simroot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Jobs] = []

    def conduct(*_: Any, jobs: Jobs, **__: Any) -> None:
        asked.append(jobs)
        raise TrainingInterrupted("stopped. To go on: the same command again", Path("runs"), "SIGINT")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("simroot.trials.experiment.conduct", conduct)
    words = ("reproduce", "--data", "digits", "simnets-compact")
    result = simroot(*words, "--jobs", 2, "--threads", 1)
    assert result.err.endswith("To go on: the same command again\n")
    simroot(*words, "--cluster", "dask:tcp://host:8786")
    assert asked == [Jobs(2, 1), Jobs(cluster="dask:tcp://host:8786")]
    assert all(jobs.side_by_side for jobs in asked)


@pytest.mark.slow
def test_a_training_is_made_once(simroot: Simroot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("reproduce", "--quick", "--data", "digits", "--threads", 1, "--json")
    first = simroot(*words, "deep-roots-table-2", "--train")
    assert "starting: nin_root8 on digits" in first.err
    assert [row["model"] for row in first.json["rows"]] == ["nin", "nin_root8"]
    assert set(first.json["milliseconds"]["per_image"]) == {"nin", "nin_root8"}
    second = simroot(*words, "deep-roots-figure-6")
    assert "nin, seed 0: taken from runs" in second.err
    assert "starting" not in second.err
    assert second.json["rows"] == first.json["rows"]
    written = {path.name for path in Path("results").iterdir()}
    stems = ("deep-roots-table-2-quick", "deep-roots-figure-6-quick")
    assert written == {f"{stem}.{kind}" for stem in stems for kind in ("json", "md", "png")}
    assert json.loads(Path("results/deep-roots-figure-6-quick.json").read_text()) == second.json


@pytest.mark.parametrize(
    "chosen",
    [
        recipe(epochs=8, weight_decay=5e-4),
        recipe("paper", shift=2, seed=7),
        recipe("imagenet", precision="bf16", compile=True, mirror=None),
        recipe(epochs=2, optimizer="adamw", clip_norm=0.5, label_smoothing=0.1, shift=0, mirror=False),
    ],
)
@pytest.mark.parametrize("model", ["nin", "simnet2"])
def test_the_command_of_a_run_gives_its_recipe(chosen: Recipe, model: str) -> None:
    chosen = for_data(chosen, "cifar10", 32)
    config: dict[str, Any] = {
        "model": {"name": model, "overrides": {"image_size": 32, "groups": [2, 1]}},
        "data": {"name": "cifar10", "image_size": 32, "source": {"name_or_path": "cifar10", "limit": 5}},
        "recipe": chosen.to_dict(),
    }
    _, *words = shlex.split(command(config))
    arguments = vars(_parser(words).parse_args(words))
    assert (arguments["model"], arguments["data"], arguments["limit"]) == (model, "cifar10", 5)
    assert dict(arguments["set"]) == config["model"]["overrides"]
    assert for_data(choose_recipe(arguments, {}, model_entry(model).recipe), "cifar10", 32) == chosen
