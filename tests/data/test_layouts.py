"""How folders and archives are understood where names, links and formats could mislead."""

from __future__ import annotations

import logging
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from simroot.data import load
from simroot.data.tree import read_tree
from simroot.errors import DataError

COUNTS = {"cat": 10, "dog": 20}
Write = Callable[..., Path]
Pack = Callable[[Path, Path], Path]


def test_a_class_may_be_called_train(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path / "vehicles", {"bus": 5, "car": 5, "train": 5})
    assert load(tmp_path / "vehicles").classes == ("bus", "car", "train")


def test_parts_by_their_other_names(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path / "training", COUNTS)
    write_classes(tmp_path / "testing", {"cat": 1, "dog": 2})
    assert {part: list(classes) for part, classes in read_tree(tmp_path).items()} == {
        "train": ["cat", "dog"],
        "test": ["cat", "dog"],
    }


def test_formats_that_are_not_read_are_counted(
    tmp_path: Path, write_classes: Write, caplog: pytest.LogCaptureFixture
) -> None:
    write_classes(tmp_path, COUNTS)
    for place in ("dog/1.heic", "dog/2.HEIC", "cat/3.avif", "cat/notes.txt"):
        (tmp_path / place).touch()
    with caplog.at_level(logging.WARNING):
        assert load(tmp_path).classes == ("cat", "dog")
    assert "3 images in formats that are not read (convert them to .png or .jpg): 1 .avif, 2 .heic" in caplog.text
    assert "1 file that is no image: 1 .txt" in caplog.text


def test_links_to_a_common_pool(tmp_path: Path, write_classes: Write) -> None:
    """The same folder may be linked to from several places; a link that leads back ends."""
    pool = write_classes(tmp_path / "pool", COUNTS)
    root = tmp_path / "split"
    for part in ("train", "val"):
        (root / part).mkdir(parents=True)
        for name in COUNTS:
            (root / part / name).symlink_to(pool / name)
    (pool / "cat" / "back").symlink_to(root)
    tree = read_tree(root)
    assert {part: {name: len(files) for name, files in classes.items()} for part, classes in tree.items()} == {
        "train": COUNTS,
        "val": COUNTS,
    }


def test_what_is_no_regular_file_is_skipped(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path, COUNTS)
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    assert load(tmp_path).skipped == ("cat/pipe.png",)


def test_what_cannot_be_read_has_no_say_in_size_and_channels(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path, COUNTS, mode="L")
    large = write_classes(tmp_path / "large", {"x": 1}, size=(300, 200)) / "x" / "000.png"
    (tmp_path / "cat" / "cut.png").write_bytes(large.read_bytes()[:5000])
    shutil.rmtree(tmp_path / "large")
    data = load(tmp_path)
    assert (data.image_size, data.channels, data.skipped) == (8, 1, ("cat/cut.png",))
    assert len(data.train) + len(data.val) == 30


def test_hard_links_in_a_tar_are_images(tmp_path: Path, write_classes: Write, pack: Pack) -> None:
    pets = write_classes(tmp_path / "pets", COUNTS)
    (pets / "fish").mkdir()
    for number in range(5):
        os.link(pets / "cat" / f"00{number}.png", pets / "fish" / f"{number}.png")
    archive = pack(pets, tmp_path / "pets.tar")
    with tarfile.open(archive) as tar:
        assert sum(member.islnk() for member in tar) == 5
    tree = read_tree(archive)["whole"]
    assert {name: len(files) for name, files in tree.items()} == {"cat": 10, "dog": 20, "fish": 5}


def test_links_and_devices_of_archives_are_counted(
    tmp_path: Path, write_classes: Write, pack: Pack, caplog: pytest.LogCaptureFixture
) -> None:
    pets = write_classes(tmp_path / "pets", COUNTS)
    (pets / "cat" / "link.png").symlink_to("000.png")
    (pets / "cat" / "lost").symlink_to("../../../outside.png")
    os.mkfifo(pets / "dog" / "pipe")
    with caplog.at_level(logging.WARNING):
        data = load(pack(pets, tmp_path / "pets.tar"))
    assert len(data.train) + len(data.val) == 31
    assert "1 link that leads to nothing" in caplog.text
    assert "1 pipe, device" in caplog.text


@pytest.mark.parametrize("cut", [-30_000, -15_000, -11_000, -10_240])
def test_a_tar_that_is_cut_off_is_refused(tmp_path: Path, write_classes: Write, pack: Pack, cut: int) -> None:
    archive = pack(write_classes(tmp_path / "pets", COUNTS), tmp_path / "pets.tar")
    content = archive.read_bytes()
    archive.write_bytes(content.rstrip(b"\0")[:-1] if cut == -10_240 else content[:cut])
    with pytest.raises(DataError, match=r"pets.tar is not a readable .*: (it is cut off|unexpected end|empty header)"):
        load(archive)


def test_a_tar_with_a_damaged_header_is_refused(tmp_path: Path, write_classes: Write, pack: Pack) -> None:
    archive = pack(write_classes(tmp_path / "pets", COUNTS), tmp_path / "pets.tar")
    with tarfile.open(archive) as tar:
        offset = tar.getmembers()[15].offset
    content = bytearray(archive.read_bytes())
    content[offset + 3] ^= 1
    archive.write_bytes(content)
    with pytest.raises(DataError, match=f"cut off or damaged at byte {offset}"):
        load(archive)


def test_a_tar_that_ends_in_a_zip_is_a_tar(tmp_path: Path, write_classes: Write, pack: Pack) -> None:
    pets = write_classes(tmp_path / "pets", COUNTS)
    with zipfile.ZipFile(pets / "zz.zip", "w") as inner:
        inner.writestr("notes.txt", "notes")
    assert load(pack(pets, tmp_path / "pets.tar")).classes == ("cat", "dog")


def test_a_zip_with_a_broken_name_is_refused(tmp_path: Path, write_classes: Write, pack: Pack) -> None:
    archive = pack(write_classes(tmp_path / "pets", COUNTS), tmp_path / "pets.zip")
    content = archive.read_bytes()
    at = content.rindex(b"PK\x01\x02")  # the last entry of the directory: its name is said to be UTF-8, and is none
    broken = bytearray(content)
    broken[at + 9] |= 0x08
    broken[at + 46] = 0xFF
    archive.write_bytes(broken)
    with pytest.raises(DataError, match=r"pets.zip is not a readable"):
        load(archive)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train", "test1"), "test1 and train look like parts, but hold no class folders"),
        (("train_images", "test_images"), "look like parts, but hold no class folders"),
        (("trainA", "trainB", "testA", "testB"), "look like parts, but hold no class folders"),
        (("fold1", "fold2", "fold3"), "fold1 and fold2 look like pieces of one data set"),
        (("images_001", "images_002"), "images_001 and images_002 look like pieces of one data set"),
    ],
)
def test_parts_without_classes_are_no_classes(
    tmp_path: Path, write_classes: Write, names: tuple[str, ...], message: str
) -> None:
    write_classes(tmp_path, dict.fromkeys(names, 3))
    with pytest.raises(DataError, match=message):
        load(tmp_path)
    assert load(tmp_path, train=".").classes == tuple(sorted(names))


def test_data_sets_beside_one_another_are_no_classes(tmp_path: Path, write_classes: Write) -> None:
    for name in ("plants1", "plants2"):
        for part in ("train", "test"):
            write_classes(tmp_path / name / part, COUNTS)
    with pytest.raises(DataError, match="each of its folders holds test, train"):
        load(tmp_path)
