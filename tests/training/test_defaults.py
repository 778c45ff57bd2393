"""The network and the recipe that the data is given: rules, words, overrides, and the end of a training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from simroot.data import ImageData, MemorySplit
from simroot.errors import ConfigError
from simroot.images.preparation import Preparation
from simroot.models import create_model, deploy, list_pretrained, model_entry
from simroot.training import Recipe, choose, resume, train
from simroot.training.callbacks import stalled
from simroot.training.defaults import registered
from training.support import small_data
from training.test_train import rows


def images(count: int, size: int = 32, channels: int = 3) -> ImageData:
    """Data of so many training images, none of which is looked at: they share their memory."""
    train = MemorySplit(
        torch.zeros(1, channels, size, size, dtype=torch.uint8).expand(count, -1, -1, -1), torch.zeros(count)
    )
    return ImageData(
        "data", tuple("0123456789"), Preparation(channels, size), train, train, (0.5,) * channels, (0.2,) * channels
    )


def test_digits_keep_the_small_sibling_and_its_recipe() -> None:
    choice = choose(images(1437, 8, 1))
    assert (choice.model, choice.overrides) == ("simnet2_small", {})
    assert choice.recipe == registered("simnet2_small")


@pytest.mark.parametrize(
    ("count", "epochs", "batch", "rate"),
    [
        (20, 200, 32, 0.1),
        (200, 198, 32, 0.1),
        (1_000, 89, 32, 0.1),
        (5_000, 40, 64, 0.15),
        (40_000, 14, 128, 0.2),
        (10**6, 10, 128, 0.2),
    ],
)
def test_fewer_images_are_seen_more_often_in_smaller_batches(count: int, epochs: int, batch: int, rate: float) -> None:
    found = choose(images(count)).recipe
    assert (found.epochs, found.batch_size, found.learning_rate) == (epochs, batch, rate)
    assert found.patience is not None
    assert found.patience >= 10


@pytest.mark.parametrize(("count", "size", "most"), [
    (1_000, 32, 20_000), (1_000, 64, 20_000), (1_000, 224, 20_000), (40_000, 32, 65_000), (40_000, 64, 65_000)
])  # fmt: skip
def test_size_of_the_network(count: int, size: int, most: int) -> None:
    choice = choose(images(count, size))
    network = deploy(create_model(choice.model, 10, 3, image_size=size, **choice.overrides))
    assert 0.85 * most < sum(parameter.numel() for parameter in network.parameters()) <= most


def test_large_images_are_turned_zoomed_and_jittered() -> None:
    small, large = (choose(images(1_000, size)).recipe.augmentation for size in (32, 64))
    assert not small
    assert (large.rotate, large.zoom, large.jitter, large.erase) == (15.0, 0.15, 0.2, 0.0)


def test_it_says_what_and_why() -> None:
    text = "\n".join(choose(images(1_315, 64)).reasons)
    for part in (
        "simnet_residual",
        "1,315 training images",
        "64 pixels",
        "4 grids",
        "77 epochs",
        "batches of 32",
        "rotate 15",
    ):
        assert part in text


@pytest.mark.parametrize(("count", "channels", "said"), [(99, 3, True), (100, 3, False), (99, 1, False)])
def test_where_there_are_few_images_a_start_is_named(count: int, channels: int, said: bool) -> None:
    named = [
        each for each in list_pretrained() if any(each in why for why in choose(images(count, 32, channels)).reasons)
    ]
    assert len(named) == said


def test_without_a_name_or_a_recipe_both_are_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the command line does; what is given wins."""
    monkeypatch.setattr("simroot.training.run.create_model", create_model)  # others here train a tiny network
    data = small_data(size=12)
    chosen = replace(choose(data).recipe, epochs=1)
    run = train(None, data, chosen, tmp_path / "run", overrides={"channels": 4}, progress=False, accelerator="cpu")
    assert run.model_name == "simnet_residual"
    assert run.config["model"]["overrides"] == {"channels": 4}
    assert run.recipe.batch_size == 32
    said = (tmp_path / "run" / "train.log").read_text()
    assert "network simnet_residual" in said
    assert "as told, in place of that: epochs 1, channels 4\n" in said


def test_nothing_told_nothing_said_about_it() -> None:
    choice = choose(images(1_000))
    assert choice.notes(choice.recipe, choice.overrides) == choice.reasons


def test_a_network_without_a_recipe_has_its_registered_one() -> None:
    assert registered("simnet2") == Recipe(**model_entry("simnet2").recipe) == Recipe(learning_rate=0.2, clip_norm=5.0)


def history(*values: tuple[float, float]) -> list[dict[str, float]]:
    return [{"val_accuracy": accuracy, "val_loss": loss} for accuracy, loss in values]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(0.5, 1.0), (0.5, 1.0)], False),  # not yet as many as patience and one
        ([(0.5, 1.0), (0.5, 1.0), (0.5, 1.0)], True),
        ([(0.5, 1.0), (0.5, 1.0), (0.5, 0.9)], False),  # the loss moves
        ([(0.5, 1.0), (0.6, 1.1), (0.5, 1.1)], False),  # so does the accuracy
        ([(0.6, 0.9), (0.5, 1.0), (0.6, 0.9)], True),
        ([(0.1, 2.0), (0.6, 0.9), (0.5, 1.0), (0.6, 0.9)], True),
    ],
)
def test_nothing_moves(rows: list[tuple[float, float]], expected: bool) -> None:
    assert stalled(history(*rows), Recipe(patience=2)) is expected
    assert not stalled(history(*rows), Recipe())


@pytest.fixture
def still(tmp_path: Path) -> dict[str, Any]:
    """Arguments of a training in which nothing moves: a rate so small that weights stay as they are."""
    recipe = Recipe(epochs=9, batch_size=16, learning_rate=1e-30, schedule="constant", warmup=0.0, patience=2)
    return {
        "model_name": "tiny",
        "data": small_data(),
        "recipe": recipe,
        "progress": False,
        "accelerator": "cpu",
    }


def test_a_training_ends_when_nothing_moves(still: dict[str, Any], tmp_path: Path) -> None:
    run = train(**still, out=tmp_path / "run")
    assert run.summary["epochs"] < 9
    assert len(rows(run.path)) == run.summary["epochs"]
    assert "nothing has improved for 2 epochs" in (run.path / "train.log").read_text()
    again = resume(run.path, data=still["data"], progress=False, accelerator="cpu")
    assert again.summary["epochs"] == run.summary["epochs"]


@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_wrong_patience_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match="patience is"):
        Recipe(patience=value)
