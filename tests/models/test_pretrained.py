"""Weights that come with simroot: made of a run, listed, loaded, started from; damaged and missing ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import simroot
from simroot.data import from_arrays
from simroot.errors import CheckpointError, ConfigError
from simroot.images.preparation import Preparation
from simroot.measure import count
from simroot.models import create_model, deploy, list_models, list_pretrained, model_entry, pretrained, registry
from simroot.models.pretrained import register_pretrained
from simroot.training import Recipe, choose
from simroot.training.initial import origin_of, place_of, read_start
from simroot.training.run import WEIGHTS, Run, save_weights
from simroot.training.shipping import ship
from simroot.training.teacher import open_teacher

NAME = "tiny_grey"
CLASSES = ("cat", "dog", "owl")


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return create_model("simnet2_small", 3, 1, image_size=8, channels=[3, 4]).eval()


@pytest.fixture
def shipped(network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one network; what simroot comes with is out of sight."""
    folder = tmp_path / "weights"
    monkeypatch.setattr(pretrained, "FOLDER", folder)
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    ship(run(network, tmp_path), NAME, folder)
    register_pretrained()
    return folder


def run(network: nn.Module, path: Path, **changes: Any) -> Run:
    """A run that nobody trained."""
    save_weights(path / WEIGHTS, network)
    cost = count(deploy(network), (1, 8, 8))
    figures = {"accuracy": 0.625, "epochs": 3, "parameters": cost.parameters, "macs": cost.macs}
    preparation = Preparation(1, 8)
    images = {"name": "pets", "classes": list(CLASSES), **preparation.to_dict(), "mean": [0.5], "std": [0.25]}
    config = {
        "model": {"name": "simnet2_small", "overrides": {"channels": [3, 4]}},
        "data": {**images, "train": 60, "val": 16},
        "recipe": Recipe(epochs=3).to_dict(),
        "teacher": {"source": "/runs/large", "weights": None},
    }
    known = {"mean": (0.5,), "std": (0.25,), "preparation": preparation, "summary": figures}
    fields = {"path": path, "model": network, "model_name": "simnet2_small", "config": config, "classes": CLASSES}
    return Run(**{**fields, **known, **changes})


@torch.no_grad()
def test_a_name_gives_the_trained_network(shipped: Path, network: nn.Module) -> None:
    assert simroot.list_pretrained() == list_pretrained() == [NAME]
    torch.manual_seed(7)
    before = torch.get_rng_state()
    model = simroot.create_model(NAME, 3, 1, pretrained=True)
    assert torch.equal(torch.get_rng_state(), before)
    assert not model.training
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(model(x), network(x), rtol=0, atol=0)
    known: Any = model.pretrained
    assert (known["mean"], known["std"], known["classes"]) == ([0.5], [0.25], list(CLASSES))
    assert (known["accuracy"], known["recipe"]["epochs"]) == (0.625, 3)
    torch.testing.assert_close(deploy(model)(x), network(x), rtol=1e-4, atol=1e-5)


def test_the_name_is_a_registered_network(shipped: Path) -> None:
    assert NAME in list_models("tiny*")
    entry = model_entry(NAME)
    assert (entry.input_size, entry.num_classes, entry.overrides["channels"]) == ((1, 8, 8), 3, [3, 4])
    cost = count(deploy(create_model(NAME, 3, 1, image_size=8)), (1, 8, 8))
    assert (entry.parameters, entry.macs) == (cost.parameters, cost.macs)
    assert not hasattr(create_model(NAME, 3, 1, image_size=8), "pretrained")


def test_its_card_says_what_it_is(shipped: Path) -> None:
    card = (shipped / f"{NAME}.md").read_text()
    assert f'simroot.create_model("{NAME}", pretrained=True)' in card
    assert "| classes | cat, dog, owl |" in card
    assert "| images | 1 channel of 8 x 8 pixels, mean 0.500, deviation 0.250" in card
    assert "| accuracy | 62.50% on 16 validation images of pets |" in card
    assert "| training | 60 images, 3 epochs, seed 0, taught by large |" in card


