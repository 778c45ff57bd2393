"""Nothing vanishes: what is read by content, what is ignored, what is left out and counted, and empty classes."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from simroot.data import load
from simroot.data import reading as files
from simroot.errors import DataError
from simroot.images.listing import ImageFile, walk

COUNTS = {"cat": 10, "dog": 10}
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
Write = Callable[..., Path]
Pack = Callable[[Path, Path], Path]


def number_of_images(path: Path) -> int:
    data = load(path)
    return len(data.train) + len(data.val)


@pytest.mark.parametrize("packed", ["", "pets.zip", "pets.tar"])
def test_images_are_known_by_content_where_the_suffix_says_nothing(
    tmp_path: Path, write_classes: Write, pack: Pack, packed: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_classes(tmp_path / "pets", COUNTS)
    for number, suffix in enumerate(("", ".jfif", ".JFIF", ".img", ".png~", ".1")):
        kind = ("PNG", "JPEG", "JPEG", "WEBP", "GIF", "BMP")[number]
        Image.new("RGB", (8, 8)).save(folder / "cat" / f"x{number}{suffix}", kind)
    (folder / "dog" / "photo").write_bytes(HEIC)
    (folder / "dog" / "README").write_text("text")
    (folder / "dog" / "labels.csv").write_text("a,b")
    (folder / "dog" / "nothing").touch()
    assert number_of_images(pack(folder, tmp_path / packed) if packed else folder) == 26
    assert "1 image in a format that is not read" in caplog.text
    assert "3 files that are no images: 1 .csv, 2 without suffix" in caplog.text


def test_what_desktops_and_servers_leave_is_ignored(
    tmp_path: Path, write_classes: Write, pack: Pack, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_classes(tmp_path / "pets", COUNTS)
    for name in ("@eaDir", "$RECYCLE.BIN", "#recycle", "__MACOSX", ".ipynb_checkpoints", "System Volume Information"):
        shutil.copytree(folder / "cat", folder / name)
        shutil.copytree(folder / "cat", folder / "dog" / name)
    for name in ("Thumbs.db", "desktop.ini", "_DS_Store", ".DS_Store", "._000.png"):
        (folder / "cat" / name).write_bytes(b"x")
    assert number_of_images(folder) == number_of_images(pack(folder, tmp_path / "pets.zip")) == 20
    assert caplog.text == ""


@pytest.mark.parametrize("content", [None, HEIC, b"\xff\xd8\xff"])
def test_a_class_without_an_image_is_an_error(tmp_path: Path, write_classes: Write, content: bytes | None) -> None:
    write_classes(tmp_path, COUNTS)
    (tmp_path / "fish").mkdir()
    if content is not None:
        (tmp_path / "fish" / "a.heic").write_bytes(content)
    with pytest.raises(DataError, match=r"no image can be read in fish.*: add images, or remove what is no class"):
        load(tmp_path)


def test_a_folder_of_other_files_is_no_class(
    tmp_path: Path, write_classes: Write, caplog: pytest.LogCaptureFixture
) -> None:
    write_classes(tmp_path, COUNTS)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "1.xml").write_text("<a/>")
    assert load(tmp_path).classes == ("cat", "dog")
    assert "annotations holds no images and is no class" in caplog.text


@pytest.mark.parametrize("make", ["nothing", "classes", "heic", "flat"])
def test_a_validation_part_without_images_is_an_error(tmp_path: Path, write_classes: Write, make: str) -> None:
    write_classes(tmp_path / "train", COUNTS)
    (tmp_path / "val").mkdir()
    if make == "flat":
        Image.new("RGB", (8, 8)).save(tmp_path / "val" / "0.png")
    elif make != "nothing":
        for name in COUNTS:
            (tmp_path / "val" / name).mkdir()
            if make == "heic":
                (tmp_path / "val" / name / "0.heic").write_bytes(HEIC)
    with pytest.raises(DataError, match="of val can be read; add some, or remove val to hold out"):
        load(tmp_path)


def test_what_cannot_be_opened_is_named_and_skipped(
    tmp_path: Path, write_classes: Write, caplog: pytest.LogCaptureFixture
) -> None:
    write_classes(tmp_path, COUNTS)
    (tmp_path / "cat" / "lost.png").symlink_to("nowhere.png")
    (tmp_path / "cat" / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "cat" / "zero").symlink_to("/dev/zero")
    (tmp_path / "dog" / "folder.png").mkdir()
    os.mkfifo(tmp_path / "dog" / "pipe.jpg")
    os.mkfifo(tmp_path / "dog" / "pipe")
    assert load(tmp_path).skipped == ("cat/lost.png", "cat/zero.png", "dog/pipe.jpg")
    assert "2 pipes, devices and other things that are no files" in caplog.text


def test_a_lost_link_to_a_class_is_an_error(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path, COUNTS)
    (tmp_path / "fish").symlink_to("nowhere")
    with pytest.raises(DataError, match="no image can be read in fish"):
        load(tmp_path)


def test_a_folder_that_cannot_be_listed_is_counted(
    tmp_path: Path, write_classes: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_classes(tmp_path, COUNTS)
    listdir = os.listdir

    def refuse(path: str | Path) -> list[str]:
        if Path(path).name == "cat":
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    assert "1 file or folder that cannot be read" in walk(tmp_path).counts()
    with pytest.raises(DataError, match="no image can be read in cat"):
        load(tmp_path)


def test_data_that_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pets.tar")
    (tmp_path / "zero.zip").symlink_to("/dev/zero")
    for name in ("pets.tar", "zero.zip"):
        with pytest.raises(DataError, match="is a pipe or a device"):
            load(tmp_path / name)


def test_links_to_folders_in_an_archive_are_followed_inside_of_it(
    tmp_path: Path, write_classes: Write, pack: Pack, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_classes(tmp_path / "pets", COUNTS)
    (folder / "wolf").symlink_to("dog")
    (folder / "cat" / "first.png").symlink_to("../dog/000.png")
    assert load(pack(folder, tmp_path / "pets.tar")).classes == ("cat", "dog", "wolf")
    assert number_of_images(tmp_path / "pets.tar") == 31
    (folder / "cat" / "passwd.png").symlink_to("/etc/passwd")
    (folder / "cat" / "up").symlink_to("..")
    assert number_of_images(pack(folder, tmp_path / "more.tar")) == 31
    assert "2 links that lead to nothing that can be read: 1 .png, 1 without suffix" in caplog.text
    (folder / "wolf").unlink()
    (folder / "wolf").symlink_to("/somewhere/else")
    with pytest.raises(DataError, match="no image can be read in pets/wolf"):
        load(pack(folder, tmp_path / "lost.tar"))


def test_a_tar_without_end_blocks_is_read(
    tmp_path: Path, write_classes: Write, pack: Pack, caplog: pytest.LogCaptureFixture
) -> None:
    archive = pack(write_classes(tmp_path / "pets", COUNTS), tmp_path / "pets.tar")
    with tarfile.open(archive) as tar:
        tar.getmembers()
        end = tar.offset - 512 if archive.read_bytes()[tar.offset - 512 :].strip(b"\0") == b"" else tar.offset
    archive.write_bytes(archive.read_bytes()[:end])
    assert number_of_images(archive) == 20
    assert "has no end mark" in caplog.text


def test_every_class_keeps_an_image_to_train_on(
    tmp_path: Path, write_classes: Write, caplog: pytest.LogCaptureFixture
) -> None:
    write_classes(tmp_path, {"big": 60, **{f"s{number}": 1 for number in range(8)}})
    for validation in (None, 0.1, 30, 59):
        data = load(tmp_path, validation=validation)
        assert int(data.train.labels.bincount(minlength=9).min()) == 1
        assert len(data.val) == (14 if validation is None else 7 if validation == 0.1 else validation)
    assert "has no validation image of s0, s1" in caplog.text


def test_ctrl_c_waits_for_no_more_than_the_images_being_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many images a thread has been given: the others of its share are not read any more."""
    tried: list[int] = []

    def slow(index: int) -> None:
        tried.append(index)
        threading.Event().wait(0.01)

    def interrupted(items: object, description: str, total: int) -> list[list[object]]:
        raise KeyboardInterrupt  # as Ctrl-C does while the main thread waits

    monkeypatch.setattr(files, "watched", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files._each(slow, range(1000), [ImageFile("", b"")] * 1000, "reading")
    assert len(tried) < 128


def test_what_is_called_an_image_and_is_none_is_named(tmp_path: Path, write_classes: Write) -> None:
    folder = write_classes(tmp_path, COUNTS)
    (folder / "cat" / "phone.jpg").write_bytes(HEIC)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    (folder / "cat" / "other.jpg").write_bytes(buffer.getvalue())
    assert load(folder).skipped == ("cat/phone.jpg",)
