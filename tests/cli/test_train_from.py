"""Trainings that start from another network, or learn from one."""

import json
from pathlib import Path

import pytest
import yaml

from cli.result import Simroot

WORDS = ("--limit", "60", "--recipe.epochs", "1", "--quiet")


@pytest.mark.slow
def test_from_a_run_and_with_a_run_as_teacher(simroot: Simroot, trained: Path, tmp_path: Path) -> None:
    """The network is the run's; a config.yaml says where both are, and makes the same run again."""
    first, again = tmp_path / "first", tmp_path / "again"
    words = ("--initial", trained, "--teacher", trained, "--recipe.distil", "0.5")
    assert simroot("train", *words, *WORDS, "--out", first).code == 0
    config = yaml.safe_load((first / "config.yaml").read_text())
    before = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["model"]["name"] == before["model"]["name"]
    assert config["data"]["source"]["image_size"] == before["data"]["image_size"]
    assert config["recipe"]["batch_size"] == 32
    assert config["model"]["initial"] == config["teacher"]["source"] == str(trained.resolve())
    assert json.loads((first / "summary.json").read_text())["teacher"]["seconds"] > 0
    assert "tensors fit" in (first / "train.log").read_text()
    assert simroot("train", "--config", first / "config.yaml", "--quiet", "--out", again).code == 0
    assert (again / "model.safetensors").read_bytes() == (first / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--initial", "{trained}", "--pretrain"), "--initial and --pretrain both say where the training starts"),
        (("--initial", "{none}"), "does not exist; expected the weights to start from"),
        (("--initial", "{folder}"), "holds no run"),
        (("--initial", "{trained}", "--model", "nin_compact"), "does not fit the network: no layer's weights"),
        (("--teacher", "{none}"), "cannot be used"),
        (("--teacher-weights", "{none}"), "--teacher-weights is"),
        (("--teacher", "torchvision:resnet18"), "add --teacher-weights FILE.safetensors, trained on"),
        (("--teacher", "{trained}", "--recipe.temperature", "0"), "temperature is 0"),
    ],
)
def test_what_is_refused(simroot: Simroot, trained: Path, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    places = {"trained": trained, "none": tmp_path / "none", "folder": tmp_path}
    result = simroot("train", *(word.format(**places) for word in words), *WORDS, "--out", tmp_path / "out")
    assert (result.code, message in result.err, result.err.count("\n")) == (2, True, 1), result.err
    assert not (tmp_path / "out").exists()
