"""What the training images decide of their preparation, on folders made for each question."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from simroot.data import ImageData, from_arrays, load, load_test
from simroot.errors import DataError
from simroot.images.preparation import Preparation

Make = Callable[[int], Image.Image]


def folder(path: Path, make: Make, count: int = 12, suffix: str = "png") -> Path:
    """Two classes of ``count`` images each; ``make`` is given their numbers, 0 to 2 count - 1."""
    for number in range(2 * count):
        place = path / ("a" if number < count else "b")
        place.mkdir(parents=True, exist_ok=True)
        make(number).save(place / f"{number:03}.{suffix}")
    return path


def noise(number: int, shape: tuple[int, ...], low: float, high: float) -> np.ndarray[Any, Any]:
    return np.random.default_rng(number).uniform(low, high, shape)


def sized(width: int, height: int) -> Make:
    return lambda number: Image.fromarray(noise(number, (height, width, 3), 0, 256).astype(np.uint8))


def test_narrow_greys_of_16_bits_get_their_own_range(tmp_path: Path) -> None:
    data = load(folder(tmp_path / "d", lambda n: Image.fromarray(noise(n, (8, 8), 29455, 29656).astype(np.uint16))))
    assert data.preparation.pixel_range is not None
    low, high = data.preparation.pixel_range
    assert 29455 <= low <= 29465
    assert 29646 <= high <= 29656
    assert data.std[0] > 0.25  # a uniform one has 0.29


def test_floats_from_0_to_255_are_read_as_8_bits_would_be(tmp_path: Path) -> None:
    pixels = [noise(number, (8, 8), 0, 256).astype(np.uint8) for number in range(24)]
    for image in pixels:
        image[0, :2] = 0, 255
    plain = load(folder(tmp_path / "plain", lambda n: Image.fromarray(pixels[n])))
    floats = load(folder(tmp_path / "d", lambda n: Image.fromarray(pixels[n].astype(np.float32)), suffix="tiff"))
    assert floats.preparation.pixel_range == (0.0, 255.0)
    everything = torch.arange(len(plain.train))
    assert torch.equal(floats.train.read(everything), plain.train.read(everything))


def test_a_hot_pixel_and_a_broken_image_do_not_set_the_range(tmp_path: Path) -> None:
    def make(number: int) -> Image.Image:
        values = noise(number, (40, 40), 1000, 1200).astype(np.uint16)
        values[number, number] = 65535
        return Image.fromarray(values * 0 if number == 3 else values)

    low, high = load(folder(tmp_path / "d", make)).preparation.pixel_range or (0, 0)
    assert 980 <= low <= 1000
    assert 1190 <= high <= 1220


@pytest.mark.parametrize("no_data", [-9999, -3.4028235e38, 65535])
def test_pixels_without_data_do_not_set_the_range(
    no_data: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def make(number: int) -> Image.Image:
        values = noise(number, (8, 8), 0.2, 0.4).astype(np.float32)
        values[:3, : 2 + number % 3] = no_data
        return Image.fromarray(values)

    data = load(folder(tmp_path / "d", make, suffix="tiff"))
    assert data.preparation.pixel_range is not None
    low, high = data.preparation.pixel_range
    assert 0.2 <= low < 0.21
    assert 0.39 < high <= 0.4
    assert f"{np.float32(no_data):g} is far from all other values and taken for pixels without data" in caplog.text


@pytest.mark.parametrize("top", [65535, 40000])
def test_images_that_use_their_full_range_keep_it(tmp_path: Path, top: int) -> None:
    data = load(folder(tmp_path / "d", lambda n: Image.fromarray(noise(n, (8, 8), 0, top).astype(np.uint16))))
    assert data.preparation.pixel_range is None


def test_the_range_is_that_of_the_training_images(tmp_path: Path) -> None:
    folder(tmp_path / "d" / "train", lambda n: Image.fromarray(noise(n, (8, 8), 500, 600).astype(np.uint16)))
    folder(tmp_path / "d" / "val", lambda n: Image.fromarray(noise(n, (8, 8), 0, 3000).astype(np.uint16)))
    data = load(tmp_path / "d")
    assert data.preparation.pixel_range is not None
    assert 500 <= data.preparation.pixel_range[0] < data.preparation.pixel_range[1] <= 600
    assert data.val.images is not None
    assert {0, 255} <= set(data.val.images.flatten().tolist())


def test_a_range_that_is_named_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = folder(tmp_path / "d", lambda n: Image.fromarray(noise(n, (8, 8), 0, 4096).astype(np.uint16)))
    assert load(path, pixel_range=(0, 4095)).preparation.pixel_range == (0, 4095)
    with caplog.at_level(logging.WARNING, "simroot"):
        assert load(path, pixel_range="full").preparation.pixel_range is None
        assert "no image has more than 8 bits" not in caplog.text
        load(folder(tmp_path / "e", sized(8, 8)), pixel_range=(0, 4095))
    assert "no image has more than 8 bits a pixel: pixel_range changes nothing" in caplog.text


def drawing(colour: tuple[int, int, int]) -> Make:
    def make(number: int) -> Image.Image:
        image = Image.new("RGBA", (8, 8), (*colour, 0))
        for place in range(8):
            image.putpixel((place, place if number < 12 else 3), (*colour, 255))
        return image

    return make


@pytest.mark.parametrize(
    ("colour", "background"),
    [((255, 255, 255), (0, 0, 0)), ((0, 0, 0), (255, 255, 255)), ((240, 240, 235), (0, 0, 0))],
)
def test_drawings_are_seen_on_their_background(
    tmp_path: Path, colour: tuple[int, int, int], background: tuple[int, int, int]
) -> None:
    data = load(folder(tmp_path / "d", drawing(colour)))
    assert data.preparation.background == background
    assert min(data.std) > 0.2


def test_black_and_white_drawings_are_seen_on_grey(tmp_path: Path) -> None:
    white, black = drawing((255, 255, 255)), drawing((0, 0, 0))
    data = load(folder(tmp_path / "d", lambda number: (white if number % 2 else black)(number)))
    assert data.preparation.background == (128, 128, 128)


def test_a_background_that_is_named_is_used(tmp_path: Path) -> None:
    path = folder(tmp_path / "d", drawing((255, 0, 0)))
    assert load(path, background="black").preparation.background == (0, 0, 0)
    assert load(path, background=(1, 2, 3)).preparation.background == (1, 2, 3)


@pytest.mark.parametrize(
    ("make", "fit"),
    [
        (sized(24, 24), "crop"),
        (sized(30, 24), "crop"),
        (sized(32, 24), "stretch"),
        (sized(48, 12), "stretch"),
        (lambda n: sized(48, 12)(n) if n % 2 else sized(12, 48)(n), "pad"),
    ],
)
def test_the_shapes_decide_how_images_are_fitted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make: Make, fit: str
) -> None:
    with caplog.at_level(logging.INFO, "simroot"):
        data = load(folder(tmp_path / "d", make), image_size=16)
    assert data.preparation.fit == fit
    assert (f"fit {fit}: " in caplog.text) == (make(0).width != make(0).height)


def test_a_crop_that_cuts_much_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = folder(tmp_path / "d", sized(48, 12))
    with caplog.at_level(logging.WARNING, "simroot"):
        assert load(path, fit="crop", image_size=16).preparation == Preparation(3, 16)
    assert "fit crop cuts away 75% of the pixels" in caplog.text
    caplog.clear()
    load(path, fit="crop", image_size=(4, 16))
    assert caplog.text == ""


def test_padding_has_the_mean_colour(tmp_path: Path) -> None:
    data = load(folder(tmp_path / "d", lambda n: Image.new("RGB", (8, 2 + 6 * (n % 2)), (10, 20, 30))), fit="pad")
    assert data.preparation.background == (10, 20, 30)


def flat(**options: Any) -> ImageData:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    pixels[..., 1] = 77
    return from_arrays(pixels, np.arange(20) % 2, **options)


def test_an_almost_constant_channel_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "simroot"):
        flat()
        assert "the training images are almost constant in green" in caplog.text
        caplog.clear()
        path = folder(tmp_path / "d", lambda n: Image.fromarray(noise(n, (8, 8), 29455, 29656).astype(np.uint16)))
        load(path, pixel_range="full")
        assert "almost constant in grey" in caplog.text
        caplog.clear()
        load(path)
        assert caplog.text == ""


def test_rectangles_of_every_source(tmp_path: Path) -> None:
    assert load("digits", image_size=(8, 16)).train.read(torch.tensor([0])).shape == (1, 1, 8, 16)
    padded = load("digits", image_size=(8, 16), fit="pad")
    assert padded.preparation.fit == "pad"
    assert padded.train.images is not None
    assert len(padded.train.images[:, 0, :, :4].unique()) == 1
    assert flat(image_size=(4, 6)).image_size == (4, 6)
    wide = load(folder(tmp_path / "d", sized(48, 12)), image_size=(12, 48))
    assert wide.preparation == Preparation(3, (12, 48))
    test = load_test(tmp_path / "d", classes=("a", "b"), **wide.preparation.to_dict())
    assert test.images is not None
    assert test.images.shape == (24, 3, 12, 48)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fit": "squeeze"}, "fit is 'squeeze'; expected auto, crop, pad, stretch"),
        ({"pixel_range": (4, 2)}, "pixel_range is"),
        ({"background": "pink"}, "background is 'pink'"),
        ({"image_size": (8,)}, "image_size is"),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load("digits", **options)
