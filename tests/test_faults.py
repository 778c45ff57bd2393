"""Inputs that were once read wrongly, from an archive of them where there is one."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from simroot.data import load
from simroot.errors import DataError
from simroot.images.decoding import probe


def archive() -> Path | None:
    folders = [Path(__file__).parents[2] / "shared" / "data", Path(os.environ.get("SIMROOT_DATA", "."))]
    return next((path for folder in folders if (path := folder / "faults.tar.gz").is_file()), None)


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = archive()
    if path is None:
        pytest.skip("no faults.tar.gz in ../shared/data or SIMROOT_DATA")
    folder = tmp_path_factory.mktemp("faults")
    with tarfile.open(path) as tar:
        tar.extractall(folder, filter="data")
    return next(folder.rglob("kaggle_catsdogs")).parent


# What is read of each: the classes, and the numbers of training and validation images.
READ = {
    "backslash.zip": (("a", "b"), 8, 2),
    "cjk": (("犬", "猫"), 10, 2),
    "class_only_jfif": (("a", "b", "c"), 14, 4),
    "kaggle_catsdogs": (("cats", "dogs"), 12, 12),
    "noeof.tar": (("a", "b"), 8, 2),
    "singletons": (("big", *(f"s{number}" for number in range(8))), 54, 14),
    "symclass.tar": (("a", "b", "c"), 12, 3),
    "synology_eaDir": (("a", "b"), 8, 2),
    "utf8_noflag.zip": (("hündchen0", "kätzchen1"), 8, 2),
    "val_only_jfif": (("a", "b"), 20, 6),
}
IMAGES = {
    "ex6_copyrat.jpg": (96, 64),
    "ex_or_byte6.jpg": (64, 96),
    "noeoi.jpg": (400, 300),
    "png_bigtext.png": (96, 64),
    "png_exif_bad.png": (96, 64),
}


@pytest.mark.parametrize("name", READ)
def test_data_sets(faults: Path, name: str) -> None:
    data = load(faults / name)
    assert (data.classes, len(data.train), len(data.val)) == READ[name]
    assert data.skipped == ()


def test_a_class_of_unread_images_alone(faults: Path) -> None:
    with pytest.raises(DataError, match=r"no image can be read in c .*5 \.heic"):
        load(faults / "heic.zip")


@pytest.mark.parametrize("name", IMAGES)
def test_images(faults: Path, tmp_path: Path, name: str) -> None:
    assert probe(faults / name)[:2] == IMAGES[name]
    for number in range(4):
        for label in "ab":
            (tmp_path / label).mkdir(exist_ok=True)
            (tmp_path / label / f"{number}{Path(name).suffix}").write_bytes((faults / name).read_bytes())
    assert load(tmp_path).skipped == ()
