"""What the operators cost, by the convention of Deep SimNets (section 6.2).

`macs` counts a multiply-accumulate as one. `flops` counts an addition, multiplication, comparison, absolute value or
square as one and an exp or log as ten. Whatever depends on parameters alone (exp of offsets, u z of a linear
similarity) is free, because it is computed once and not per image.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from simroot.errors import ConfigError

TRANSCENDENTAL = 10


class OpCost(NamedTuple):
    """Multiply-accumulates and floating point operations."""

    macs: int
    flops: int


def similarity_cost(
    rows: int, templates: int, coordinates: int, *, kind: str = "lp", order: float = 2.0, weighted: bool = True
) -> OpCost:
    """Cost of `similarity` on `rows` receptive fields of `coordinates` coordinates.

    linear: 2 per coordinate. l_p: subtract, absolute value or square, weight, accumulate: 4, or 3 when unweighted;
    an order other than 1 or 2 is exp(p log |d|), 20 more. Every coordinate is one multiply-accumulate.
    """
    if kind == "linear":
        per_coordinate = 2
    elif kind == "lp":
        per_coordinate = (4 if weighted else 3) + (0 if order in (1, 2) else 2 * TRANSCENDENTAL)
    else:
        raise ConfigError(f"kind is {kind!r}, expected 'lp' or 'linear'")
    macs = rows * templates * coordinates
    return OpCost(macs, macs * per_coordinate)


def mex_cost(outputs: int, terms: int, *, beta: float = 1.0) -> OpCost:
    """Cost of `mex` with `outputs` results over `terms` values each.

    A comparison (beta = +-inf) or an addition (beta = 0) per term; otherwise an exp and an addition per term and a log
    per result.
    """
    if _is_limit(beta):
        return OpCost(0, outputs * terms)
    return OpCost(0, outputs * (terms * (TRANSCENDENTAL + 1) + TRANSCENDENTAL))


def mex_pool_cost(outputs: int, window: int, *, beta: float = 1.0) -> OpCost:
    """Cost of `mex_pool2d` (`global_mex_pool2d`) with `outputs` results over `window` positions each: as `mex_cost`."""
    return mex_cost(outputs, window, beta=beta)


def mex_dense_cost(rows: int, channels: int, outputs: int, *, beta: float = 1.0) -> OpCost:
    """Cost of `mex_dense` from `channels` to `outputs` at each of `rows` places.

    log(exp(beta x) exp(beta offsets)^T): an exp per channel, a multiply-accumulate per channel and output, a log per
    output. At beta = +-inf an addition and a comparison, at beta = 0 the mean of the channels plus one per output.
    """
    if math.isinf(beta):
        return OpCost(0, rows * outputs * channels * 2)
    if beta == 0:
        return OpCost(0, rows * (channels + outputs))
    macs = rows * outputs * channels
    return OpCost(macs, 2 * macs + rows * (channels + outputs) * TRANSCENDENTAL)


def _is_limit(beta: float) -> bool:
    return beta == 0 or math.isinf(beta)
