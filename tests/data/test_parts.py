"""Which folders are parts and which are classes: layouts of known sites, names given, and what is refused."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from simroot.data import load, load_test
from simroot.data.classes import class_lines
from simroot.data.tree import part_of, read_tree
from simroot.errors import DataError

COUNTS = {"cats": 6, "dogs": 8}
FEW = {"cats": 2, "dogs": 3}
Write = Callable[..., Path]
Pack = Callable[[Path, Path], Path]


def sizes(path: Path) -> dict[str, dict[str, int]]:
    return {part: {name: len(files) for name, files in found.items()} for part, found in read_tree(path).items()}


@pytest.mark.parametrize(
    ("train", "other", "part"),
    [
        ("training_set/training_set", "test_set/test_set", "test"),
        ("seg_train/seg_train", "seg_test/seg_test", "test"),
        ("seg_train", "seg_test", "test"),
        ("train_images", "val_images", "val"),
        ("Train", "Validation", "val"),
        ("trainset", "testset", "test"),
        ("train data", "valid-data", "val"),
        ("train2017", "val2017", "val"),
        ("train/images", "val/images", "val"),
        ("train/train", "valid/valid", "val"),
        ("data/images/training", "data/images/testing", "test"),
    ],
)
def test_parts_are_found_by_their_names(
    tmp_path: Path, write_classes: Write, train: str, other: str, part: str
) -> None:
    write_classes(tmp_path / train, COUNTS)
    write_classes(tmp_path / other, FEW)
    assert sizes(tmp_path) == {"train": COUNTS, part: FEW}


@pytest.mark.parametrize("extra", ["seg_pred/seg_pred", "seg_pred", "unlabelled"])
def test_images_without_labels_beside_the_parts_are_counted(
    tmp_path: Path, write_classes: Write, caplog: pytest.LogCaptureFixture, extra: str
) -> None:
    write_classes(tmp_path / "seg_train/seg_train", COUNTS)
    write_classes(tmp_path / "seg_test/seg_test", FEW)
    shutil.copytree(tmp_path / "seg_test/seg_test/dogs", tmp_path / extra)
    assert sizes(tmp_path) == {"train": COUNTS, "test": FEW}
    assert "ignored 3 images" in caplog.text


def test_a_test_part_without_labels_is_said(
    tmp_path: Path, write_classes: Write, caplog: pytest.LogCaptureFixture
) -> None:
    write_classes(tmp_path / "train", {"cats": 10, "dogs": 10})
    write_classes(tmp_path / "x", {"test": 4})
    (tmp_path / "x" / "test").rename(tmp_path / "test")
    (tmp_path / "x").rmdir()
    data = load(tmp_path)
    assert (data.classes, len(data.train), len(data.val)) == (("cats", "dogs"), 16, 4)
    assert "test has no class folders, so that a part of the training images is held out" in caplog.text


def test_parts_inside_of_the_classes(tmp_path: Path, write_classes: Write) -> None:
    for name in COUNTS:
        write_classes(tmp_path / name, {"train": COUNTS[name], "test": FEW[name]})
    assert sizes(tmp_path) == {"train": COUNTS, "test": FEW}


@pytest.mark.parametrize(("path", "within"), [("flowers/flowers", ""), ("train/train", "train")])
def test_a_copy_of_the_classes_is_left_out(
    tmp_path: Path, write_classes: Write, caplog: pytest.LogCaptureFixture, path: str, within: str
) -> None:
    classes = write_classes(tmp_path / Path(path).parent, COUNTS)
    shutil.copytree(classes, tmp_path / "copy")
    (tmp_path / "copy").rename(tmp_path / path)
    assert sizes(tmp_path) == {within or "whole": COUNTS}
    assert "left out" in caplog.text
    assert "a copy of the folders beside it (14 images)" in caplog.text
    assert "ignored" not in caplog.text


def folds(path: Path, write: Write) -> None:
    for fold in ("fold1", "fold2", "fold3"):
        write(path / fold, COUNTS)


def other_images(path: Path, write: Write) -> None:
    write(path, COUNTS)
    write(path / "more" / "of_them", COUNTS)
    (path / "more" / "of_them").rename(path / "flowers")
    (path / "more").rmdir()


def two_trainings(path: Path, write: Write) -> None:
    write(path / "train_a", COUNTS)
    write(path / "train_b", COUNTS)


def a_part_or_a_class(path: Path, write: Write) -> None:
    write(path / "train", {"freight": 2, "local": 3})
    write(path, {"bus": 2})


@pytest.mark.parametrize("make", [folds, other_images, two_trainings, a_part_or_a_class])
def test_what_may_be_parts_or_classes_is_refused(
    tmp_path: Path, write_classes: Write, make: Callable[[Path, Write], None]
) -> None:
    make(tmp_path, write_classes)
    with pytest.raises(DataError, match=r"name the parts, as in --train \w+ --val \w+") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "counts", [{"train_station": 3, "airport": 4}, {"test_tube": 3, "flask": 4}, {"valid": 3, "forged": 4}]
)
def test_classes_may_be_called_like_parts(tmp_path: Path, write_classes: Write, counts: dict[str, int]) -> None:
    for name, count in counts.items():
        write_classes(tmp_path / name, {f"{name}-old": count, f"{name}-new": 1})
    assert set(load(tmp_path).classes) == set(counts)


@pytest.mark.parametrize("packed", [False, True])
def test_parts_that_are_given(
    tmp_path: Path, write_classes: Write, pack: Pack, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folds(tmp_path / "pets", write_classes)
    write_classes(tmp_path / "elsewhere", FEW)
    path = pack(tmp_path / "pets", tmp_path / "pets.zip") if packed else tmp_path / "pets"
    data = load(path, train="fold1", val="fold3")
    assert (data.classes, len(data.train), len(data.val)) == (("cats", "dogs"), 14, 14)
    assert len(load(path, train="fold2", validation=4).val) == 4
    monkeypatch.chdir(tmp_path)
    assert len(load(path, train="fold1", val="elsewhere").val) == 5
    assert len(load(path, train=Path("elsewhere"), val=tmp_path / "elsewhere").train) == 5
    assert load(path, train=".").classes == ("fold1", "fold2", "fold3")
    with pytest.raises(DataError, match="has no folder fold4; its folders are fold1, fold2, fold3"):
        load(path, train="fold4")
    with pytest.raises(DataError, match="has no class folders with images in fold1/cats"):
        load(path, train="fold1/cats")


def test_a_validation_part_may_lie_elsewhere(tmp_path: Path, write_classes: Write) -> None:
    data = load(write_classes(tmp_path / "pets", COUNTS), val=write_classes(tmp_path / "others", FEW))
    assert (data.name, len(data.train), len(data.val)) == ("pets", 14, 5)


def test_a_named_set_has_its_own_parts() -> None:
    with pytest.raises(DataError, match="digits has parts of its own"):
        load("digits", train="fold1")


def test_classes_their_numbers_and_where_they_come_from_are_said(
    tmp_path: Path, write_classes: Write, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "simroot")
    write_classes(tmp_path / "pets" / "seg_train" / "seg_train", COUNTS)
    write_classes(tmp_path / "many", {f"{number:02}": 2 for number in range(22)})
    said = "\n".join(
        line for data in (tmp_path / "pets", "digits", tmp_path / "many") for line in class_lines(load(data))
    )
    load_test(tmp_path / "pets" / "seg_train", classes=("cats", "dogs", "fish"), image_size=8, channels=3)
    for line in (
        "11 training images of 2 classes, from seg_train/seg_train: cats 5, dogs 6",
        "3 validation images of 2 classes, from seg_train/seg_train, held out: cats 1, dogs 2",
        "14 labelled images of 3 classes, from seg_train: cats 6, dogs 8, fish 0",
        "1,437 training images of 10 classes, from the named set: 0 142, 1 145",
        "19 2 and 2 more (1 to 2 each)",
    ):
        assert line in said + caplog.text


def test_a_folder_of_a_named_sets_name(
    tmp_path: Path, write_classes: Write, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_classes(tmp_path / "digits", COUNTS)
    monkeypatch.chdir(tmp_path)
    assert load("digits").named == "digits"
    assert "digits is the named data set here, not the path of that name: give ./digits for it" in caplog.text
    assert load("./digits").named is None


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("train", ("train", ())),
        ("Training_Set", ("train", ())),
        ("validation-images", ("val", ())),
        ("testdata", ("test", ())),
        ("seg_test", ("test", ("seg",))),
        ("strain", None),
        ("contest", None),
        ("train_test", None),
        ("cats", None),
        ("训练", None),
    ],
)
def test_names_of_parts(name: str, found: object) -> None:
    assert part_of(name) == found
