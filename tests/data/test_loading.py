"""Folders and archives of images: layouts, held-out parts, sizes, corrupt files, streaming."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from simroot.data import ImageData, Split, StreamedSplit, load, load_test
from simroot.data import reading as files
from simroot.errors import DataError

COUNTS = {"cat": 10, "dog": 20}
Write = Callable[..., Path]
Pack = Callable[[Path, Path], Path]


def same(first: ImageData, second: ImageData) -> bool:
    parts = ((first.train, second.train), (first.val, second.val))
    equal = all(torch.equal(a.labels, b.labels) and torch.equal(everything(a), everything(b)) for a, b in parts)
    return equal and (first.classes, first.mean, first.std) == (second.classes, second.mean, second.std)


def everything(split: Split) -> torch.Tensor:
    return split.read(torch.arange(len(split)))


def rows(images: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


def test_class_folders_hold_out_a_fifth_in_proportion(tmp_path: Path, write_classes: Write) -> None:
    data = load(write_classes(tmp_path / "pets", COUNTS))
    assert (data.name, data.classes, data.image_size, data.channels) == ("pets", ("cat", "dog"), 8, 3)
    assert data.train.labels.bincount().tolist() == [8, 16]
    assert data.val.labels.bincount().tolist() == [2, 4]
    assert not rows(data.train.read(torch.arange(24))) & rows(data.val.read(torch.arange(6)))
    assert data.train.labels.dtype == torch.int64
    assert data.train.images is not None
    assert data.train.images.dtype == torch.uint8


def test_labels_and_pixels_belong_together(tmp_path: Path) -> None:
    for value, name in ((10, "b"), (200, "a")):
        (tmp_path / name).mkdir()
        for number in range(5):
            Image.new("L", (4, 4), value + number).save(tmp_path / name / f"{number}.png")
    data = load(tmp_path)
    for split in (data.train, data.val):
        images = split.read(torch.arange(len(split)))
        assert torch.equal(images[:, 0, 0, 0] < 100, split.labels == 1)
    assert data.channels == 1


@pytest.mark.parametrize("validation", ["val", "valid", "validation", "test", "Val"])
def test_parts_are_taken_as_they_are(tmp_path: Path, write_classes: Write, validation: str) -> None:
    write_classes(tmp_path / "train", COUNTS)
    write_classes(tmp_path / validation, {"cat": 1, "dog": 2})
    data = load(tmp_path)
    assert (len(data.train), len(data.val)) == (30, 3)


def test_val_goes_before_test_and_test_is_kept_for_the_end(tmp_path: Path, write_classes: Write) -> None:
    for part, counts in (("train", COUNTS), ("val", {"cat": 1, "dog": 2}), ("test", {"cat": 3, "dog": 1})):
        write_classes(tmp_path / part, counts)
    data = load(tmp_path)
    assert data.val.labels.tolist() == [0, 1, 1]
    test = load_test(tmp_path, classes=("dog", "cat"), image_size=4, channels=1)
    assert sorted(test.labels.tolist()) == [0, 1, 1, 1]
    assert test.read(torch.tensor([0])).shape == (1, 1, 4, 4)


def test_an_error_does_not_wait_for_the_other_images(
    tmp_path: Path, write_classes: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_classes(tmp_path, {"cat": 30, "dog": 30})
    monkeypatch.setattr(files, "_CHUNK", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    tried: list[object] = []

    def interrupt(source: object) -> None:
        tried.append(source)
        if len(tried) == 1:
            raise KeyboardInterrupt
        time.sleep(0.05)  # an image takes its time

    monkeypatch.setattr(files, "probe", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load(tmp_path)
    assert len(tried) < 60


def test_training_folder_alone_is_split(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path / "train", COUNTS)
    assert len(load(tmp_path).val) == 6


def test_mean_and_std_are_those_of_the_training_part(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path / "train", COUNTS)
    write_classes(tmp_path / "val", {"cat": 9, "dog": 9})
    paths = sorted((tmp_path / "train").rglob("*.png"))
    values = np.stack([np.asarray(Image.open(path)) for path in paths]).astype(np.float64) / 255
    data = load(tmp_path)
    np.testing.assert_allclose(data.mean, values.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(data.std, values.std((0, 1, 2)), rtol=1e-12)


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz", ".zip"])
@pytest.mark.parametrize("layout", ["classes", "parts"])
def test_an_archive_is_its_folder(tmp_path: Path, write_classes: Write, pack: Pack, suffix: str, layout: str) -> None:
    folder = tmp_path / "pets"
    write_classes(folder if layout == "classes" else folder / "train", COUNTS)
    if layout == "parts":
        write_classes(folder / "val", COUNTS)
    assert same(load(pack(folder, tmp_path / f"packed{suffix}")), load(folder))


def test_wrapping_folders_and_stray_files_do_no_harm(
    tmp_path: Path, write_classes: Write, caplog: pytest.LogCaptureFixture
) -> None:
    plain = load(write_classes(tmp_path / "pets", COUNTS))
    outer = tmp_path / "outer"
    (outer / "inner").mkdir(parents=True)
    (tmp_path / "pets").rename(outer / "inner" / "pets")
    Image.new("RGB", (300, 200)).save(outer / "inner" / "preview.png")
    for name in ("pets/.DS_Store", "pets/cat/.hidden.png", "pets/cat/Thumbs.db", "notes.txt"):
        (outer / "inner" / name).write_bytes(b"no image")
    assert same(load(outer), plain)
    assert "ignored 1 image outside" in caplog.text


def test_folders_inside_a_class_belong_to_it(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path / "cat", {"old": 5, "new": 5})
    write_classes(tmp_path, {"dog": 10})
    assert load(tmp_path, validation=4).train.labels.bincount().tolist() == [8, 8]


def test_a_link_that_leads_back_is_not_followed_for_ever(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path, COUNTS)
    (tmp_path / "cat" / "again").symlink_to(tmp_path)
    assert len(load(tmp_path).train) == 24


def test_corrupt_images_are_named_skipped_and_listed(
    tmp_path: Path, write_classes: Write, caplog: pytest.LogCaptureFixture
) -> None:
    write_classes(tmp_path, COUNTS)
    for number in range(7):
        (tmp_path / "dog" / f"{number:03}.png").write_bytes(b"broken")
    truncated = tmp_path / "cat" / "009.png"
    truncated.write_bytes(truncated.read_bytes()[:60])
    data = load(tmp_path)
    assert data.skipped == ("cat/009.png", *(f"dog/{number:03}.png" for number in range(7)))
    assert len(data.train) + len(data.val) == 22
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 6  # five by name, then a summary
    assert "cat/009.png" in warnings[0]
    assert "8 corrupt images in all" in warnings[-1]


def test_corrupt_images_do_not_move_the_labels_of_others(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path / "train", {"cat": 4, "dog": 4}, mode="L")
    write_classes(tmp_path / "val", {"cat": 2, "dog": 2}, mode="L")
    for broken in ("train/cat/001.png", "val/cat/000.png"):
        (tmp_path / broken).write_bytes(b"")
    data = load(tmp_path)
    assert (data.train.labels.tolist(), data.val.labels.tolist()) == ([0, 0, 0, 1, 1, 1, 1], [0, 1, 1])
    last = np.asarray(Image.open(tmp_path / "val" / "cat" / "001.png"))
    assert np.array_equal(data.val.read(torch.tensor([0]))[0, 0].numpy(), last)


def test_sizes(tmp_path: Path, write_classes: Write, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "simroot")
    write_classes(tmp_path / "alike", COUNTS, size=12)
    write_classes(tmp_path / "oblong", COUNTS, size=(12, 10))
    write_classes(tmp_path / "mixed", {"cat": 5})
    write_classes(tmp_path / "mixed", {"dog": 5}, size=20)
    write_classes(tmp_path / "large", COUNTS, size=72)
    assert [load(tmp_path / name).image_size for name in ("alike", "oblong", "mixed", "large")] == [12, 64, 64, 64]
    for said in ("size 12: that of all", "images are 12 x 10", "images have 2 sizes", "images are 72 x 72"):
        assert said in caplog.text
    data = load(tmp_path / "mixed", image_size=9)
    assert data.image_size == 9
    assert data.train.read(torch.tensor([0])).shape == (1, 3, 9, 9)


def test_one_colour_image_makes_all_colour(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path, COUNTS, mode="L")
    assert load(tmp_path).channels == 1
    Image.new("RGB", (8, 8), "red").save(tmp_path / "cat" / "colour.png")
    data = load(tmp_path)
    assert data.channels == 3
    assert len(data.mean) == len(data.std) == 3


def test_constant_images_have_a_std_that_can_be_divided_by(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(5):
            Image.new("L", (4, 4), 77).save(tmp_path / name / f"{number}.png")
    data = load(tmp_path)
    assert (data.mean, data.std) == ((77 / 255,), (1 / 255,))


def test_limit_takes_a_stratified_part_of_train_and_leaves_val(tmp_path: Path, write_classes: Write) -> None:
    folder = write_classes(tmp_path, {"cat": 20, "dog": 40})
    whole, part = load(folder), load(folder, limit=12)
    assert part.train.labels.bincount().tolist() == [4, 8]
    assert torch.equal(everything(part.val), everything(whole.val))
    assert rows(everything(part.train)) <= rows(everything(whole.train))
    assert part.mean != whole.mean
    assert same(load(folder, limit=1000), whole)


def test_the_split_depends_on_the_seed_alone(tmp_path: Path, write_classes: Write) -> None:
    folder = write_classes(tmp_path, {"cat": 20, "dog": 40})
    assert same(load(folder), load(folder, seed=0))
    assert not same(load(folder), load(folder, seed=1))


@pytest.mark.parametrize(("validation", "held_out"), [(0.5, 15), (7, 7), (1, 1)])
def test_validation_is_a_fraction_or_a_number(
    tmp_path: Path, write_classes: Write, validation: float, held_out: int
) -> None:
    assert len(load(write_classes(tmp_path, COUNTS), validation=validation).val) == held_out


def streamed(path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageData:
    with monkeypatch.context() as patch:
        patch.setattr(files, "memory_budget", lambda: 0)
        return load(path)


@pytest.mark.parametrize("packed", [False, True])
def test_streamed_images_are_the_same_images(
    tmp_path: Path, write_classes: Write, pack: Pack, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    write_classes(tmp_path / "pets", COUNTS)
    (tmp_path / "pets" / "cat" / "003.png").write_bytes(b"broken")
    path = pack(tmp_path / "pets", tmp_path / "pets.tar.gz") if packed else tmp_path / "pets"
    data = streamed(path, monkeypatch)
    assert isinstance(data.train, StreamedSplit)
    assert data.train.images is None
    assert same(data, load(path))
    assert data.skipped == (("pets/" if packed else "") + "cat/003.png",)


def test_images_above_64_pixels_are_streamed(tmp_path: Path, write_classes: Write) -> None:
    data = load(write_classes(tmp_path, {"cat": 3, "dog": 3}), image_size=65)
    assert isinstance(data.train, StreamedSplit)
    assert data.train.read(torch.tensor([1, 0])).shape == (2, 3, 65, 65)


def test_a_streamed_image_that_vanishes_is_named(
    tmp_path: Path, write_classes: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = streamed(write_classes(tmp_path / "pets", COUNTS), monkeypatch)
    (tmp_path / "pets" / "cat" / "000.png").unlink()
    with pytest.raises(DataError, match=r"cat/000\.png can no longer be read: No such file"):
        list(map(everything, (data.train, data.val)))


def test_a_path_is_never_a_name(tmp_path: Path, write_classes: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write_classes(tmp_path / "digits", COUNTS)
    monkeypatch.chdir(tmp_path)
    assert load(Path("digits")).classes == load("./digits").classes == ("cat", "dog")
    monkeypatch.chdir(tmp_path / "digits")
    assert load(".").name == "digits"


def test_load_test_takes_class_folders_whole_and_by_name(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path / "some", {"dog": 3}, mode="L")
    (tmp_path / "some" / "cat").mkdir()
    Image.new("RGB", (8, 8), "red").save(tmp_path / "some" / "cat" / "0.png")
    split = load_test(tmp_path / "some", classes=("ant", "cat", "dog"), image_size=8, channels=3)
    assert split.labels.tolist() == [1, 2, 2, 2]
    with pytest.raises(DataError, match="does not know: dog"):
        load_test(tmp_path / "some", classes=("ant", "cat"), image_size=8, channels=3)
    write_classes(tmp_path / "only" / "train", COUNTS)
    with pytest.raises(DataError, match="has only a train folder"):
        load_test(tmp_path / "only", classes=("cat", "dog"), image_size=8, channels=3)


def shared_archive() -> Path | None:
    folders = [Path(__file__).parents[3] / "shared" / "data", Path(os.environ.get("SIMROOT_DATA", "."))]
    return next((path for f in folders if (path := f / "cifar10-train-images.tar.gz").is_file()), None)


@pytest.mark.slow
@pytest.mark.skipif(shared_archive() is None, reason="no cifar10-train-images.tar.gz in ../shared/data or SIMROOT_DATA")
def test_cifar10_as_an_archive_of_images() -> None:
    data = load(shared_archive() or "")
    assert data.train.labels.bincount().tolist() == [4000] * 10
    assert data.val.labels.bincount().tolist() == [1000] * 10
    assert (data.image_size, data.channels, data.skipped) == (32, 3, ())
    np.testing.assert_allclose(data.mean, (0.4914, 0.4822, 0.4465), atol=0.002)  # those of all 50,000 images
    np.testing.assert_allclose(data.std, (0.247, 0.2435, 0.2616), atol=0.002)
