"""Tiny networks of every layer that has a C form, and their C text compiled once for all tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simroot.engines.host import HostProgram, channels_last, compiler
from simroot.export.c import whole
from simroot.export.c.capture import capture, normalised
from simroot.export.c.emit import Examples, files
from simroot.export.c.floats import FloatArithmetic
from simroot.export.c.integer_text import IntegerArithmetic
from simroot.export.c.integers import WholeLayer
from simroot.export.c.quantise import quantise
from simroot.export.c.simplify import simplify
from simroot.export.description import Description
from simroot.layers import GlobalMexPool2d, MexDense, MexPool2d, Similarity2d
from simroot.models import create_model


class Everything(nn.Module):
    """Layers and functions that torchvision's networks have, each on a small grid."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.thin = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.grouped = nn.Conv2d(6, 12, 3, padding=2, dilation=2, groups=2)
        self.depthwise = nn.Conv2d(12, 12, (3, 5), padding=(1, 2), groups=12)
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, 3, 1), nn.SiLU(), nn.Conv2d(3, 12, 1))
        self.wide = nn.Conv2d(12, 11, 1)
        self.before = nn.BatchNorm2d(23)
        self.dense = nn.Linear(23 * 4, 5)
        for norm in (self.norm, self.before):
            nn.init.uniform_(norm.running_mean)  # type: ignore[arg-type]
            nn.init.uniform_(norm.running_var, 0.5, 2.0)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.norm(self.stem(x)))
        x = F.hardswish(self.grouped(x + self.thin(x)))
        x = x.view(len(x), 2, 6, *x.shape[2:]).transpose(1, 2).flatten(1, 2)  # a channel shuffle
        shortcut = x
        x = F.leaky_relu(self.depthwise(x), 0.1)
        x = x * F.hardsigmoid(self.squeeze(x)) + shortcut
        halves = x.chunk(2, 1)
        x = torch.cat((halves[1], torch.sigmoid(halves[0])), 1)
        y = F.pad(x[:, :, ::2, ::2], (0, 1, 1, 0, 0, 0))
        y = F.avg_pool2d(F.max_pool2d(y, 3, 2, 1), 2, 1, padding=1)[:, :, :2, :2]
        z = F.adaptive_avg_pool2d(torch.tanh(self.wide(x)), 2)
        x = F.relu(self.before(torch.cat((y, z), 1)))
        return self.dense(F.dropout(x.flatten(1), training=self.training)) * 2 - 0.5


class Similarities(nn.Module):
    """Similarities of several orders, MEX units, and poolings of every beta."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Similarity2d(3, 6, 3, order=1.0, padding=1, stride=2, bias=True)
        self.second = Similarity2d(6, 4, 1, order=2.0, groups=2)
        self.third = Similarity2d(4, 7, 2, order=1.5)
        self.fourth = Similarity2d(7, 5, 1, order=1.2)
        self.linear = Similarity2d(5, 4, 1, kind="linear")
        self.pools = nn.ModuleList(MexPool2d(2, 1, beta=beta) for beta in (0.7, -2.0, float("-inf"), 1e-4))
        self.channels = MexPool2d(2, 1, beta=1.0, learn_beta=True, channels=4)
        self.channels.beta = torch.tensor([0.0, -1.0, 2.0, 30.0])
        self.classifier = MexDense(4, 5, beta=0.8)
        self.last = GlobalMexPool2d(beta=0.3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fourth(self.third(self.pools[0](self.second(self.first(x)))))
        x = self.channels(self.linear(x / 4))
        for pool in self.pools[1:]:
            x = pool(x)
        return self.last(self.classifier(x))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "everything": Everything,
    "similarities": Similarities,
    "mixed": lambda: create_model("simnet_mixed", 5, channels=3, depth=1, image_size=16),
}
SIDE = 16


@contextmanager
def networks_with(case: str, build: Callable[[], nn.Module]) -> Iterator[None]:
    """One more network for a while."""
    NETWORKS[case] = build
    try:
        yield
    finally:
        del NETWORKS[case]


MEAN, STD = (0.49, 0.48, 0.44), (0.25, 0.24, 0.26)


def made(case: str) -> nn.Module:
    torch.manual_seed(5)
    return NETWORKS[case]().eval()


def images(pixels: bool, count: int = 4) -> np.ndarray[Any, Any]:
    generator = np.random.default_rng(1)
    shape = (count, 3, SIDE, SIDE)
    if pixels:
        return generator.integers(0, 256, shape, dtype=np.uint8)
    return generator.standard_normal(shape, dtype=np.float32)


def need_compiler() -> None:
    if compiler() is None:
        pytest.skip("no C compiler is installed")


def compiled(case: str, folder: Path, **options: Any) -> HostProgram:
    """A network without normalisation as C, optimised little, so that it compiles fast."""
    need_compiler()
    model = made(case)
    inputs = images(pixels=False)
    with torch.inference_mode():
        expected = model(torch.from_numpy(inputs)).numpy()
    arithmetic = FloatArithmetic(simplify(capture(model, inputs.shape[1:])), case)
    description = Description(inputs.shape[1:], model=case)
    tolerance = 1e-4 * float(np.abs(expected).max())
    texts = files(arithmetic, description, Examples(channels_last(inputs[:1]), expected[:1], tolerance))
    for name, text in texts.items():
        (folder / name).write_text(text)
    shape = (SIDE, SIDE, 3)
    return HostProgram(folder / f"{case}.c", case, shape, 5, np.float32, **{"flags": ["-O1"], **options})


def in_integers(case: str) -> list[WholeLayer]:
    """A network of pixels in whole numbers, calibrated on noise."""
    model = made(case)
    description = Description((3, SIDE, SIDE), mean=MEAN, std=STD, model=case)
    layers = simplify(normalised(capture(model, (3, SIDE, SIDE)), description))
    return quantise(layers, torch.from_numpy(images(pixels=True, count=32)))


def compiled_integers(case: str, layers: list[WholeLayer], folder: Path, **options: Any) -> HostProgram:
    need_compiler()
    inputs = channels_last(images(pixels=True, count=1))
    description = Description((3, SIDE, SIDE), mean=MEAN, std=STD, model=case, precision="int8")
    examples = Examples(inputs, whole.scores(layers, inputs), 0.0)
    for name, text in files(IntegerArithmetic(layers, case), description, examples).items():
        (folder / name).write_text(text)
    shape = (SIDE, SIDE, 3)
    return HostProgram(folder / f"{case}.c", case, shape, 5, np.uint8, **{"flags": ["-O1"], **options})


def installed(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found
