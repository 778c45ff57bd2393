"""WebDataset shards: samples, labels, and archives that are none."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
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
