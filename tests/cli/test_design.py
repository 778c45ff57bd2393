"""``simroot design``: networks within a budget, on the command line."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from cli.result import Simroot
from simroot.design.search import CANDIDATES

SMALL = ("design", "--parameters", "5K", "--family", "simnet_mixed", "--family", "convnet_plain")


def test_table_and_json(simroot: Simroot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    result = simroot(*SMALL)
    assert "Networks within 5,000 parameters" in result.out
    assert "trained to the end" not in result.out
    assert "--model convnet_plain --set channels=7.0 --set depth=1" in result.out
    found = simroot(*SMALL, "--json").json
    assert [each["family"] for each in found] == ["simnet_mixed", "convnet_plain"]
    assert found[1] == {
        "family": "convnet_plain",
        "model": "convnet_plain",
        "overrides": {"channels": 7.0, "depth": 1},
        "parameters": 4_938,
        "macs": 645_400,
        "milliseconds": None,
        "predicted_milliseconds": None,
    }


def test_our_answer_comes_first(simroot: Simroot) -> None:
    assert next(iter(CANDIDATES)) == "simnet_residual"
    out = simroot("design", "--parameters", "5K", "--family", "simnet_residual").out
    assert "The first was the most accurate of those that have been trained to the end" in out


def test_the_words_that_are_printed_give_the_network(simroot: Simroot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    line = simroot("design", "--parameters", "5K", "--family", "simnet2").out.splitlines()[3]
    name, size, macs, words = line.split(None, 3)
    _, model, *overrides = shlex.split(words)
    cost = simroot("cost", model, *overrides, "--json").json
    assert (name, size, macs) == ("simnet2", f"{cost['parameters']:,}", f"{cost['macs']:,}")


def test_task(simroot: Simroot) -> None:
    words = ("--num-classes", 100, "--in-channels", 1, "--image-size", 24)
    (found,) = simroot("design", "--macs", "0.5M", "--family", "simnet_mixed", *words, "--json").json
    pairs = [word for key, value in found["overrides"].items() for word in ("--set", f"{key}={json.dumps(value)}")]
    size = ("--num-classes", 100, "--input-size", "1,24,24")
    assert simroot("cost", found["model"], *pairs, *size, "--json").json["macs"] == found["macs"] <= 500_000


@pytest.mark.slow
def test_memory_of_a_device_is_a_budget(simroot: Simroot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    words = ("design", "--ram", "8K", "--flash", "8K", "--family", "simnet_mixed", "--image-size", 16)
    (found,) = simroot(*words, "--json").json
    assert max(found["ram"], found["flash"]) <= 8192
    result = simroot(*words)
    assert "Networks within 8,192 bytes of RAM in int8, 8,192 bytes of flash in int8" in result.out
    assert f"{found['ram']:,}" in result.out
    assert "simroot design --ram 8192 --flash 8192 --precision int8 --family simnet_mixed" in result.out
    pairs = [word for key, value in found["overrides"].items() for word in ("--set", f"{key}={json.dumps(value)}")]
    cost = ("cost", found["model"], *pairs, "--input-size", "3,16,16", "--device", "--int8", "--json")
    needed = simroot(*cost).json["device"]
    assert (needed["ram"], needed["flash"]) == (found["ram"], found["flash"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "the budget has no limit"),
        (("--ram", "much"), "'much' is no number of bytes, as in 32768, 32K or 1M"),
        (("--parameters", "5K", "--precision", "int8"), "--precision is that of the C export, for --ram and --flash"),
        (("--parameters", "many"), "'many' is no whole number of at least 1, as in 20000, 20K or 3.5M"),
        (("--parameters", "0.5"), "'0.5' is no whole number"),
        (("--parameters", "10"), "no network is within 10 parameters"),
        (("--parameters", "5K", "--train"), "there is nothing to train on; --data names the images"),
        (("--parameters", "5K", "--data", "digits", "--num-classes", "3"), "are what --data says; leave them out"),
        (("--parameters", "5K", "--search", "4"), "there is nothing to train on; --data names the images"),
        (("--parameters", "5K", "--data", "digits", "--study", "sqlite:///x"), "leave out --train and --quick"),
        (("--parameters", "5K", "--data", "digits", "--search", "4", "--quick"), "leave out --train and --quick"),
        (("--parameters", "5K", "--family", "vgg"), "unknown family 'vgg'; known are simnet_residual; simnet_resid"),
    ],
)
def test_mistakes(simroot: Simroot, words: tuple[str, ...], message: str) -> None:
    result = simroot("design", *words)
    assert result.code == 2
    assert message in result.err.splitlines()[-1]


@pytest.mark.slow
def test_training_ranks_them(simroot: Simroot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = (*SMALL, "--data", "digits", "--image-size", 16, "--threads", 1, "--epochs", 2, "--json")
    first = simroot(*words, "--train")
    assert [row["model"] for row in first.json["rows"]] == ["simnet_mixed", "convnet_plain"]
    assert {path.name for path in Path("results").iterdir()} == {"design.json", "design.md", "design.png"}
    assert "| 5,000 parameters | simnet_mixed | convnet_plain |" in Path("results/design.md").read_text()
    again = simroot(*words, "--report-only")
    assert again.json["rows"] == first.json["rows"]


@pytest.mark.slow
def test_search_finds_a_network_whose_command_trains_it(
    simroot: Simroot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed")
    monkeypatch.chdir(tmp_path)
    words = ("design", "--parameters", "2K", "--data", "digits", "--family", "convnet_plain", "--family", "resnet")
    found = simroot(*words, "--search", 4, "--epochs", 3, "--threads", 1, "--json").json
    assert len(found["trials"]) == 4
    assert found["best"]["parameters"] <= 2_000
    files = {"search.journal", "search.json", "search.md", "search.png"}
    assert {path.name for path in Path("results").iterdir()} == files
    _, *again = shlex.split(found["best"]["command"])
    assert simroot(*again, "--out", "run", "--recipe.epochs", 1).code == 0
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["parameters"] == found["best"]["parameters"]
    assert summary["data"]["train"] == 1437  # of the search's training images none is left out
    assert simroot(*words, "--search", 4, "--epochs", 3, "--report-only", "--json").json == found
