"""The layers that C is written for: a network as a list of records, channels last, everything constant known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Shape = tuple[int, int, int]
"""Height, width and channels; a vector is (1, 1, C)."""
Pair = tuple[int, int]

WHOLE = (-np.inf, np.inf)


@dataclass
class Layer:
    """One step.

    Attributes:
        name: of the module that it comes from.
        inputs: the layers that it reads, by their place in the list; the image is the first of the list.
        shape: of its output.
    """

    name: str
    inputs: tuple[int, ...]
    shape: Shape

    @property
    def size(self) -> int:
        """Numbers in the output."""
        height, width, channels = self.shape
        return height * width * channels

    @property
    def weights(self) -> int:
        """Numbers that it holds."""
        return 0


@dataclass
class Image(Layer):
    """The network's input: uint8 pixels if ``pixels``, else float32."""

    pixels: bool = False


@dataclass
class Affine(Layer):
    """``scale_c x + shift_c``."""

    scale: Floats = field(default_factory=lambda: np.ones(1))
    shift: Floats = field(default_factory=lambda: np.zeros(1))
    clamp: tuple[float, float] = WHOLE

    @property
    def weights(self) -> int:
        return self.scale.size + self.shift.size


@dataclass
class Window:
    """Where filters are laid on a grid; padding is at the top and the left, the output's shape says the rest."""

    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)


@dataclass
class Conv(Layer):
    """Convolution or dense layer; ``weight`` is (filters, kh, kw, channels / groups).

    Attributes:
        centre: subtracted from pixels before they meet the weights; None if it reads no pixels.
        clamp: the least and the largest result, by which ReLU and ReLU6 are taken in.
    """

    weight: Floats = field(default_factory=lambda: np.zeros((0, 1, 1, 1)))
    bias: Floats = field(default_factory=lambda: np.zeros(0))
    window: Window = field(default_factory=Window)
    groups: int = 1
    centre: Floats | None = None
    clamp: tuple[float, float] = WHOLE

    @property
    def depthwise(self) -> bool:
        """Whether every filter reads one channel, its own."""
        return self.groups > 1 and self.weight.shape[3] == 1 and len(self.weight) == self.groups

    @property
    def weights(self) -> int:
        return self.weight.size + self.bias.size + (0 if self.centre is None else self.centre.size)


@dataclass
class Lp(Layer):
    """``bias_r - sum_i u_ri |x_i - z_ri|^order``; templates and weights are (templates, kh, kw, channels / groups)."""

    templates: Floats = field(default_factory=lambda: np.zeros((0, 1, 1, 1)))
    factors: Floats = field(default_factory=lambda: np.zeros((0, 1, 1, 1)))
    bias: Floats = field(default_factory=lambda: np.zeros(0))
    order: float = 2.0
    window: Window = field(default_factory=Window)
    groups: int = 1
    clamp: tuple[float, float] = WHOLE

    @property
    def weights(self) -> int:
        return 2 * self.templates.size + self.bias.size


@dataclass
class Mex(Layer):
    """MEX units over the channels: ``1/beta log(mean_c exp(beta (x_c + offsets_rc)))``."""

    offsets: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    beta: float = 1.0

    @property
    def weights(self) -> int:
        units, channels = self.offsets.shape
        return units * channels + units + channels


@dataclass
class Pool(Layer):
    """Pooling: ``kind`` is max, min, average or mex; positions outside of the grid do not count.

    Attributes:
        beta: of mex, one or one for each channel.
        divisor: of the average, in place of the number of positions; 0 for that number.
    """

    kind: str = "max"
    window: Window = field(default_factory=Window)
    beta: Floats = field(default_factory=lambda: np.zeros(1))
    divisor: int = 0

    @property
    def weights(self) -> int:
        return self.beta.size if self.kind == "mex" else 0


@dataclass
class Unary(Layer):
    """A function of each number: ``kind`` is a name in ``interpret.FUNCTIONS``, ``values`` its constants."""

    kind: str = "relu"
    values: tuple[float, ...] = ()


@dataclass
class Binary(Layer):
    """``kind`` is add, subtract or multiply; the second input may be one number for each channel."""

    kind: str = "add"
    clamp: tuple[float, float] = WHOLE


@dataclass
class Concat(Layer):
    """Channels of several grids of one size, one behind the other."""


@dataclass
class Gather(Layer):
    """Numbers in another order: ``index`` names for each output, in storage order, its source; -1 is a zero."""

    index: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def is_plain(self, source: Layer) -> bool:
        """Whether it is the source itself, maybe of another shape."""
        return self.index.size == source.size and bool((self.index == np.arange(source.size)).all())


def macs(layer: Layer) -> int:
    """Multiply-accumulates, as ``simroot.measure`` counts them."""
    height, width, _ = layer.shape
    if isinstance(layer, Conv):
        return layer.weight.size * height * width
    if isinstance(layer, Lp):
        return layer.templates.size * height * width
    if isinstance(layer, Mex):
        return layer.offsets.size * height * width
    return 0


def readers(layers: list[Layer]) -> list[list[int]]:
    """For each layer the layers that read it; the last one's reader is the caller, -1."""
    found: list[list[int]] = [[] for _ in layers]
    for place, layer in enumerate(layers):
        for source in layer.inputs:
            found[source].append(place)
    found[-1].append(-1)
    return found
