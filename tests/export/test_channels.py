"""int8 of networks whose channels differ, which are never active or need more than 8 bits, in ONNX and in C."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.networks import require_onnx
from simroot.engines import open_file
from simroot.engines.host import channels_last
from simroot.export import to_onnx
from simroot.export.c import whole
from simroot.export.c.capture import capture, normalised
from simroot.export.c.quantise import quantise
from simroot.export.c.simplify import simplify
from simroot.export.channels import LEAST, equalise_channels, relative
from simroot.export.description import Description

MEAN, STD = (0.5,) * 3, (0.25,) * 3
SIZE = (3, 8, 8)


def uneven(pool: nn.Module) -> nn.Module:
    """Scores of a convolution that reads channels of very different ranges, one of them never active.

    What is never active has by far the largest weights, as a whitening makes them for what has no variance.
    """
    torch.manual_seed(0)
    before, behind = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 4, 3, padding=1, groups=2)
    with torch.no_grad():
        assert before.bias is not None
        before.bias[1] = -100
        behind.weight[:, 1] *= 3000
        ranges = torch.tensor([1, 1, 0.01, 10, 1, 0.1])
        before.weight *= ranges.view(-1, 1, 1, 1)
        before.bias *= ranges
        behind.weight /= ranges.view(2, 1, 3, 1, 1).expand(-1, 2, -1, -1, -1).flatten(0, 1)
    return nn.Sequential(before, nn.ReLU(), pool, behind, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(1)).eval()


def pixels(count: int) -> np.ndarray[Any, Any]:
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (count, 3, 1, 1)).astype(np.uint8) // 2 + generator.integers(
        0, 128, (count, *SIZE), dtype=np.uint8
    )


def scores(model: nn.Module, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with torch.inference_mode():
        found: Tensor = model((torch.from_numpy(images) / 255 - 0.5) / 0.25)
    return found.numpy()


def relative_error(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    return float(np.square(found - expected).mean() / expected.var())


@pytest.mark.slow
@pytest.mark.parametrize("pool", [nn.AvgPool2d(2), nn.MaxPool2d(2)], ids=["average", "maximum"])
def test_onnx(pool: nn.Module, tmp_path: Path) -> None:
    require_onnx()
    model, images = uneven(pool), pixels(64)
    expected, path = scores(model, images), tmp_path / "a.onnx"
    to_onnx(model, path, SIZE, mean=MEAN, std=STD, images=images)
    equalise_channels(path, images)
    np.testing.assert_allclose(open_file(path).run(images), expected, atol=1e-4 * np.abs(expected).max())
    to_onnx(model, path, SIZE, mean=MEAN, std=STD, images=images, calibration=images)
    assert relative_error(open_file(path).run(images), expected) < 0.01


@pytest.mark.parametrize("pool", [nn.AvgPool2d(2), nn.MaxPool2d(2)], ids=["average", "maximum"])
def test_c(pool: nn.Module) -> None:
    model, images = uneven(pool), pixels(64)
    layers = simplify(normalised(capture(model, SIZE), Description(input_size=SIZE, mean=MEAN, std=STD)))
    found = whole.scores(quantise(layers, torch.from_numpy(images)), channels_last(images))
    assert relative_error(found, scores(model, images)) < 0.01


def test_ranges_of_channels() -> None:
    np.testing.assert_array_equal(relative(np.array([4.0, 1.0, 0.0])), [1, 0.25, LEAST])
    np.testing.assert_array_equal(relative(np.zeros(2)), 1)


class Fine(nn.Module):
    """Two layers; what decides in the first is a thousandth of the range of what it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Linear(4, 2, bias=False), nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.fine.weight.copy_(torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]))
            self.coarse.weight.copy_(torch.eye(2))

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.coarse(torch.tanh(1000 * self.fine(x)))
        return scores


@pytest.mark.slow
def test_a_layer_that_needs_more_than_8_bits_stays_in_float(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    require_onnx()
    import onnx

    images = np.random.default_rng(0).standard_normal((200, 4), dtype=np.float32) / 1000
    calibration = np.concatenate([images, np.full((1, 4), 10, np.float32)])
    handlers = list(logging.root.handlers)
    found = to_onnx(Fine(), tmp_path / "a.onnx", (4,), images=images, calibration=calibration)
    assert found.agreement >= 0.95
    assert "1 of 2 layers stay in float32, since int8 costs them too much accuracy: fine (" in caplog.text
    constants = {tensor.name: tensor.data_type for tensor in onnx.load(tmp_path / "a.onnx").graph.initializer}
    kinds = sorted(kind for name, kind in constants.items() if "weight" in name and "scale" not in name)
    assert onnx.TensorProto.FLOAT in kinds
    assert onnx.TensorProto.INT8 in kinds
    assert logging.root.handlers == handlers  # the quantiser adds some
