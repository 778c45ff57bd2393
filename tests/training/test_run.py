from pathlib import Path

import pytest
import safetensors.torch
import torch
import yaml

from simroot.data import ImageData
from simroot.errors import CheckpointError, ConfigError
from simroot.training import load_run, train
from simroot.training.run import read_config
from training.support import QUICK


@pytest.fixture
def run_directory(data: ImageData, out: Path) -> Path:
    train("tiny", data, QUICK, out, overrides={"width": 4}, accelerator="cpu", progress=False)
    return out


def test_load_run(run_directory: Path, data: ImageData) -> None:
    run = load_run(str(run_directory))
    assert (run.model_name, run.image_size, run.channels) == ("tiny", 8, 3)
    assert (run.classes, run.mean, run.std) == (data.classes, data.mean, data.std)
    assert run.config["model"]["overrides"] == {"width": 4}
    assert run.model(torch.zeros(2, 3, 8, 8)).shape == (2, 3)
    with pytest.raises(ConfigError, match="expected 'best' or 'last'"):
        load_run(run_directory, "first")


def test_run_without_a_complete_epoch(run_directory: Path) -> None:
    (run_directory / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="has not completed an epoch"):
        load_run(run_directory)


@pytest.mark.parametrize("keep", [0, 4, 300, -1])
def test_truncated_weights(run_directory: Path, keep: int) -> None:
    file = run_directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged or truncated"):
        load_run(run_directory)


def test_weights_that_do_not_fit(run_directory: Path) -> None:
    file = run_directory / "model.safetensors"
    tensors = safetensors.torch.load_file(file)
    tensors["0.weight"] = torch.zeros(5, 3, 3, 3)
    tensors["extra"] = tensors.pop("8.bias")
    safetensors.torch.save_file(tensors, file)
    with pytest.raises(CheckpointError, match="does not fit") as caught:
        load_run(run_directory)
    for part in ("0.weight is (5, 3, 3, 3), expected (4, 3, 3, 3)", "8.bias is missing", "extra is not part"):
        assert part in str(caught.value)


GOOD = """
model: {name: tiny, overrides: {}}
data: {source: null, classes: [a, b], image_size: 8, channels: 3, mean: [0, 0, 0], std: [1, 1, 1], train: 5, val: 5}
recipe: {}
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model: [", "damaged"),
        ("", "damaged"),
        ("model: {name: tiny, overrides: {}}\ndata: {}\nrecipe: {}\n", "data lacks channels, classes, image_size"),
        (GOOD.replace("recipe: {}", "recipe: {epochs: -1}"), "recipe field epochs is -1"),
        (GOOD.replace("image_size: 8", "image_size: big"), "data.image_size is 'big'"),
        (GOOD.replace("overrides: {}", "overrides: [1]"), r"model.overrides is \[1\]"),
        (GOOD.replace("mean: [0, 0, 0]", "mean: [0]"), "no value for each of 3 channels"),
        ("recipe: !!python/object/apply:os.system ['true']\n", "damaged"),
        ("- 1\n", r"it is \[1\]; expected names and values"),
        (f"{GOOD}versions: 5\n", "versions is 5; expected names and values"),
        (GOOD.replace("source: null", "source: {1: x}"), "data.source has the name 1"),
        (GOOD.replace("source: null", "source: {limit: [1]}"), r"data.source.limit is \[1\]"),
        (GOOD.replace("overrides: {}", "overrides: {name: x, 3: y}"), "model.overrides has the name 3"),
        (GOOD.replace("classes: [a, b]", "classes: [a, 1]"), r"data.classes\[1\] is 1; expected text"),
        (GOOD.replace("image_size: 8", "image_size: 100000000"), "data.image_size is 100000000; expected a whole"),
        (GOOD.replace("std: [1, 1, 1]", "std: [1, 0, 1]"), r"data.std\[1\] is 0"),
        (GOOD.replace("recipe: {}", "recipe: {milestones: 5}"), "recipe field milestones is 5"),
        (GOOD.replace("recipe: {}", "recipe: {epochs: 100000000000000000}"), "recipe field epochs is 1000"),
        (GOOD.replace("recipe: {}", "recipe: {batch_size: {a: 1}}"), "recipe field batch_size is"),
        (GOOD.replace("recipe: {}", "recipe: {sharpness: 1}"), "was written by a newer version of simroot .this is"),
        (GOOD.replace("train: 5", "train: 5, pixels: 3"), "was written by a newer version of simroot .this is"),
        (
            GOOD.replace("train: 5", "train: null") + "versions: {simroot: '99.1'}",
            "by a newer version of simroot, '99.1'",
        ),
        (GOOD.replace("name: tiny", f"name: ['{'x' * 5000}']"), "model.name is"),
    ],
)
def test_damaged_config(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(CheckpointError, match=expected) as caught:
        read_config(tmp_path)
    assert "\n" not in str(caught.value)
    assert ("is damaged" in str(caught.value)) != ("newer" in expected)


def test_numbers_with_exponents(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(GOOD.replace("recipe: {}", "recipe: {learning_rate: 1e-3}"))
    assert read_config(tmp_path)["recipe"]["learning_rate"] == 0.001


def test_damaged_summary(run_directory: Path) -> None:
    (run_directory / "summary.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"summary\.json is damaged"):
        load_run(run_directory)


def test_config_is_enough_to_train_again(run_directory: Path, data: ImageData) -> None:
    config = yaml.safe_load((run_directory / "config.yaml").read_text())
    from simroot.training import Recipe

    assert Recipe.from_dict(config["recipe"]) == QUICK
    assert config["data"]["classes"] == list(data.classes)
    assert config["data"]["source"] is None
    assert set(config["versions"]) >= {"simroot", "torch", "lightning", "python", "processor", "threads"}
