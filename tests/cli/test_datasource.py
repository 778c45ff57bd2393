"""The arguments that name data and its parts."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from types import ModuleType

import pytest

from simroot.cli import design, reproduce, train
from simroot.cli.datasource import data_source
from simroot.design.budgets import Budget
from simroot.errors import ConfigError
from simroot.trials.runs import data_words


def parsed(command: ModuleType, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize("option", ["--val", "--val-part"])
def test_a_part_of_data_that_a_config_names(tmp_path: Path, option: str) -> None:
    (tmp_path / "held").mkdir()
    given = parsed(train, option, "held")
    assert data_source(given, {"name_or_path": tmp_path}) == {"val": "held"}
    with pytest.raises(ConfigError, match="--val needs --data or --train"):
        data_source(given)


@pytest.mark.parametrize("command", [design, reproduce])
def test_parts_beside_a_flag_that_trains(tmp_path: Path, command: ModuleType) -> None:
    words = ("--data", str(tmp_path), "--train-part", "a", "--val-part", "b", "--train")
    given = parsed(command, *words)
    assert given.train is True
    assert data_source(given) == {"name_or_path": tmp_path, "train": "a", "val": "b"}


def test_both_names_of_a_part_are_one(tmp_path: Path) -> None:
    for option in ("--train", "--train-part"):
        assert data_source(parsed(train, option, str(tmp_path))) == {"name_or_path": tmp_path, "train": "."}


def test_words_that_name_data_are_read_back_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the current directory, and from another one."""
    source = {
        "name_or_path": tmp_path / "my data",
        "image_size": (24, 32),
        "fit": "pad",
        "pixel_range": (-40.0, 80.0),
        "limit": 9,
        "validation": 0.25,
        "train": "a",
        "val": tmp_path / "elsewhere",
        "image_column": "a file",
        "split_column": "",
        "image_root": tmp_path / "images",
    }
    (tmp_path / "other").mkdir()
    for folder, place in ((tmp_path, "my data"), (tmp_path / "other", str(tmp_path / "my data"))):
        monkeypatch.chdir(folder)
        words = shlex.split(shlex.join(data_words(source)))
        assert words[:2] == ["--data", place]
        found = data_source(parsed(train, *words))
        paths = {name: Path(found[name]).resolve() for name in ("name_or_path", "val", "image_root")}
        assert found | paths == source
    named = data_words({"name_or_path": "cifar10", "data_root": tmp_path})
    assert named == ["--data", "cifar10", "--data-root", str(tmp_path)]


def test_the_words_that_design_prints_are_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = {"name_or_path": tmp_path / "my data", "train": "a", "image_size": 24}
    words = design._again(Budget(20_000, milliseconds=0.5), ["simnet_mixed, root 4"], source)
    assert words[:2] == ["simroot", "design"]
    given = parsed(design, *shlex.split(shlex.join(words[2:])))
    assert (given.parameters, given.milliseconds, given.families) == (20_000, 0.5, ["simnet_mixed, root 4"])
    assert given.train is True
    assert data_source(given) == {**source, "name_or_path": Path("my data")}
