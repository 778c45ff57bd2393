"""The arithmetic of the integer form, to the bit: what docs/integers.md specifies, in NumPy.

The C text computes exactly this. Sums of products are computed in float64 here, in which they are exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simroot.export.c.layers import Floats, Layer

Whole = NDArray[np.int64]

OCTAVE = 256
"""Steps of a factor of two in what a MEX unit reads and gives."""

FINE = 4096
"""Steps of a factor of two in exponents and logarithms."""

ONE = 1 << 20
"""What stands for 1 in exponentials."""

EXP2 = np.rint(ONE * 2.0 ** (-np.arange(257) / 256)).astype(np.int64)
"""``2^(-i / 256)``."""

POWERS = tuple(np.rint(2.0**30 * 2.0 ** (-np.arange(16) / steps)).astype(np.int64) for steps in (16, 256))
"""By whose products, with the halves of a step added, processors that hold them in registers have ``EXP2``."""


@dataclass(frozen=True)
class Numbers:
    """What whole numbers stand for: ``scale (q - zero)``.

    Attributes:
        scale, zero: see above.
        bits: 8 or 16, with sign.
    """

    scale: float
    zero: int
    bits: int = 8

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the largest that fits."""
        half = 1 << (self.bits - 1)
        return -half, half - 1

    def quantised(self, values: Floats) -> Whole:
        """Values as whole numbers: rounded, ties to even, and kept within the limits."""
        return np.clip(np.rint(values / self.scale) + self.zero, *self.limits).astype(np.int64)

    def clamped(self, clamp: tuple[float, float]) -> tuple[int, int]:
        """The limits within a clamp."""
        ends = [np.clip(end / self.scale + self.zero, *self.limits) for end in clamp]
        return math.floor(ends[0] + 0.5), math.floor(ends[1] + 0.5)


@dataclass(frozen=True)
class WholeLayer:
    """A layer in whole numbers.

    Attributes:
        layer: what it comes from: kind, shape and windows.
        numbers: of its output; of the image one for each pixel as it is.
        constants: tables and numbers by name; see ``simroot.export.c.whole``.
    """

    layer: Layer
    numbers: Numbers
    constants: dict[str, Any] = field(default_factory=dict)


def factors(real: Floats) -> tuple[Whole, Whole]:
    """Real factors as ``multiplier / 2^shift``: multipliers of 31 bits with sign, shifts of 1 to 62."""
    fraction, exponent = np.frexp(np.asarray(real, dtype=np.float64).reshape(-1))
    multiplier = np.rint(fraction * 2.0**31).astype(np.int64)
    shift = 31 - exponent.astype(np.int64)
    full = np.abs(multiplier) == 1 << 31
    multiplier, shift = np.where(full, multiplier // 2, multiplier), np.where(full, shift - 1, shift)
    over = np.maximum(shift - 62, 0)  # tiny: fewer digits
    multiplier, shift = multiplier >> np.minimum(over, 40), np.minimum(shift, 62)
    if (shift < 1).any():
        raise OverflowError(f"a factor of {np.abs(real).max():g} is too large for 31 bits")
    return multiplier, shift


def rescale(value: Whole, multiplier: Any, shift: Any, zero: Any, low: int, high: int) -> Whole:
    """``value multiplier / 2^shift``, rounded half up, plus zero, within limits."""
    half = np.left_shift(np.int64(1), np.asarray(shift, dtype=np.int64) - 1)
    return np.clip(((value * multiplier + half) >> shift) + zero, low, high)


def exp2(t: Whole) -> Whole:
    """``2^20 2^(-t / 4096)``, by straight lines between 256 steps; 0 from 21 factors of two on."""
    whole, index, part = t >> 12, t >> 4 & 255, t & 15
    value = EXP2[index] - ((EXP2[index] - EXP2[index + 1]) * part >> 4)
    return np.where(whole > 20, 0, value >> np.minimum(whole, 20))


def log2(value: Whole) -> Whole:
    """The logarithm times 4096, rounded down, for values of 1 to 2^32 - 1: twelve squarings."""
    found = np.frexp(value.astype(np.float64))[1].astype(np.int64) - 1
    m = value.astype(np.uint64) << (31 - found).astype(np.uint64)
    for _ in range(12):
        m = m * m >> np.uint64(31)
        bit = m >> np.uint64(32)
        m >>= bit
        found = 2 * found + bit.astype(np.int64)
    return found


def mean(total: Whole, count: Whole) -> Whole:
    """The mean, rounded half up."""
    return (2 * total + count) // (2 * count)
