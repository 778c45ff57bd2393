"""Windows onto large images: on ramps, whose pixels say where they come from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from simroot.data import BatchLoader, ImageData, StreamedSplit, decode, load, loader
from simroot.data.crop import CROPS, Crop, window
from simroot.data.splits import evenly
from simroot.errors import ConfigError, DataError
from simroot.images.decoding import decode_array
from simroot.images.preparation import Frame, Preparation

WIDTH, HEIGHT = 250, 200
FRAME = Preparation(3, 8).frame(WIDTH, HEIGHT)
WriteClasses = Callable[..., Path]


def ramp(path: Path, *, width: int = WIDTH, height: int = HEIGHT, **options: Any) -> Path:
    """Red is the column and green the row of each pixel, in units that fit into a byte."""
    across = np.broadcast_to(np.arange(width) * 256 // width, (height, width))
    down = np.broadcast_to(np.arange(height)[:, None] * 256 // height, (height, width))
    pixels = np.stack([across, down, np.zeros_like(across)], 2).astype(np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def expected(box: tuple[float, ...], size: int, *, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """The ramps' values at the middles of the pixels of a box that is brought to ``size`` pixels a side."""
    left, top, right, bottom = box
    steps = (np.arange(size) + 0.5) / size
    across, down = left + steps * (right - left), top + steps * (bottom - top)
    return np.stack(
        [
            np.broadcast_to(across * 256 / width, (size, size)),
            np.broadcast_to(down[:, None] * 256 / height, (size, size)),
        ]
    )


BOXES = [(0, 0, 200, 200), (25, 0, 225, 200), (10.5, 20.25, 110.5, 170.25), (150, 60, 250, 200), (30, 40, 62, 72)]


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("size", [32, 100])
def test_a_window_is_resized_from_where_it_lies(
    tmp_path: Path, box: tuple[float, float, float, float], size: int
) -> None:
    pixels = decode_array(ramp(tmp_path / "a.png"), Preparation(3, size), lambda frame: box)
    inside = np.s_[:, 2:-2, 2:-2]  # at the border the filter sees one side only
    # Half a unit from rounding the result and up to one from the ramp's own steps.
    assert np.abs(pixels[:2].astype(float) - (expected(box, size) - 0.5))[inside].max() < 2


