"""Every size and mode becomes one square uint8 array; damaged files are told apart."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from simroot.data import decode
from simroot.errors import DataError
from simroot.images.decoding import probe

RAMP = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
COLOUR = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def test_rgb_is_read_unchanged(tmp_path: Path) -> None:
    pixels = decode(save(tmp_path / "a.png", Image.fromarray(COLOUR)), 3, 8)
    assert pixels.dtype == torch.uint8
    assert np.array_equal(pixels.numpy(), COLOUR.transpose(2, 0, 1))


def test_grey_is_repeated_for_three_channels(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(RAMP))
    assert np.array_equal(decode(path, 1, 8).numpy(), RAMP[None])
    assert np.array_equal(decode(path, 3, 8).numpy(), np.stack([RAMP] * 3))


def test_colour_becomes_grey_by_itu_r_601(tmp_path: Path) -> None:
    grey = decode(save(tmp_path / "a.png", Image.fromarray(COLOUR)), 1, 8).numpy()[0]
    assert np.abs(grey - COLOUR.astype(float) @ [0.299, 0.587, 0.114]).max() <= 1


@pytest.mark.parametrize("kind", ["I;16", "I;16B", "I"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_greys_are_scaled_not_clipped(tmp_path: Path, kind: str, channels: int) -> None:
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    array = {"I;16": values, "I;16B": values.astype(">u2"), "I": values.astype(np.int32)}[kind]
    path = save(tmp_path / "a.tiff", Image.fromarray(array))
    with Image.open(path) as image:
        assert image.mode == kind
    expected = np.rint(values / 65535 * 255).astype(np.uint8)
    assert np.array_equal(decode(path, channels, 8).numpy(), np.stack([expected] * channels))


def test_16_bit_png(tmp_path: Path) -> None:
    values = (np.arange(64, dtype=np.uint16) * 1040).reshape(8, 8)
    path = save(tmp_path / "a.png", Image.fromarray(values))
    assert np.array_equal(decode(path, 1, 8).numpy()[0], np.rint(values / 257).astype(np.uint8))
    assert probe(path)[:3] == (8, 8, True)


def test_float_greys_in_0_to_1_are_scaled_and_others_refused(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    path = save(tmp_path / "a.tiff", Image.fromarray(values))
    assert np.array_equal(decode(path, 1, 8).numpy()[0], np.rint(values * 255.0).astype(np.uint8))
    for bad in (values * 2, np.full((8, 8), np.nan, dtype=np.float32)):
        with pytest.raises(DataError, match="outside of 0 to 1"):
            decode(save(tmp_path / "b.tiff", Image.fromarray(bad)), 1, 8)


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    mask = RAMP > 100
    path = save(tmp_path / "a.png", Image.fromarray(mask))
    assert np.array_equal(decode(path, 1, 8).numpy()[0], mask * 255)
    assert probe(path)[:3] == (8, 8, True)


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.dstack([COLOUR, np.full((8, 8), 255, np.uint8)]))
    image.putpixel((2, 1), (10, 20, 30, 0))
    pixels = decode(save(tmp_path / "a.png", image), 3, 8).numpy()
    assert (pixels[:, 1, 2] == 255).all()
    assert np.array_equal(pixels[:, 3], COLOUR[3].T)


def test_palette_with_a_transparent_colour(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 10, 20])
    image.putpixel((0, 0), 0)
    pixels = decode(save(tmp_path / "a.png", image, transparency=0), 3, 4)
    assert pixels[:, 0, 0].tolist() == [255, 255, 255]
    assert pixels[:, 2, 2].tolist() == [200, 10, 20]


def test_grey_palette_counts_as_grey_and_a_coloured_one_does_not(tmp_path: Path) -> None:
    assert probe(save(tmp_path / "a.gif", Image.fromarray(RAMP)))[:3] == (8, 8, True)
    assert probe(save(tmp_path / "b.png", Image.fromarray(COLOUR).quantize()))[:3] == (8, 8, False)


def test_cmyk(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tiff", Image.new("CMYK", (4, 4), (0, 255, 255, 0)))
    assert decode(path, 3, 4)[:, 0, 0].tolist() == [255, 0, 0]
    assert probe(path)[:3] == (4, 4, False)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees to see it upright
    image = Image.fromarray(RAMP[:, :6])
    path = save(tmp_path / "a.png", image, exif=exif)
    assert probe(path)[:3] == (8, 6, True)
    upright = np.rot90(RAMP[:, :6], -1)
    assert np.array_equal(decode(path, 1, 6).numpy()[0], upright[:, 1:7])


@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff"])
@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 8, 99])
def test_orientations_of_all_formats(tmp_path: Path, suffix: str, orientation: int) -> None:
    """A large wide image: its middle is what is seen, whichever way it lies in the file."""
    wide = np.kron(RAMP[:4], np.ones((10, 10), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(wide), exif=exif)
    turned = 5 <= orientation <= 8
    assert probe(path)[:2] == ((40, 80) if turned else (80, 40))
    middle = wide[:, 20:60]
    turns = {3: np.rot90(middle, 2), 5: middle.T, 6: np.rot90(middle, -1), 8: np.rot90(middle)}
    upright = turns.get(orientation, middle)
    found = decode(path, 1, 40).numpy()[0]
    assert np.abs(found.astype(float) - upright).max() <= (30 if suffix == "jpg" else 0)  # edges between blocks


@pytest.mark.parametrize(("rows", "columns"), [(slice(None), slice(4, 12)), (slice(4, 12), slice(None))])
def test_the_centre_is_cropped(tmp_path: Path, rows: slice, columns: slice) -> None:
    wide = np.random.default_rng(1).integers(0, 256, (16, 16), dtype=np.uint8)
    wide = wide[: 8 if rows == slice(None) else 16, : 8 if columns == slice(None) else 16]
    pixels = decode(save(tmp_path / "a.png", Image.fromarray(wide)), 1, 8).numpy()[0]
    assert np.array_equal(pixels, wide[rows, columns])


def test_a_larger_image_keeps_its_mean(tmp_path: Path) -> None:
    large = np.kron(RAMP[:4, :4], np.ones((40, 40), dtype=np.uint8))
    for name in ("a.png", "a.jpg"):
        pixels = decode(save(tmp_path / name, Image.fromarray(large)), 1, 16)
        assert pixels.shape == (1, 16, 16)
        assert abs(pixels.double().mean().item() - large.mean()) < 1


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "not an image"), (b"plain text", "not an image"), (None, "No such file")],
)
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "broken.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=rf"broken\.png cannot be read.*{message}") as caught:
        decode(path, 3, 8)
    assert "\n" not in str(caught.value)


def test_truncated_image(tmp_path: Path) -> None:
    path = save(tmp_path / "cut.jpg", Image.fromarray(COLOUR).resize((64, 64)))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"cut\.jpg cannot be read"):
        decode(path, 3, 8)


@pytest.mark.parametrize("side", [12, 20])
def test_more_pixels_than_is_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int) -> None:
    path = save(tmp_path / "bomb.png", Image.new("L", (side, side)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow only warns up to twice its limit
        with pytest.raises(DataError, match=r"bomb\.png"):
            decode(path, 3, 8)


def test_formats_that_start_other_programs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path, format="EPS")
    with pytest.raises(DataError, match="not an image in a known format"):
        decode(path, 3, 8)
