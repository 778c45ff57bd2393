"""What MEX costs: over axes, in windows, and as a dense layer."""

from __future__ import annotations

import math

from simroot.ops.cost import TRANSCENDENTAL, OpCost


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