def test_it_teaches_whatever_its_classes_and_channels_are(shipped: Path) -> None:
    images = torch.randint(256, (12, 1, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    data = from_arrays(images, torch.arange(12) % 2, classes=("owl", "cat"), validation=4)
    scores = open_teacher({"source": NAME, "weights": None}, data).scores(torch.zeros(2, 1, 8, 8))
    assert scores.shape == (2, 2)


def test_a_training_starts_from_it_by_its_name(shipped: Path) -> None:
    place = place_of(NAME)
    assert place == shipped / f"{NAME}.safetensors"
    assert origin_of(place) == ("simnet2_small", {"channels": [3, 4]}, 8)
    start = read_start(place)
    assert start.classes == CLASSES
    assert start.tensors.keys() == load_file(place).keys()
    assert place_of("runs/one") == Path("runs/one")


def test_network_and_rate_are_its_own_where_no_model_is_named(shipped: Path) -> None:
    choice = choose(from_arrays(torch.zeros(100, 1, 16, 16).byte(), torch.arange(100) % 2, validation=20), NAME)
    assert (choice.model, choice.overrides) == ("simnet2_small", {"channels": [3, 4]})
    assert choice.recipe.learning_rate == model_entry("simnet2_small").recipe.get("learning_rate", 0.1) / 2
    assert (choice.recipe.batch_size, choice.recipe.epochs) == (32, 200)
    assert choice.reasons[0] == "network simnet2_small: that of the weights to start from"


def wrong_shape(folder: Path) -> None:
    path = folder / f"{NAME}.safetensors"
    tensors = load_file(path)
    first = next(iter(tensors))
    save_file({**tensors, first: torch.zeros(2, 2)}, path)


def cut(folder: Path) -> None:
    path = folder / f"{NAME}.safetensors"
    path.write_bytes(path.read_bytes()[:-9])


def changed(key: str, value: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / f"{NAME}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (wrong_shape, r"the weights of tiny_grey do not fit it: .* is \(2, 2\), expected"),
        (cut, r"tiny_grey.safetensors is missing or damaged"),
        (lambda folder: (folder / f"{NAME}.safetensors").unlink(), r"tiny_grey.safetensors is missing or damaged"),
        (lambda folder: (folder / f"{NAME}.json").write_text("{"), r"tiny_grey.json is damaged"),
        (changed("accuracy", 7), r"tiny_grey.json is damaged: accuracy"),
        (changed("mean", [0.5, 0.5]), r"mean and std have no value for each of 1 channels"),
        (changed("overrides", {"channels": [3, 5]}), r"the weights of tiny_grey do not fit it"),
    ],
)
def test_damaged_files_are_refused(shipped: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(shipped)
    with pytest.raises(CheckpointError, match=message):
        create_model(NAME, 3, 1, pretrained=True)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("simnet2", {}, "simnet2 has no weights to start from; .*tiny_grey"),
        ("torchvision:resnet18", {}, "torchvision:resnet18 has no weights to start from; .*tiny_grey"),
        (NAME, {"num_classes": 10}, "the weights of tiny_grey are for num_classes=3; received 10: take it, or"),
        (NAME, {"channels": [4, 4]}, r"are for channels=\[3, 4\]; received \[4, 4\]"),
        (NAME, {"order": 1.0}, "are for order=None; received 1.0"),
        (NAME, {"pretrained": 1}, "pretrained of tiny_grey is 1; expected True or False"),
    ],
)
def test_what_has_no_weights_says_which_have(shipped: Path, name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_model(name, **{"num_classes": 3, "in_channels": 1, "pretrained": True, **arguments})


def test_without_any_weights_the_message_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    assert list_pretrained() == []
    with pytest.raises(ConfigError, match="simnet2 has no weights to start from; no network of this version has some"):
        create_model("simnet2", pretrained=True)


def test_only_finished_runs_with_names_of_their_own_are_shipped(network: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not finished; expected a run with its summary"):
        ship(run(network, tmp_path, summary={}), NAME, tmp_path)
    with pytest.raises(ConfigError, match="the name is 'a/b'; expected lower case letters"):
        ship(run(network, tmp_path), "a/b", tmp_path)
    with pytest.raises(ConfigError, match="simnet2 is a registered network; expected another name, as in simnet2_cif"):
        ship(run(network, tmp_path), "simnet2", tmp_path)


@pytest.mark.parametrize("name", list_pretrained() or [pytest.param("", marks=pytest.mark.skip("none come with it"))])
def test_what_comes_with_simroot_can_be_loaded(name: str) -> None:
    entry = model_entry(name)
    model = create_model(name, entry.num_classes, entry.in_channels, pretrained=True)
    assert model(torch.zeros(1, *entry.input_size)).shape == (1, entry.num_classes)