@pytest.mark.parametrize("turn", [1, 6])
def test_a_large_jpeg_is_decoded_small_but_not_coarser_than_its_window(tmp_path: Path, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn  # 6: to be turned by 90 degrees clockwise
    path = ramp(tmp_path / "a.jpg", width=1600, height=1200, quality=95, exif=exif)
    seen: list[tuple[int, int]] = []

    def part(frame: Frame) -> tuple[float, float, float, float]:
        width, height = frame.room
        seen.append((width, height))
        return (width / 2, height / 2, width / 2 + 300, height / 2 + 300)

    pixels = decode_array(path, Preparation(3, 150), part).astype(float)
    assert seen == [(1600, 1200) if turn == 1 else (1200, 1600)]
    inside = np.s_[:, 2:-2, 2:-2]
    if turn == 1:
        target = expected((800, 600, 1100, 900), 150, width=1600, height=1200)
    else:  # a pixel at (x, y) of the turned image is at (y, 1200 - x) of the file
        target = expected((800, 300, 1100, 600), 150, width=1600, height=1200)[:, ::-1].transpose(0, 2, 1)
    assert np.abs(pixels[:2] - target)[inside].max() < 6  # what the compression loses


def test_windows() -> None:
    assert window("whole", train=True)(3, FRAME) == (25, 0, 225, 200)
    for crop in ("scale", "random-resized"):
        assert window(crop, train=False)(3, FRAME) == pytest.approx((37.5, 12.5, 212.5, 187.5))


def draws(crop: Crop, **options: int) -> np.ndarray:
    part = window(crop, train=True, **options)
    return np.array([part(index, FRAME) for index in range(2000)])


def test_random_windows_of_the_scaled_image() -> None:
    left, top, right, bottom = draws("scale").T
    assert np.allclose(right - left, 175)  # 224 / 256 of the shorter side
    assert np.allclose(bottom - top, 175)
    for start, room in ((left, 75), (top, 25)):
        assert 0 <= start.min() < 0.01 * room
        assert 0.99 * room < start.max() <= room
        assert abs(start.mean() - room / 2) < 4 * room / np.sqrt(12 * 2000)  # uniform, four deviations


def test_random_parts() -> None:
    left, top, right, bottom = draws("random-resized").T
    width, height = right - left, bottom - top
    area, aspect = width * height / (WIDTH * HEIGHT), width / height
    assert 0.08 <= area.min() < 0.09
    assert 0.95 < area.max() <= 1
    assert 0.75 - 1e-9 <= aspect.min() < 0.76
    assert 1.32 < aspect.max() <= 4 / 3 + 1e-9
    assert min(left.min(), top.min()) >= 0
    assert right.max() <= WIDTH + 1e-9
    assert bottom.max() <= HEIGHT + 1e-9


def test_random_parts_of_a_strip_keep_the_ratio_of_sides() -> None:
    """No part of 8% or more with a ratio of at most 4/3 fits into it: the largest one is taken."""
    part = window("random-resized", train=True)
    for index in range(50):
        left, top, right, bottom = part(index, Frame(20, 20, (2000, 20)))
        assert bottom - top == pytest.approx(20)
        assert right - left == pytest.approx(20 * 4 / 3)
        assert left >= 0
        assert right <= 2000


@pytest.mark.parametrize("crop", ["scale", "random-resized"])
def test_windows_depend_on_seed_epoch_and_image_alone(crop: Crop) -> None:
    first = draws(crop, seed=1, epoch=2)
    assert np.array_equal(first, draws(crop, seed=1, epoch=2))
    for other in (draws(crop, seed=2, epoch=2), draws(crop, seed=1, epoch=3)):
        assert (first != other).any(1).all()


def test_unknown_crop() -> None:
    with pytest.raises(ConfigError, match="crop is 'random'; expected one of whole, scale, random-resized"):
        window("random", train=True)  # type: ignore[arg-type]


@pytest.fixture
def data(write_classes: WriteClasses, tmp_path: Path) -> ImageData:
    write_classes(tmp_path / "set" / "train", {"cat": 6, "dog": 6}, size=(100, 90))
    write_classes(tmp_path / "set" / "val", {"cat": 2, "dog": 2}, size=(120, 80))
    return load(tmp_path / "set", image_size=72)


def epoch(data: ImageData, number: int, **options: Any) -> torch.Tensor:
    batches: BatchLoader = loader(data.train, 4, mean=data.mean, std=data.std, train=True, mirror=True, **options)
    batches.set_epoch(number)
    return torch.cat([images for images, _ in batches])


@pytest.mark.parametrize("crop", CROPS)
def test_streamed_epochs_are_the_same_whatever_workers_and_processes(data: ImageData, crop: Crop) -> None:
    assert isinstance(data.train, StreamedSplit)
    first = epoch(data, 1, crop=crop, workers=0)
    assert torch.equal(first, epoch(data, 1, crop=crop, workers=3))
    shares = [epoch(data, 1, crop=crop, rank=rank, world_size=2).view(3, 2, 3, 72, 72) for rank in (0, 1)]
    assert torch.equal(first, torch.cat(shares, 1).flatten(0, 1))
    assert not torch.equal(first, epoch(data, 2, crop=crop))


@pytest.mark.parametrize("crop", CROPS)
def test_evaluation_sees_the_middle(data: ImageData, crop: Crop) -> None:
    batches = loader(data.val, 4, mean=(0.0,) * 3, std=(1.0,) * 3, train=False, crop=crop)
    images, _ = next(iter(batches))
    assert isinstance(data.val, StreamedSplit)
    source = data.val.files[0].source
    assert isinstance(source, Path)
    assert torch.equal((images[0] * 255).round().byte(), decode(source, 3, 72, crop))


@pytest.mark.parametrize("crop", CROPS)
def test_the_middle_is_that_of_the_scaled_image(tmp_path: Path, crop: Crop) -> None:
    """The reference scales the shorter side, to 256 for 224, then cuts out the middle, on whole pixels."""
    path = ramp(tmp_path / "a.png")
    side = 224 if crop == "whole" else 256
    with Image.open(path) as image:
        scaled = image.resize((side * WIDTH // HEIGHT, side), Image.Resampling.BILINEAR)
    left, top = (scaled.width - 224) // 2, (side - 224) // 2
    reference = np.asarray(scaled.crop((left, top, left + 224, top + 224)), dtype=float).transpose(2, 0, 1)
    assert np.abs(decode(path, 3, 224, crop).numpy() - reference).max() <= 2


def test_images_in_memory_have_no_windows(write_classes: WriteClasses, tmp_path: Path) -> None:
    data = load(write_classes(tmp_path / "set", {"cat": 10, "dog": 10}, size=80), image_size=64)
    for train in (True, False):
        with pytest.raises(ConfigError, match="crop is 'scale', but these images are kept in memory at 64 pixels"):
            loader(data.train, 4, mean=data.mean, std=data.std, train=train, crop="scale")


def test_unchecked_images_are_first_read_when_needed(write_classes: WriteClasses, tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "set", {"cat": 10, "dog": 10}, size=80)
    checked, unchecked = (load(folder, image_size=72, check=check) for check in (True, False))
    # All images are in the sample, so that the means are the exact ones.
    assert unchecked.mean == pytest.approx(checked.mean, rel=1e-12)
    assert unchecked.std == pytest.approx(checked.std, rel=1e-12)
    assert torch.equal(epoch(unchecked, 0), epoch(checked, 0))
    assert isinstance(unchecked.train, StreamedSplit)
    broken = unchecked.train.files[3].source
    assert isinstance(broken, Path)
    broken.write_bytes(b"no image")
    with pytest.raises(DataError, match=rf"{broken.name} cannot be read: not an image"):
        unchecked.train.read(torch.tensor([3]))


def test_a_small_image_size_is_checked_anyway(write_classes: WriteClasses, tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "set", {"cat": 10, "dog": 10}, size=80)
    (folder / "cat" / "000.png").write_bytes(b"no image")
    data = load(folder, image_size=32, check=False)
    assert data.train.images is not None
    assert data.skipped == ("cat/000.png",)


def test_moments_of_a_sample(write_classes: WriteClasses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load(write_classes(tmp_path / "set", {"cat": 10, "dog": 10}, size=80), image_size=72, check=False)
    monkeypatch.setattr("simroot.data.splits._SAMPLE", 3)
    split = data.train
    pixels = split.read(torch.tensor([0, 5, 10])).double()
    assert len(split) == 16
    expected = torch.stack([pixels.sum((0, 2, 3)), pixels.square().sum((0, 2, 3))]) * 16 / 3
    torch.testing.assert_close(split.moments(), expected)


def test_evenly() -> None:
    assert evenly(10, 3).tolist() == [0, 3, 6]
    assert evenly(3, 10).tolist() == [0, 1, 2]
    assert evenly(0, 10).tolist() == []
