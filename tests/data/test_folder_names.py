"""Names of classes and files, in whatever bytes they come."""

from __future__ import annotations

import logging
import os
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from simroot.data import load

COUNTS = {"cat": 5, "dog": 5}
NAMES = ("hündchen", "kätzchen")
Write = Callable[..., Path]
Pack = Callable[[Path, Path], Path]


def zipped(folder: Path, archive: Path, rename: Callable[[str], str]) -> Path:
    with zipfile.ZipFile(archive, "w") as target:
        for path in sorted(folder.rglob("*.png")):
            target.writestr(rename(path.relative_to(folder).as_posix()), path.read_bytes())
    return archive


def test_utf8_names_of_a_zip_without_the_flag(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path / "pets", dict.fromkeys(NAMES, 5))
    archive = zipped(tmp_path / "pets", tmp_path / "pets.zip", lambda name: name)
    content = bytearray(archive.read_bytes())
    for mark, at in ((b"PK\x01\x02", 9), (b"PK\x03\x04", 7)):  # bit 11 of the flags
        position = content.find(mark)
        while position >= 0:
            content[position + at] &= ~0x08
            position = content.find(mark, position + 1)
    archive.write_bytes(content)
    assert load(archive).classes == NAMES


def test_a_zip_with_names_in_an_old_code_page_keeps_its_classes_apart(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path / "pets", {"a": 5, "b": 5})
    archive = zipped(
        tmp_path / "pets", tmp_path / "pets.zip", lambda name: name.replace("a/", "é/").replace("b/", "ü/")
    )
    content = archive.read_bytes().replace("é".encode(), b"\x82_").replace("ü".encode(), b"\x81_")
    without = bytearray(content)
    for mark, at in ((b"PK\x01\x02", 9), (b"PK\x03\x04", 7)):
        position = without.find(mark)
        while position >= 0:
            without[position + at] &= ~0x08
            position = without.find(mark, position + 1)
    archive.write_bytes(without)
    assert load(archive).classes == ("é_", "ü_")


def test_backslashes_in_a_zip_are_folders(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path / "pets", COUNTS)
    archive = zipped(tmp_path / "pets", tmp_path / "pets.zip", lambda name: f"top\\{name}".replace("/", "\\"))
    assert load(archive).classes == ("cat", "dog")
    outside = zipped(tmp_path / "pets", tmp_path / "out.zip", lambda name: f"..\\{name}".replace("/", "\\"))
    with zipfile.ZipFile(outside, "a") as more:
        for path in (tmp_path / "pets").rglob("*.png"):
            more.write(path, path.relative_to(tmp_path / "pets"))
    data = load(outside)
    assert len(data.train) + len(data.val) == 10


@pytest.mark.parametrize("packed", [False, True])
def test_composed_and_decomposed_letters_are_one_class(
    tmp_path: Path, write_classes: Write, pack: Pack, packed: bool
) -> None:
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    write_classes(tmp_path / "pets" / "train", {composed: 5, "tea ": 5})
    write_classes(tmp_path / "pets" / "val", {decomposed: 2, " tea": 2})
    path = pack(tmp_path / "pets", tmp_path / "pets.tar") if packed else tmp_path / "pets"
    data = load(path)
    assert (data.classes, len(data.train), len(data.val)) == ((composed, "tea"), 10, 4)


def test_two_folders_of_one_class_are_said(
    tmp_path: Path, write_classes: Write, caplog: pytest.LogCaptureFixture
) -> None:
    write_classes(tmp_path, {"cat": 5, "cat ": 5, "dog": 5})
    data = load(tmp_path)
    assert (data.classes, len(data.train) + len(data.val)) == (("cat", "dog"), 15)
    assert "folders 'cat' and 'cat ' are one class, cat" in caplog.text


def test_names_that_are_no_utf8_become_text(
    tmp_path: Path, write_classes: Write, caplog: pytest.LogCaptureFixture, pack: Pack
) -> None:
    caplog.set_level(logging.INFO, "simroot")
    folder = tmp_path / os.fsdecode(b"b\xfccher")
    write_classes(folder, {os.fsdecode(b"caf\xe9"): 5, os.fsdecode(b"caf\xe8"): 5})
    first = next((folder / os.fsdecode(b"caf\xe9")).iterdir())
    first.write_bytes(b"broken")
    first.rename(first.with_name(os.fsdecode(b"\xff.png")))
    for path in (folder, pack(folder, tmp_path / "packed.tar")):
        data = load(path)
        assert data.classes == ("caf\\xe8", "caf\\xe9")
        assert data.skipped[0].endswith("caf\\xe9/\\xff.png")
        for text in (data.name, *data.classes, *data.skipped, caplog.text):
            text.encode()
    assert load(folder).name == "b\\xfccher"
