"""Numbers of float32 in 28 bits, which a page loads sooner: those of a network have few exponents."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simroot.export.c.text import kernel, table

_KNOWN = 15
"""Exponents that have a place among four bits; the sixteenth says that a number stands apart."""


def unpacking(prefix: str, numbers: NDArray[np.float32]) -> str:
    """C text with a function that leaves the numbers in ``PREFIX_numbers``, every bit as it was.

    Sign and significand of each number are three bytes, and two exponents are one, counted from the least of those that
    have a place. Numbers of other exponents, such as 0, are there as they are, in their order.
    """
    bits = numbers.view(np.uint32)
    exponents = (bits >> 23 & 255).astype(np.int64)
    seen = np.convolve(np.bincount(exponents, minlength=256 + _KNOWN), np.ones(_KNOWN, dtype=np.int64), "valid")
    least = int(seen.argmax())
    places = np.where((exponents >= least) & (exponents < least + _KNOWN), exponents - least + 1, 0)
    rest = bits & 0x7FFFFF | bits >> 8 & 0x800000
    pairs = np.pad(places, (0, len(places) % 2)).reshape(-1, 2)
    tables = [
        table("uint8_t", "sr_packed", np.stack([rest >> shift & 255 for shift in (0, 8, 16)], 1)),
        table("uint8_t", "sr_exponents", pairs[:, 0] | pairs[:, 1] << 4),
        table("uint32_t", "sr_apart", np.append(bits[places == 0], 0)),
    ]
    return kernel("web/unpack.c", tables="\n".join(tables), prefix=prefix, count=len(numbers), below=least - 1)
