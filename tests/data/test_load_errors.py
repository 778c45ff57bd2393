"""What cannot be trained on gets one clear line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from simroot.data import load
from simroot.errors import DataError

COUNTS = {"cat": 10, "dog": 20}
Write = Callable[..., Path]


def empty(path: Path, write: Write) -> Path:
    return path


def one_class(path: Path, write: Write) -> Path:
    return write(path, {"cat": 5})


def no_class_folders(path: Path, write: Write) -> Path:
    return write(path, {"cat": 5}) / "cat"


def only_val(path: Path, write: Write) -> Path:
    write(path / "val", COUNTS)
    return path


def unequal(path: Path, write: Write) -> Path:
    write(path / "train", COUNTS)
    write(path / "val", {"cat": 5, "dgo": 5})
    return path


def all_corrupt(path: Path, write: Write) -> Path:
    for file in write(path, COUNTS).rglob("*.png"):
        file.write_bytes(b"broken")
    return path


def one_class_corrupt(path: Path, write: Write) -> Path:
    for file in (write(path, COUNTS) / "dog").rglob("*.png"):
        file.write_bytes(b"broken")
    return path


def val_corrupt(path: Path, write: Write) -> Path:
    write(path / "train", COUNTS)
    for file in write(path / "val", COUNTS).rglob("*.png"):
        file.write_bytes(b"broken")
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (empty, "holds no images"),
        (one_class, r"one class \(cat\): expected at least 2"),
        (no_class_folders, "has no class folders"),
        (only_val, "has val but no train folder"),
        (unequal, "only in training: dog; only in validation: dgo"),
        (all_corrupt, r"none of the 30 images can be decoded; the first, cat/000\.png: not an image"),
        (one_class_corrupt, "no training image of dog"),
        (val_corrupt, "no validation image that can be used"),
    ],
)
def test_what_cannot_be_trained_on(
    tmp_path: Path, write_classes: Write, make: Callable[[Path, Write], Path], message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(make(tmp_path, write_classes))
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_files_without_permission_are_skipped(tmp_path: Path, write_classes: Write) -> None:
    (write_classes(tmp_path, COUNTS) / "cat" / "000.png").chmod(0)
    assert load(tmp_path).skipped == ("cat/000.png",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"validation": 0}, "validation=0 holds out 0 of 30"),
        ({"validation": 30}, "holds out 30 of 30"),
        ({"validation": -0.5}, "holds out -15 of 30"),
        ({"validation": 0.97}, "no training image of cat"),
        ({"validation": 2.5}, "validation=2.5 holds out"),
        ({"validation": float("nan")}, "validation=nan"),
        ({"limit": 0}, "limit is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"limit": 1}, "no training image of"),
        ({"image_size": 0}, "image_size is 0"),
    ],
)
def test_arguments_out_of_range(
    tmp_path: Path, write_classes: Write, arguments: dict[str, float], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load(write_classes(tmp_path, COUNTS), **arguments)  # type: ignore[arg-type]


def test_validation_beside_a_validation_part_is_refused(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path / "train", COUNTS)
    write_classes(tmp_path / "val", COUNTS)
    with pytest.raises(DataError, match="validation part of its own"):
        load(tmp_path, validation=0.1)


def test_unknown_names_get_the_nearest_one() -> None:
    with pytest.raises(DataError, match="did you mean cifar10"):
        load("cifar-10")
    with pytest.raises(DataError, match="expected a path or one of digits"):
        load("/no/such/folder")
