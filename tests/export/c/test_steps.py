"""Which layers are computed a few rows at a time, and that they compute what they do apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export.c.networks import SIDE, compiled, compiled_integers, images, in_integers, networks_with
from simroot.engines.host import channels_last
from simroot.export.c import whole
from simroot.export.c.chains import replaceable
from simroot.export.c.integer_filters import parts, room
from simroot.export.c.layers import Binary, Conv, Gather, Image, Layer, Pool, Window
from simroot.export.c.steps import schedule


class Residual(nn.Module):
    """Rows of a grid take the place of the grid that they are added to, while it is still read; then large windows."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.first = nn.Conv2d(6, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 6, (3, 1), padding=(2, 0), dilation=(2, 1))
        self.sparse = nn.Conv2d(6, 36, (3, 2), stride=(2, 3), padding=(1, 0))
        self.large = nn.Conv2d(36, 7, 3, padding=1)
        self.dense = nn.Linear(7 * 8 * 5, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(x + self.second(F.relu(self.first(x))))
        x = F.max_pool2d(self.sparse(x), 3, stride=1, padding=1)
        return self.dense(self.large(x).flatten(1))


def conv(source: int, side: int, channels: int, filters: int, taps: int = 3) -> Conv:
    window = Window((taps, taps), padding=(taps // 2, taps // 2))
    weight = np.ones((filters, taps, taps, channels))
    return Conv("", (source,), (side, side, filters), weight=weight, bias=np.zeros(filters), window=window)


def nothing(layer: Layer) -> int:
    return 0


def test_rows_of_a_convolution_before_a_pooling() -> None:
    """Five rows of 3 x 3 convolutions and two of what is pooled are there in place of 16."""
    pool = Pool("", (3,), (8, 8, 4), window=Window((2, 2), (2, 2)))
    layers = [Image("", (), (16, 16, 3)), conv(0, 16, 3, 4), conv(1, 16, 4, 4), conv(2, 16, 4, 4), pool]
    layers.append(Gather("", (4,), (16, 1, 16), index=np.arange(256)[::-1]))
    made = schedule(layers, [1] * 6, nothing)
    assert [step.chain for step in made.steps] == [(1, 2, 3, 4), (5,)]
    assert made.arena == 3 * 64 + 3 * 64 + 2 * 64 + 8 * 8 * 4
    assert schedule(layers[:3], [1] * 3, nothing).arena == 3 * 64  # the last one's numbers are the caller's
    apart = schedule(layers, [1] * 6, nothing, by_rows=False)
    assert [step.chain for step in apart.steps] == [(1,), (2,), (3,), (4,), (5,)]


def test_what_needs_no_rows_is_left_apart() -> None:
    """The arena is what the first pair needs, whatever becomes of the others."""
    layers = [Image("", (), (16, 16, 3)), conv(0, 16, 3, 9), conv(1, 16, 9, 9)]
    layers += [Binary("", (1, 2), (16, 16, 9)), conv(3, 16, 9, 1), conv(4, 16, 1, 1), conv(5, 16, 1, 1)]
    made = schedule(layers, [1] * 7, nothing)
    assert [step.chain for step in made.steps][-2:] == [(5,), (6,)]


@pytest.mark.parametrize(("deep", "fits"), [(1, False), (2, True), (3, True)])
def test_rows_that_take_the_place_of_what_is_still_read(deep: int, fits: bool) -> None:
    """Behind one 3 x 3 convolution the row above the next is still needed."""
    layers: list[Layer] = [Image("", (), (16, 16, 4)), conv(0, 16, 4, 4)]
    layers += [conv(1 + place, 16, 4, 4) for place in range(deep)]
    layers.append(Binary("", (1, deep + 1), (16, 16, 4)))
    chain = tuple(range(2, deep + 3))
    assert replaceable(layers, chain, 1) is fits
    assert not replaceable(layers, chain[:-1], 1)


def test_room_is_for_sums_and_numbers_of_two_windows_and_the_bytes_of_one() -> None:
    assert room(conv(0, 8, 3, 5)) == 8 * 6 + 5 * 28
    depthwise = Conv("", (0,), (8, 8, 5), weight=np.ones((5, 3, 3, 1)), bias=np.zeros(5), groups=5)
    assert room(depthwise) == 4 * 5 + 8 * 9  # sums of one window and its taps
    assert room(Pool("", (0,), (8, 8, 3))) == 0


def test_large_windows_are_read_in_parts() -> None:
    large, dense = conv(0, 8, 64, 5), Conv("", (0,), (1, 1, 3), weight=np.ones((3, 1, 1, 3000)), bias=np.zeros(3))
    assert (parts(large), room(large)) == (3, 8 * 6 + 5 * 192)
    assert (parts(dense), room(dense)) == (15, 8 * 4 + 5 * 200)
    assert parts(conv(0, 8, 65, 5)) == 1  # a row of 195 numbers is no multiple of four


def test_a_network_by_rows(tmp_path: Path) -> None:
    with networks_with("residual", Residual):
        layers = in_integers("residual")
        program = compiled_integers("residual", layers, tmp_path)
    text = program.source.read_text()
    assert "/* first, second, Binary: 16 x 16 x 6 */" in text
    inputs = channels_last(images(pixels=True, count=6))
    np.testing.assert_array_equal(program.scores(inputs), whole.scores(layers, inputs))


@pytest.mark.slow
def test_a_network_by_rows_in_float(tmp_path: Path) -> None:
    with networks_with("residual", Residual):
        program = compiled("residual", tmp_path)
        torch.manual_seed(5)
        model = Residual().eval()
    inputs = images(pixels=False)
    with torch.inference_mode():
        expected = model(torch.from_numpy(inputs)).numpy()
    assert np.abs(program.scores(channels_last(inputs)) - expected).max() <= 1e-5 * np.abs(expected).max()
    assert SIDE == 16
