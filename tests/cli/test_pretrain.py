"""Pre-train, then train from there, from the command line."""

import json
import shlex
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from cli.result import Simroot
from simroot.cli import main
from simroot.data import load
from simroot.pretraining import read_start
from simroot.training import load_run, recipe
from simroot.training.run import read_config
from simroot.trials.runs import Runs, Trial, command

QUICK = ("--limit", "300", "--quiet")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pretrained") / "start"
    words = ("pretrain", "--model", "simnet2_small", "--set", "channels=[8,12]", "--patches", "600", *QUICK)
    assert main([*words, "--out", str(path)]) == 0
    return path


def test_pretrain_leaves_weights_report_and_pictures(pretrained: Path) -> None:
    names = {path.name for path in pretrained.iterdir()}
    assert names == {"config.yaml", "model.safetensors", "report.json", "layer-1.png", "layer-2.png"}
    report = json.loads((pretrained / "report.json").read_text())
    assert [layer["templates"] for layer in report["layers"]] == [8, 12]
    assert report["images"] == 300
    config = yaml.safe_load((pretrained / "config.yaml").read_text())
    assert config["model"] == {"name": "simnet2_small", "overrides": {"channels": [8, 12]}}
    assert config["pretraining"] == {"seed": 0, "patches": 600}
    assert config["data"]["source"] == {"name_or_path": "digits", "limit": 300}
    start = read_start(pretrained)
    assert start == ("simnet2_small", {"channels": [8, 12]}, pretrained / "model.safetensors")


@pytest.mark.slow
def test_pretrain_prints_a_table(simroot: Simroot, tmp_path: Path) -> None:
    words = ("--model", "simnet2_small", "--patches", "600", "--limit", "200", "--channels", "auto")
    result = simroot("pretrain", *words, "--dimension", "0.9", "--components", "nec", "--out", tmp_path / "start")
    assert result.code == 0
    assert "whitened by share of variance" in result.out
    assert "templates by nec" in result.out
    assert f"simroot train --pretrain {tmp_path / 'start'}" in result.out
    assert "patches" in result.err
    config = yaml.safe_load((tmp_path / "start" / "config.yaml").read_text())
    assert set(config["model"]["overrides"]) == {"channels", "whitened"}
    assert (tmp_path / "start" / "channels.png").exists()


@pytest.mark.slow
def test_train_starts_from_a_directory(simroot: Simroot, pretrained: Path, tmp_path: Path) -> None:
    run, again = tmp_path / "run", tmp_path / "again"
    words = ("--recipe.epochs", "1", "--recipe.learning_rate", "1e-9", *QUICK)
    assert simroot("train", "--pretrain", pretrained, *words, "--out", run).code == 0
    before, after = load_file(pretrained / "model.safetensors"), load_run(run).model.state_dict()
    learned = [name for name in before if "original" in name or name.endswith("weight")]
    assert learned
    assert all(torch.allclose(before[name], after[name], atol=1e-5) for name in learned)
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"]["initial"] == str(pretrained / "model.safetensors")
    assert config["model"]["overrides"] == {"channels": [8, 12]}
    assert simroot("train", "--config", run / "config.yaml", "--quiet", "--out", again).code == 0
    assert (again / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_resume_starts_from_the_run_s_own_copy(simroot: Simroot, pretrained: Path, tmp_path: Path) -> None:
    """A run that was killed in its first epoch goes on from the weights that it was given, wherever they are now."""
    run = tmp_path / "run"
    words = ("--recipe.epochs", "1", *QUICK)
    assert simroot("train", "--pretrain", pretrained, *words, "--out", run).code == 0
    weights = (run / "model.safetensors").read_bytes()
    for name in ("last.ckpt", "best.ckpt", "model.safetensors", "summary.json"):
        (run / name).unlink()
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["initial"] = str(tmp_path / "gone.safetensors")
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert simroot("train", "--resume", run, "--quiet").code == 0
    assert (run / "model.safetensors").read_bytes() == weights


@pytest.mark.slow
def test_train_pretrains_first(simroot: Simroot, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("--pretrain", "--pretrain.patches", "500", "--pretrain.scale", "likelihood", "--recipe.epochs", "1")
    assert simroot("train", *words, *QUICK, "--out", run).code == 0
    report = json.loads((run / "pretraining" / "report.json").read_text())
    assert report["scale"] == "likelihood"
    assert report["offsets"] == "labels"  # a training has them
    assert report["layers"][0]["patches"] == 500
    start = load_file(run / "pretraining" / "model.safetensors")
    assert all(torch.equal(start[name], tensor) for name, tensor in load_file(run / "initial.safetensors").items())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("pretrain",), "--out is missing"),
        (("pretrain", "--out", "{taken}"), "is in use"),
        (("pretrain", "--out", "{new}", "--model", "simnet_mlp"), "cannot be pre-trained"),
        (("pretrain", "--out", "{new}", "--model", "simnet2_small", "--patches", "9"), "too few"),
        (("pretrain", "--out", "{new}", "--dimension", "2"), "share between 0 and 1"),
        (("pretrain", "--out", "{new}", "--components", "nec"), "add --channels auto"),
        (("train", "--pretrain", "{new}"), "holds no pre-trained network"),
        (("train", "--pretrain.patches", "9"), "needs --pretrain without a directory"),
        (("train", "--pretrain", "{taken}", "--set", "channels=[4,4]", "--out", "{new}"), "does not fit"),
    ],
)
def test_what_is_refused(
    simroot: Simroot, pretrained: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    places = {"taken": pretrained, "new": tmp_path / "new"}
    result = simroot(*(word.format(**places) for word in words))
    assert result.code == 2
    assert message in result.err
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_an_experiment_s_pretrained_run_is_made_again_by_its_command(simroot: Simroot, tmp_path: Path) -> None:
    data = load("digits", limit=200)
    trial = Trial("simnet2_small", recipe(epochs=1, learning_rate=0.1), {"channels": [8, 12]}, pretrained=True)
    first = Runs(tmp_path / "runs", data, {"name_or_path": "digits", "limit": 200}).complete(trial, progress=False)
    words = shlex.split(command(read_config(first)))[1:]
    assert simroot(*words, "--out", tmp_path / "again", "--quiet").code == 0
    weights = [load_file(path / "model.safetensors") for path in (first, tmp_path / "again")]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
