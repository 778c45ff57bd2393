"""How images are fitted, scaled and laid over a background: values worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from simroot.errors import DataError
from simroot.images.decoding import decode_array, probe
from simroot.images.preparation import Preparation, as_background, as_image_size, as_pixel_range

# Four columns of one colour each; every pixel says where it comes from.
STRIPES = np.repeat(np.array([[10, 60, 110, 160]], dtype=np.uint8), 2, 0)


def save(path: Path, pixels: np.ndarray[Any, Any] | Image.Image, **options: Any) -> Path:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def test_crop_sees_the_middle_of_the_size_asked_for(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", STRIPES)
    assert decode_array(path, Preparation(1, 2)).tolist() == [[[60, 110], [60, 110]]]
    tall = decode_array(path, Preparation(1, (2, 1)))
    assert tall.shape == (1, 2, 1)
    assert abs(int(tall[0, 0, 0]) - 85) <= 1  # the middle of 60 and 110


def test_pad_sees_all_and_fills_with_the_background(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", STRIPES)
    grey = decode_array(path, Preparation(1, 4, "pad", background=(7, 7, 7)))
    assert grey.tolist() == [[[7] * 4, *STRIPES.tolist(), [7] * 4]]
    colour = decode_array(save(tmp_path / "b.png", STRIPES.T.copy()), Preparation(3, 4, "pad", background=(1, 2, 3)))
    assert colour[:, 0, 0].tolist() == [1, 2, 3]
    assert colour[:, 0, 3].tolist() == [1, 2, 3]
    assert colour[0, :, 1].tolist() == [10, 60, 110, 160]


def test_pad_keeps_a_line_of_the_thinnest_image(tmp_path: Path) -> None:
    pixels = decode_array(save(tmp_path / "a.png", np.full((1, 400), 200, np.uint8)), Preparation(1, 8, "pad"))
    assert sorted(set(pixels.flatten().tolist())) == [200, 255]
    assert (pixels == 200).sum() == 8


def test_stretch_sees_all(tmp_path: Path) -> None:
    pixels = decode_array(save(tmp_path / "a.png", STRIPES), Preparation(1, 4, "stretch"))
    assert pixels.tolist() == [[STRIPES[0].tolist()] * 4]


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_a_square_is_the_same_however_it_is_fitted(tmp_path: Path, fit: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (13, 13, 3), dtype=np.uint8)
    path = save(tmp_path / "a.png", pixels)
    assert np.array_equal(decode_array(path, Preparation(3, 7, fit)), decode_array(path, Preparation(3, 7)))
    assert np.array_equal(decode_array(path, Preparation(3, 13, fit)), pixels.transpose(2, 0, 1))


def test_frames_of_a_rectangle() -> None:
    crop = Preparation(3, (24, 96))
    assert crop.frame(192, 96)[:2] == (192, 48)
    assert crop.frame(96, 96).box() == (0, 36, 96, 60)
    assert Preparation(3, (24, 96), "stretch").frame(50, 70)[:2] == (50, 70)
    assert Preparation(3, (24, 96), "pad").around((0, 0, 10, 10)) == (-15, 0, 25, 10)


def test_a_range_makes_its_ends_black_and_white(tmp_path: Path) -> None:
    values = np.array([[90, 100, 160, 200, 300]], dtype=np.uint16)
    path = save(tmp_path / "a.png", values)
    assert probe(path).deep
    found = decode_array(path, Preparation(1, (1, 5), pixel_range=(100, 200)))
    assert found.tolist() == [[[0, 0, 153, 255, 255]]]
    floats = save(tmp_path / "b.tiff", np.array([[-40, -20, 0, 20, 60]], dtype=np.float32))
    assert decode_array(floats, Preparation(1, (1, 5), pixel_range=(-40, 60))).tolist() == [[[0, 51, 102, 153, 255]]]
    nothing = save(tmp_path / "c.tiff", np.full((1, 5), np.nan, dtype=np.float32))
    with pytest.raises(ValueError, match="outside of -40 to 60"):
        decode_array(nothing, Preparation(1, (1, 5), pixel_range=(-40, 60)))


def test_a_range_leaves_images_of_8_bits_as_they_are(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", STRIPES)
    ranged = Preparation(1, 2, pixel_range=(0, 50))
    assert np.array_equal(decode_array(path, ranged), decode_array(path, Preparation(1, 2)))


def test_background_shows_through(tmp_path: Path) -> None:
    image = Image.new("RGBA", (2, 2), (255, 255, 255, 0))
    image.putpixel((0, 0), (255, 255, 255, 255))
    image.putpixel((1, 0), (255, 255, 255, 51))
    path = save(tmp_path / "a.png", image)
    assert probe(path).transparent
    assert decode_array(path, Preparation(1, 2, background=(0, 0, 0))).tolist() == [[[255, 51], [0, 0]]]
    assert (decode_array(path, Preparation(1, 2)) == 255).all()


@pytest.mark.parametrize(
    "preparation",
    [
        Preparation(1, 8),
        Preparation(3, (24, 96), "pad", None, (1, 2, 3)),
        Preparation(1, 32, "stretch", (29455.0, 29655.5), (0, 0, 0)),
    ],
)
def test_plain_values_and_back(preparation: Preparation) -> None:
    assert Preparation.from_dict({"name": "other", **preparation.to_dict()}) == preparation


def test_a_run_of_before_crops_scales_all_and_is_white() -> None:
    assert Preparation.from_dict({"image_size": 8, "channels": 3}) == Preparation(3, 8, "crop", None, (255, 255, 255))


@pytest.mark.parametrize(
    ("function", "value", "message"),
    [
        (as_image_size, 0, "image_size is 0"),
        (as_image_size, (1, 2, 3), r"image_size is \(1, 2, 3\)"),
        (as_image_size, True, "image_size is True"),
        (as_pixel_range, (5, 5), r"pixel_range is \(5, 5\)"),
        (as_pixel_range, (0, float("nan")), "pixel_range is"),
        (as_pixel_range, "low", "pixel_range is 'low'"),
        (as_background, "pink", "background is 'pink'"),
        (as_background, (0, 0, 256), r"background is \(0, 0, 256\)"),
    ],
)
def test_what_is_refused(function: Any, value: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        function(value)


def test_what_is_read() -> None:
    assert as_image_size([24, 24]) == 24
    assert as_image_size([24, 96]) == (24, 96)
    assert as_pixel_range("full") is None
    assert as_pixel_range([0, 4095]) == (0, 4095)
    assert as_background("black") == (0, 0, 0)
    with pytest.raises(DataError, match="fit is 'squeeze'; expected one of crop, pad, stretch"):
        Preparation(3, 8, "squeeze")
