"""Camera frames as the network takes them, against Pillow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from export.c.networks import MEAN, STD, need_compiler
from simroot.engines.host import HostProgram
from simroot.errors import ExportError
from simroot.export.c.write import to_c
from simroot.images.decoding import read_image
from simroot.images.preparation import Preparation

SIZES = [(24, 24), (80, 60), (41, 40), (17, 13), (100, 24), (32, 24), (1, 1), (25, 24)]
PREPARATIONS = {
    "colour": Preparation(3, 24),
    "cropped": Preparation(3, 24, share=0.875),
    "grey": Preparation(1, 24),
    "padded": Preparation(3, 24, fit="pad", background=(10, 200, 30)),
    "padded_grey": Preparation(1, (16, 24), fit="pad", background=(10, 200, 30), share=0.9),
    "stretched": Preparation(3, (12, 20), fit="stretch"),
    "wide": Preparation(3, (10, 24), share=0.9),
}


def network(channels: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(channels, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(1)).eval()


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, HostProgram]:
    need_compiler()
    found = {}
    for name, preparation in PREPARATIONS.items():
        folder, channels = tmp_path_factory.mktemp(name) / "network", preparation.channels
        options = {"mean": MEAN[:channels], "std": STD[:channels], "preparation": preparation, "name": name}
        to_c(network(channels), folder, preparation.shape, **options)  # type: ignore[arg-type]
        shape = (*preparation.size, channels)
        found[name] = HostProgram(folder / f"{name}.c", name, shape, 2, np.uint8, flags=["-O1"])
    return found


def frame(width: int, height: int, channels: int = 3) -> NDArray[np.uint8]:
    shape = (height, width, channels)
    return np.random.default_rng(width).integers(0, 256, shape, dtype=np.uint8)


def expected(pixels: NDArray[np.uint8], name: str = "colour") -> NDArray[np.uint8]:
    """As an image file is prepared."""
    return read_image(pixels, PREPARATIONS[name]).transpose(1, 2, 0)


def rows(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(pixels).reshape(len(pixels), -1)


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("name", PREPARATIONS)
def test_frames(name: str, width: int, height: int, programs: dict[str, HostProgram]) -> None:
    pixels = frame(width, height)
    found = programs[name].prepare("rgb888", rows(pixels), width, height)
    if name in ("colour", "cropped", "grey", "padded"):
        np.testing.assert_array_equal(found, expected(pixels, name))
    # Newer versions of Pillow may resize rows before columns where rows are the more, and round between the two.
    assert np.abs(found.astype(int) - expected(pixels, name)).max() <= 1


@pytest.mark.parametrize(("width", "height"), [(60, 80), (24, 100), (13, 17)])
def test_frames_that_are_higher_than_wide(width: int, height: int, programs: dict[str, HostProgram]) -> None:
    pixels = frame(width, height)
    found = programs["colour"].prepare("rgb888", rows(pixels), width, height)
    assert np.abs(found.astype(int) - expected(pixels)).max() <= 1


def test_grey_from_colour_and_colour_from_grey(programs: dict[str, HostProgram]) -> None:
    pixels = frame(80, 60)
    found = programs["grey"].prepare("rgb888", rows(pixels), 80, 60)
    np.testing.assert_array_equal(found, expected(pixels, "grey"))
    grey = pixels[..., 0]
    for name in ("grey", "colour"):
        found = programs[name].prepare("grey", rows(grey), 80, 60)
        np.testing.assert_array_equal(found, expected(grey, name))


def test_rgb565(programs: dict[str, HostProgram]) -> None:
    pixels = frame(40, 30)
    red, green, blue = (pixels[..., channel].astype(np.uint16) for channel in range(3))
    packed = (red >> 3) << 11 | (green >> 2) << 5 | blue >> 3
    widened = np.stack([red >> 3 << 3 | red >> 5, green >> 2 << 2 | green >> 6, blue >> 3 << 3 | blue >> 5], -1)
    wanted = expected(widened.astype(np.uint8))
    low_first = packed.astype("<u2").view(np.uint8)
    np.testing.assert_array_equal(programs["colour"].prepare("rgb565", low_first, 40, 30), wanted)
    high_first = packed.astype(">u2").view(np.uint8)
    np.testing.assert_array_equal(programs["colour"].prepare("rgb565", high_first, 40, 30, flips=4), wanted)


def test_yuv422_is_within_one_of_pillows_conversion(programs: dict[str, HostProgram]) -> None:
    planes = frame(24, 24)
    planes[:, 1::2, 1:] = planes[:, ::2, 1:]  # two pixels share their colour
    packed = np.empty((24, 48), dtype=np.uint8)
    packed[:, ::2], packed[:, 1::4], packed[:, 3::4] = planes[..., 0], planes[:, ::2, 1], planes[:, ::2, 2]
    found = programs["colour"].prepare("yuv422", packed, 24, 24)
    wanted = np.asarray(Image.frombytes("YCbCr", (24, 24), planes.tobytes()).convert("RGB"))
    assert np.abs(found.astype(int) - wanted).max() <= 1


def test_flips(programs: dict[str, HostProgram]) -> None:
    pixels = frame(80, 60)
    wanted = programs["colour"].prepare("rgb888", rows(pixels), 80, 60)
    for flips, seen in ((1, pixels[:, ::-1]), (2, pixels[::-1]), (3, pixels[::-1, ::-1])):
        found = programs["colour"].prepare("rgb888", rows(seen), 80, 60, flips=flips)
        np.testing.assert_array_equal(found, wanted)


def test_too_little_room_and_no_pixels(programs: dict[str, HostProgram]) -> None:
    with pytest.raises(ExportError, match="refuses a frame of 80 x 60"):
        programs["colour"].prepare("rgb888", rows(frame(80, 60)), 80, 60, room=500)
    with pytest.raises(ExportError, match="refuses a frame of 0 x 60"):
        programs["colour"].prepare("rgb888", rows(frame(80, 60)), 0, 60)


def test_the_room_is_what_the_header_says(programs: dict[str, HostProgram]) -> None:
    """``prepare`` of the tests gives as much room as the header's formula: too little would have been refused."""
    text = programs["colour"].source.with_suffix(".h").read_text()
    assert "COLOUR_WORK_BYTES(width, height) (4u * (240u + 2u * (unsigned)(width)))" in text
