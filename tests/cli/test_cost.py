"""The tables of models and costs."""

from pathlib import Path

import pytest

from cli.result import Simroot
from simroot.images.preparation import sides
from simroot.measure import count
from simroot.models import create_model, deploy, list_models, model_entry
from simroot.training import load_run


def test_models_lists_the_registry(simroot: Simroot) -> None:
    found = simroot("models", "--json").json
    assert [entry["name"] for entry in found] == list_models()
    for entry in found:
        registered = model_entry(entry["name"])
        assert entry["parameters"] == registered.parameters
        assert entry["macs"] == registered.macs
        assert entry["input_size"] == list(registered.input_size)
        assert entry["overrides"].keys() == registered.overrides.keys()


def test_models_table(simroot: Simroot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = simroot("models", "simnet2*").out
    assert "64,578" in out
    assert "convnet" not in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("words", [[], ["--num-classes", "100"], ["--input-size", "1,40,40"]])
def test_cost_counts_the_deployed_network(simroot: Simroot, words: list[str]) -> None:
    classes = 100 if "--num-classes" in words else 10
    channels, size = (1, 40) if "--input-size" in words else (3, 32)
    expected = count(deploy(create_model("simnet2", classes, channels, image_size=size)), (channels, size, size))
    found = simroot("cost", "simnet2", *words, "--json").json
    assert (found["parameters"], found["macs"], found["flops"]) == (expected.parameters, expected.macs, expected.flops)
    assert [layer["name"] for layer in found["layers"]] == [layer.name for layer in expected.layers]
    if not words:
        assert found["parameters"] == 64_578


def test_cost_takes_overrides(simroot: Simroot) -> None:
    narrow, wide = (simroot("cost", "simnet1", "--set", f"channels={n}", "--json").json for n in (10, 20))
    assert narrow["parameters"] < wide["parameters"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cost", "nin", "--set", "groups=4"], "groups of nin is 4; expected 2 numbers, for conv2a and conv3a"),
        (["cost", "nin", "--set", "dropout=x"], "nin cannot be built with"),
        (["cost", "nin", "--set", "batch_norm=no"], "batch_norm of nin is 'no'; expected True or False"),
        (["cost", "nin", "--set", "num_classes=5"], "num_classes is no override"),
        (["bench", "nin:in_channels=1"], "in_channels is no override"),
        (["export", "nin", "--set", "num_classes=5"], "num_classes is no override"),
    ],
)
def test_wrong_overrides_are_one_line(simroot: Simroot, words: list[str], message: str) -> None:
    result = simroot(*words)
    assert (result.code, len(result.err.splitlines())) == (2, 1)
    assert message in result.err


def test_cost_table(simroot: Simroot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = simroot("cost", "simnet2").out
    lines = out.splitlines()
    (total,) = (line for line in lines if line.lstrip().startswith("total"))
    assert "64,578" in total
    assert max(map(len, lines)) <= 80


def test_cost_of_a_run(simroot: Simroot, trained: Path) -> None:
    found = simroot("cost", trained, "--json").json
    run = load_run(trained)
    expected = count(deploy(run.model), (run.channels, *sides(run.image_size)))
    assert (found["parameters"], found["macs"], found["flops"]) == (expected.parameters, expected.macs, expected.flops)
    assert {key: found[key] for key in ("parameters", "macs")} == {
        key: run.summary[key] for key in ("parameters", "macs")
    }
    result = simroot("cost", trained, "--num-classes", "3")
    assert result.code == 2
    assert "go with the name of a network" in result.err
