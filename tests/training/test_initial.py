"""Training from weights that are given."""

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from simroot.data import ImageData
from simroot.errors import CheckpointError
from simroot.training import load_run, recipe, train
from training.support import QUICK, tiny_network


def given(path: Path, width: int = 8) -> Path:
    torch.manual_seed(5)
    save_file(tiny_network(3, 3, image_size=8, width=width).state_dict(), path)
    return path


def test_starts_from_them_and_keeps_a_copy(data: ImageData, out: Path, tmp_path: Path) -> None:
    initial = given(tmp_path / "start.safetensors")
    chosen = recipe(**{**QUICK.to_dict(), "epochs": 1, "learning_rate": 1e-9})
    train("tiny", data, chosen, out, initial=initial, accelerator="cpu", progress=False)
    expected, trained = load_file(initial), load_run(out).model.state_dict()
    assert all(torch.allclose(trained[name], expected[name], atol=1e-6) for name in expected)
    copied = load_file(out / "initial.safetensors")
    assert all(torch.equal(copied[name], expected[name]) for name in expected)
    assert yaml.safe_load((out / "config.yaml").read_text())["model"]["initial"] == str(initial.resolve())


def test_without_them_nothing_is_recorded(data: ImageData, out: Path) -> None:
    train("tiny", data, recipe(**{**QUICK.to_dict(), "epochs": 1}), out, accelerator="cpu", progress=False)
    assert "initial" not in yaml.safe_load((out / "config.yaml").read_text())["model"]
    assert not (out / "initial.safetensors").exists()


def test_weights_that_cannot_be_used(data: ImageData, out: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist; expected the weights to start from"):
        train("tiny", data, QUICK, out, initial=tmp_path / "none.safetensors", progress=False)
    with pytest.raises(CheckpointError, match="does not fit the network"):
        train("tiny", data, QUICK, out, initial=given(tmp_path / "wide.safetensors", 9), progress=False)
    assert not out.exists()
