"""What the operators cost, by the convention of Deep SimNets (section 6.2).

`macs` counts a multiply-accumulate as one. `flops` counts an addition, multiplication, comparison, absolute value or
square as one and an exp or log as ten. Whatever depends on parameters alone (exp of offsets, u z of a linear
similarity) is free, because it is computed once and not per image.
"""

from __future__ import annotations

from typing import NamedTuple

TRANSCENDENTAL = 10


class OpCost(NamedTuple):
    """Multiply-accumulates and floating point operations."""

    macs: int
    flops: int
