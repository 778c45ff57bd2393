"""WebDataset shards: samples, labels, and archives that are none."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from simroot.data import load
from simroot.errors import DataError


def picture(number: int) -> bytes:
    content = BytesIO()
    Image.fromarray(np.full((8, 8), number, dtype=np.uint8)).save(content, "PNG")
    return content.getvalue()


def write(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
    return path


def samples(count: int = 10, folder: str = "") -> dict[str, bytes]:
    found = {}
    for number in range(count):
        found[f"{folder}{number:03}.png"] = picture(number)
        found[f"{folder}{number:03}.cls"] = str(number % 2).encode()
    return found


@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz"])
def test_one_shard(tmp_path: Path, name: str) -> None:
    data = load(write(tmp_path / name, samples(folder="./train.data/")))
    assert data.classes == ("0", "1")
    assert (len(data.train), len(data.val)) == (8, 2)


def test_more_files_in_a_sample(tmp_path: Path) -> None:
    """A sample without an image or a label, one with a mask, and files that are ignored."""
    files = {**samples(), "011.cls": b"1", "012.png": picture(1), "013.seg.npy": b"x", ".DS_Store": b""}
    files |= {"014.jpg.png": picture(2), "014.txt": b"a sentence", "014.cls": b"0"}
    data = load(write(tmp_path / "s.tar", files))
    assert (len(data.train), len(data.val)) == (9, 2)
    with pytest.raises(DataError, match="has no column 'what'"):
        load(tmp_path / "s.tar", label_column="what")


def test_parts_by_the_names_of_shards(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    for name in ("train-000", "train-001", "val-000"):
        write(tmp_path / "s" / f"{name}.tar", samples())
    data = load(tmp_path / "s")
    assert (len(data.train), len(data.val)) == (20, 10)


def test_other_archives(tmp_path: Path) -> None:
    """Class folders with notes beside the images are what they were."""
    files = {f"cat{n % 2}/{n}.png": picture(n) for n in range(10)} | {"cat0/0.json": b"{}"}
    assert load(write(tmp_path / "s.tar", files)).classes == ("cat0", "cat1")


def test_damaged_shards(tmp_path: Path) -> None:
    path = write(tmp_path / "s.tar", samples())
    content = path.read_bytes()
    path.write_bytes(content[:9000])
    with pytest.raises(DataError, match=r"s\.tar is not a readable shard"):
        load(path)
    write(path, {"1.png": picture(0), "1.json": b"{"})
    with pytest.raises(DataError, match=r"sample 1: the \.json is none"):
        load(path)
    write(path, {"1.png": picture(0), "1.json": b"[1]"})
    with pytest.raises(DataError, match="which column holds the labels"):
        load(path)


def test_an_image_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "s.tar", samples())
    monkeypatch.setattr("simroot.data.shards.memory_budget", lambda: 10)
    with pytest.raises(DataError, match="more than fits in memory"):
        load(path)


def test_what_a_sample_lacks_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also of the first sample; what is in another format is missing, and so is what a link leads to."""
    files = {"00.png": picture(0), **samples(), "900.cls": b"1", "901.avif": b"", "901.cls": b"0", "README": b""}
    path = write(tmp_path / "s.tar", files)
    with tarfile.open(path, "a") as archive:
        for name, target in (("902.png", "000.png"), ("902.cls", "000.cls")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.LNKTYPE, target
            archive.addfile(link)
    data = load(path)
    assert len(data.train) + len(data.val) == 10
    assert "left out 2 rows without a label (the first: s.tar, sample 00), 2 rows without an image" in caplog.text


@pytest.mark.parametrize("backwards", [False, True])
def test_samples_that_are_not_side_by_side(tmp_path: Path, backwards: bool) -> None:
    """As tar packs a folder whose files it finds in any order; a sample that is there twice is two."""
    files = sorted(samples().items(), key=lambda item: item[0].rpartition(".")[2], reverse=backwards)
    with pytest.raises(DataError, match=r"sample 000: its files do not stand side by side; .* tar --sort=name"):
        load(write(tmp_path / "s.tar", dict(files)))
    path = write(tmp_path / "s.tar", samples())
    with tarfile.open(path, "a") as archive, tarfile.open(write(tmp_path / "again.tar", samples(2))) as again:
        for member in again:
            archive.addfile(member, again.extractfile(member))
    data = load(path)
    assert len(data.train) + len(data.val) == 12


def test_several_images_in_a_sample(tmp_path: Path) -> None:
    """The one that is of nothing else, or the one that is named."""
    names = ("depth.png", "png", "cls")
    files = {
        f"{number:02}.{kind}": {"png": picture(number), "cls": str(number % 2).encode()}.get(kind, picture(200))
        for number in range(12)
        for kind in names
    }
    path = write(tmp_path / "s.tar", files)
    assert int(load(path).train.read(torch.arange(10)).max()) == 11
    assert int(load(path, image_column="depth.png").train.read(torch.arange(10)).min()) == 200
    with pytest.raises(DataError, match=r"no column 'jpg'; its columns are depth\.png, png, cls"):
        load(path, image_column="jpg")


@pytest.mark.parametrize("folder", ["", "cat/"])
def test_sizes_that_lead_back(tmp_path: Path, folder: str) -> None:
    """The last header says that what follows is the first one."""
    path = write(tmp_path / "s.tar", {f"{folder}{name}": content for name, content in samples().items()})
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as archive:
        last = archive.getmembers()[-2]
    header = memoryview(content)[last.offset : last.offset_data]
    header[124:136] = (-last.offset_data).to_bytes(12, "big", signed=True)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path.write_bytes(content)
    with pytest.raises(DataError, match="it is damaged at byte"):
        load(path)


def test_more_bytes_than_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """An image is not read as far as a header says that it goes, if its pixels cannot need that."""
    monkeypatch.setattr("simroot.data.archives._LARGE", 2**10)
    long = picture(1) + bytes(2**17)
    files = {**samples(), "900.png": long, "900.cls": b"1", "901.png": bytes(2**17)}
    data = load(write(tmp_path / "s.tar", files))
    assert len(data.train) + len(data.val) == 11
    assert f"900.png is said to have {len(long):,} bytes, too many for its pixels; not read" in caplog.text
