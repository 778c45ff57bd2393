"""What each layer's whole numbers stand for, found on calibration images."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from simroot.errors import ConfigError
from simroot.export.c.integers import OCTAVE, Numbers
from simroot.export.c.interpret import results
from simroot.export.c.layers import Affine, Concat, Conv, Gather, Image, Layer, Lp, Mex, Pool

_SAMPLES = 200_000
_SHARES = np.linspace(0.4, 1.0, 31)
_HIGHEST = 24_000  # of what a MEX unit reads, 16 bits: some room above what was seen


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
