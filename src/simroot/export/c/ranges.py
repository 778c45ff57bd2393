"""What each layer's whole numbers stand for, found on calibration images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from simroot.errors import ConfigError
from simroot.export.c.integers import OCTAVE, Numbers
from simroot.export.c.interpret import results
from simroot.export.c.layers import WHOLE, Affine, Concat, Conv, Floats, Gather, Image, Layer, Lp, Mex, Pool, readers
from simroot.untrusted.schema import Range, require

_SAMPLES = 200_000
_SHARES = np.linspace(0.4, 1.0, 31)
_HIGHEST = 24_000  # of what a MEX unit reads, 16 bits: some room above what was seen

_Factor = Annotated[float, Range(1e-30, 1e30)]


class _Similarity(TypedDict):
    mean: list[Annotated[float, Range(-1e30, 1e30)]]
    deviation: list[_Factor]


class _Numbers(TypedDict):
    scale: _Factor
    zero: Annotated[int, Range(-(2**40), 2**40)]
    bits: Literal[8, 16]


class _Always(TypedDict):
    similarities: dict[str, _Similarity]
    channels: dict[str, list[_Factor]]
    numbers: list[_Numbers]


class _Saved(_Always, total=False):
    scores: list[Annotated[float, Range(-1e30, 1e30)]]


@dataclass(frozen=True)
class Ranges:
    """All that calibration images say of a network: with it its weights alone decide the network in whole numbers.

    Attributes:
        similarities: by the place of a similarity that a convolution reads, means and deviations of its templates.
        channels: by the place of a convolution that another reads, the ranges of its channels.
        numbers: of each layer; see ``numbers_now`` for those around MEX units.
        scores: what whole numbers take from each score on average, which is added; empty for nothing.
    """

    similarities: Mapping[int, tuple[Floats, Floats]]
    channels: Mapping[int, NDArray[np.float64]]
    numbers: Sequence[Numbers]
    scores: Sequence[float] = ()

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "similarities": {
                str(place): {"mean": mean.tolist(), "deviation": deviation.tolist()}
                for place, (mean, deviation) in self.similarities.items()
            },
            "channels": {str(place): scale.tolist() for place, scale in self.channels.items()},
            "numbers": [vars(one) for one in self.numbers],
            "scores": list(self.scores),
        }

    @classmethod
    def from_dict(cls, values: Any) -> Ranges:
        """The ranges of ``to_dict``.

        Raises:
            ConfigError: if the values are none.
        """
        require(values, _Saved, "")
        if not all(place.isdecimal() for place in (*values["similarities"], *values["channels"])):
            raise ConfigError("a place is no whole number")
        return cls(
            {
                int(place): (np.array(one["mean"], dtype=np.float64), np.array(one["deviation"], dtype=np.float64))
                for place, one in values["similarities"].items()
            },
            {int(place): np.array(scale, dtype=np.float64) for place, scale in values["channels"].items()},
            [Numbers(**one) for one in values["numbers"]],
            tuple(values.get("scores", ())),
        )


def add_to_scores(layers: list[Layer], added: Floats) -> None:
    """Add a number to each score, in place, if the layer that gives them, maybe pooled, has one for each to add to."""
    layer, source = layers[-1], layers[layers[-1].inputs[0]]
    while isinstance(layer, Pool) or (isinstance(layer, Gather) and layer.is_plain(source)):
        if getattr(layer, "divisor", 0) or len(readers(layers)[layer.inputs[0]]) != 1:
            return
        layer, source = source, layers[source.inputs[0]]
    if not len(added) == layers[-1].size == layer.shape[2] or getattr(layer, "clamp", WHOLE) != WHOLE:
        return
    if isinstance(layer, Conv | Lp):
        layer.bias = layer.bias + added
    elif isinstance(layer, Affine):
        layer.shift = layer.shift + added
    elif isinstance(layer, Mex):
        layer.offsets = layer.offsets + added[:, None]


def numbers_now(layers: list[Layer], numbers: Sequence[Numbers]) -> list[Numbers]:
    """What outputs stand for when betas have changed: MEX units keep the highest values, in their steps of now."""
    found, groups = list(numbers), _groups(layers)
    for place, layer in enumerate(layers):
        if isinstance(layer, Mex):
            scale = math.log(2) / (layer.beta * OCTAVE)
            for member in (layer.inputs[0], place):
                highest = (_HIGHEST - numbers[member].zero) * numbers[member].scale
                now = Numbers(scale, _HIGHEST - round(highest / scale), 16)
                found = [now if group == groups[member] else one for one, group in zip(found, groups, strict=True)]
    return found


def numbers_of(layers: list[Layer], images: Tensor) -> list[Numbers]:
    """For each layer what its output stands for.

    Layers that only move or compare numbers share them with what they read. What a MEX unit reads and gives are 16 bits
    in steps of 1 / 256 of a factor of two, and the scores are 16 bits if they can be; all else is 8 bits, in the range
    that loses least of the calibration images' values.
    """
    groups = _groups(layers)
    seen = {group: np.empty(0) for group in set(groups)}
    most = [0.0] * len(layers)
    for place, output in enumerate(results(layers, images)):
        values = output.flatten().numpy()
        most[place] = float(values.max())
        step = max(1, values.size // _SAMPLES)
        seen[groups[place]] = np.concatenate(
            (seen[groups[place]], values[::step], values[[values.argmax(), values.argmin()]])
        )
    found: dict[int, Numbers] = {}
    for place, layer in enumerate(layers):
        if isinstance(layer, Mex):
            scale = math.log(2) / (layer.beta * OCTAVE)
            for member in (layer.inputs[0], place):
                group = groups[member]
                numbers = Numbers(scale, _HIGHEST - round(float(seen[group].max()) / scale), 16)
                if found.setdefault(group, numbers) != numbers:
                    raise ConfigError(
                        f"{layer.name} shares what it reads with another MEX unit, which has no integer form"
                    )
    last = groups[-1]
    if last not in found and all(_gives_16(layers[k]) for k, group in enumerate(groups) if group == last):
        found[last] = Numbers(max(float(np.abs(seen[last]).max()), 1e-30) / 30_000, 0, 16)
    return [found.get(group) or found.setdefault(group, _narrow(seen[group])) for group in groups]


def _gives_16(layer: Layer) -> bool:
    return isinstance(layer, Conv | Lp | Pool | Gather | Concat | Affine)


def _groups(layers: list[Layer]) -> list[int]:
    """For each layer a number that it shares with those whose whole numbers stand for the same."""
    groups = list(range(len(layers)))
    for place, layer in enumerate(layers):
        if isinstance(layer, Pool | Gather | Concat):
            for source in layer.inputs:
                old, new = groups[place], groups[source]
                groups = [new if group == old else group for group in groups]
    if any(isinstance(layer, Image) and groups.count(groups[place]) > 1 for place, layer in enumerate(layers)):
        raise ConfigError("the network pools or moves pixels that are not normalised, which has no integer form")
    return groups


def _narrow(values: np.ndarray) -> Numbers:
    """8 bits, in the range of least squared error, clipped values included; 0 is one of the numbers."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    if high - low < 1e-30:
        return Numbers(1.0, 0)
    best, least = None, math.inf
    for share in _SHARES:
        scale = share * (high - low) / 255
        zero = round(-128 - share * low / scale)
        numbers = Numbers(scale, int(np.clip(zero, -128, 127)))
        error = float(np.square(scale * (numbers.quantised(values) - numbers.zero) - values).mean())
        if error < least:
            best, least = numbers, error
    assert best is not None
    return best
