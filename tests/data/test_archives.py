"""Hostile, oversized and damaged archives."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from simroot.data import load, tree
from simroot.errors import DataError

COUNTS = {"cat": 10, "dog": 20}
Write = Callable[..., Path]
Pack = Callable[[Path, Path], Path]


def hostile_members() -> dict[str, bytes]:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    good = [f"./{label}/{number}.png" for label in "ab" for number in range(5)]
    return dict.fromkeys([*good, "../escaped/x.png", "/absolute/x.png", "a/../../up/x.png"], buffer.getvalue())


def test_hostile_tar_members_are_left_out(tmp_path: Path) -> None:
    archive = tmp_path / "inner" / "bad.tar"
    archive.parent.mkdir()
    with tarfile.open(archive, "w") as tar:
        for name, content in hostile_members().items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for kind, name in ((tarfile.SYMTYPE, "a/s.png"), (tarfile.LNKTYPE, "a/h.png"), (tarfile.FIFOTYPE, "a/f.png")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "/etc/passwd"
            tar.addfile(link)
    data = load(archive)
    assert (data.classes, len(data.train) + len(data.val), data.skipped) == (("a", "b"), 10, ())
    assert [path.name for path in tmp_path.rglob("*")] == ["inner", "bad.tar"]


def test_hostile_zip_members_are_left_out(tmp_path: Path) -> None:
    archive = tmp_path / "bad.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for name, content in hostile_members().items():
            zipped.writestr(name, content)
        link = zipfile.ZipInfo("a/s.png")
        link.external_attr = 0o120777 << 16
        zipped.writestr(link, "/etc/passwd")
    data = load(archive)
    assert (data.classes, len(data.train) + len(data.val), data.skipped) == (("a", "b"), 10, ())


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip"])
def test_an_archive_larger_than_memory_must_be_unpacked(
    tmp_path: Path, write_classes: Write, pack: Pack, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    archive = pack(write_classes(tmp_path / "pets", COUNTS), tmp_path / f"pets{suffix}")
    monkeypatch.setattr(tree, "memory_budget", lambda: 1000)
    with pytest.raises(DataError, match="unpack it"):
        load(archive)


@pytest.mark.parametrize("name", ["text.zip", "text.tar.gz", "cut.tar.gz", "cut.tar.xz", "cut.zip"])
def test_damaged_archives(tmp_path: Path, write_classes: Write, pack: Pack, name: str) -> None:
    path = tmp_path / name
    if name.startswith("text"):
        path.write_text("not an archive")
    else:
        pack(write_classes(tmp_path / "pets", COUNTS), path)
        path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=name) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_what_an_archive_holds_twice_or_after_its_end_is_said(
    tmp_path: Path, write_classes: Write, caplog: pytest.LogCaptureFixture
) -> None:
    photos = write_classes(tmp_path / "photos", {"cat": 3, "dog": 3})
    archive, twice = tmp_path / "two.tar", tmp_path / "twice.tar"
    for path in (archive, twice):
        with tarfile.open(path, "w") as tar:
            tar.add(photos, "photos")
            if path is twice:
                tar.add(photos / "cat" / "000.png", "photos/dog/001.png")
    load(archive)
    assert "end mark" not in caplog.text
    archive.write_bytes(archive.read_bytes() * 2)
    load(archive)
    assert "two.tar goes on after its end mark" in caplog.text
    load(twice)
    assert "photos/dog/001.png is there more than once" in caplog.text
