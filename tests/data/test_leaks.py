"""What is on both sides of a split: equal pictures, pictures that look alike, groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from simroot.data import ImageData, from_arrays, load
from simroot.data.arrays import hold_out
from simroot.data.leaks import perceptual_hashes
from simroot.errors import DataError

CLASSES, PEOPLE = ("a", "b", "c"), 8


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def persons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders with a folder for each person inside, and tables of the same."""
    root = tmp_path_factory.mktemp("persons")
    generator = np.random.default_rng(0)
    rows = ["path,label,who"]
    for label in CLASSES:
        for number in range(40):
            person = f"p{number % PEOPLE}"
            name = f"photos/{label}/{person}/{number}.png"
            save(root / name, generator.integers(0, 256, (8, 8), dtype=np.uint8))
            rows.append(f"{name},{label},{person}")
    (root / "t.csv").write_text("\n".join(rows))
    return root


def people(data: ImageData) -> tuple[set[str], set[str]]:
    assert data.train.names is not None
    assert data.val.names is not None
    first, second = ({name.split("/")[-2] for name in names} for names in (data.train.names, data.val.names))
    return first, second


def test_groups_stay_on_one_side(persons: Path) -> None:
    plain = load(persons / "photos", train=".")
    assert people(plain)[0] & people(plain)[1]
    by_level, by_column = load(persons / "photos", group_level=1), load(persons / "t.csv", group_column="who")
    for data in (by_level, by_column):
        train, val = people(data)
        assert not train & val
        assert len(train | val) == PEOPLE
        assert len(data.val) in range(15, 31)  # a fifth of 120 is 24
        assert data.val.labels.bincount().tolist() == [len(data.val) // 3] * 3
    assert torch.equal(by_level.val.read(torch.arange(15)), by_column.val.read(torch.arange(15)))
    assert people(load(persons / "photos", group_level=1, seed=1))[1] != people(by_level)[1]


@pytest.mark.parametrize(
    ("path", "arguments", "message"),
    [
        ("photos", {"group_level": 2}, "lies in no folder inside of its class folder, 2 deep"),
        ("photos", {"group_level": 0}, "group_level is 0; expected 1"),
        ("photos", {"group_column": "who", "train": "."}, "is no table: --group-level names the groups"),
        ("t.csv", {"group_level": 1}, "is no folder of class folders: --group-column names the groups"),
        ("t.csv", {"group_column": "x"}, "has no column 'x'"),
        ("t.csv", {"group_column": "label"}, "leaves some of every class"),
    ],
)
def test_groups_that_are_none(persons: Path, path: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(persons / path, **arguments)  # type: ignore[arg-type]


def test_held_out_groups() -> None:
    labels = torch.arange(40) % 2
    with pytest.raises(DataError, match="all images are of one group"):
        hold_out(labels, 0.2, 0.2, 0, ["g"] * 40)
    with pytest.raises(DataError, match="seed is -1"):
        hold_out(labels, 0.2, 0.2, -1, ["g"] * 20 + ["h"] * 20)
    groups = [f"g{number // 4}" if number < 20 else "" for number in range(40)]
    held_out, rest = hold_out(labels, 8, 0.2, 0, groups)
    assert sorted([*held_out.tolist(), *rest.tolist()]) == list(range(40))
    assert not {groups[index] for index in held_out} & {groups[index] for index in rest} - {""}
    assert len(held_out) in range(6, 11)
    assert torch.equal(hold_out(labels, 8, 0.2, 0, [""] * 40)[0], hold_out(labels, 8, 0.2, 0)[0])


def test_groups_on_both_sides_of_given_parts(persons: Path) -> None:
    lines = (persons / "t.csv").read_text().splitlines()
    rows = [f"{line},{'val' if number % 3 == 0 else 'train'}" for number, line in enumerate(lines[1:])]
    (persons / "parts.csv").write_text("\n".join((f"{lines[0]},split", *rows)))
    note, *_ = load(persons / "parts.csv", group_column="who").notes
    assert note == "8 groups on both sides of training and validation: p0, p1, p2 and 5 more"


def drawing(seed: int, size: int = 96) -> np.ndarray:
    """Some soft spots, as photos have large shapes."""
    generator = np.random.default_rng(seed)
    across, down = np.meshgrid(np.arange(size) / size, np.arange(size) / size)
    spots = [
        weight * np.exp(-((across - x) ** 2 + (down - y) ** 2) / 0.03)
        for x, y, weight in generator.uniform((0, 0, -1), (1, 1, 1), (8, 3))
    ]
    field = np.sum(spots, 0)
    return (255 * (field - field.min()) / np.ptp(field)).astype(np.uint8)


@pytest.mark.parametrize("size", [32, 80])  # in memory and streamed
def test_pictures_on_both_sides_are_named(tmp_path: Path, size: int) -> None:
    for number in range(12):
        save(tmp_path / "train" / CLASSES[number % 2] / f"{number}.png", drawing(number))
        save(tmp_path / "val" / CLASSES[number % 2] / f"{number}.png", drawing(100 + number))
    save(tmp_path / "val" / "a" / "same.png", drawing(4))
    again = Image.fromarray(drawing(5)).resize((60, 60)).point(lambda value: min(255, int(0.9 * value + 20)))
    again.save(tmp_path / "val" / "b" / "alike.jpg", quality=80)
    (note,) = load(tmp_path, image_size=size).notes
    assert note.startswith(
        "1 of the 14 validation images are training images, too: the same pixels, as val/a/same.png and train/a/4.png;"
    )
    equal, near = load(tmp_path, image_size=size, near_duplicates=True).notes
    assert equal == note
    assert near.startswith("2 of the 14 validation images look like a training image, as ")
    assert "val/b/alike.jpg and train/b/5.png" in near


def test_arrays_have_no_names() -> None:
    images = torch.from_numpy(np.stack([drawing(number, 16) for number in range(10)]))
    data = from_arrays(images, torch.arange(10) % 2, val_images=images[:3], val_labels=torch.arange(3) % 2)
    (note,) = data.notes
    assert note.startswith("3 of the 3 validation images are training images, too: the same pixels; leave out")
    hashes = perceptual_hashes(data.train)
    assert hashes.shape == (10, 63)
    assert (hashes[:1] != hashes[1:]).sum(1).min() > 4
