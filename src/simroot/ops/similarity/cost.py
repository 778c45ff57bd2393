"""What a similarity costs."""

from __future__ import annotations

from simroot.errors import ConfigError
from simroot.ops.cost import TRANSCENDENTAL, OpCost
from simroot.ops.similarity import Kind


def similarity_cost(
    rows: int, templates: int, coordinates: int, *, kind: Kind = "lp", order: float = 2.0, weighted: bool = True
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
