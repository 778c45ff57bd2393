"""The cost formulas against counts by hand, and whole networks against the printed figures."""

import math

import pytest

from simroot.errors import ConfigError
from simroot.ops import OpCost, mex_cost, mex_dense_cost, mex_pool_cost, similarity_cost


@pytest.mark.parametrize(
    ("settings", "per_coordinate"),
    [
        ({"order": 2.0}, 4),
        ({"order": 1.0}, 4),
        ({"order": 2.0, "weighted": False}, 3),
        ({"order": 1.37}, 24),
        ({"order": 0.5, "weighted": False}, 23),
        ({"kind": "linear"}, 2),
    ],
)
def test_similarity(settings: dict[str, object], per_coordinate: int) -> None:
    cost = similarity_cost(100, 8, 75, **settings)  # type: ignore[arg-type]
    assert cost == OpCost(macs=100 * 8 * 75, flops=100 * 8 * 75 * per_coordinate)


def test_unknown_kind() -> None:
    with pytest.raises(ConfigError, match="kind is 'cosine'"):
        similarity_cost(1, 1, 1, kind="cosine")  # type: ignore[arg-type]


def test_mex() -> None:
    for limit in (0.0, math.inf, -math.inf):
        assert mex_pool_cost(20, 9, beta=limit) == mex_cost(20, 9, beta=limit) == OpCost(0, 20 * 9)
    # Nine exps and additions and a log each.
    assert mex_pool_cost(20, 9, beta=1.0) == mex_cost(20, 9, beta=1.0) == OpCost(0, 20 * (9 * 11 + 10))


def test_mex_dense() -> None:
    # 64 exps, 10 x 64 multiply-accumulates and 10 logs at each of 81 places.
    assert mex_dense_cost(81, 64, 10) == OpCost(81 * 640, 81 * (640 + 1280 + 100))
    assert mex_dense_cost(81, 64, 10, beta=math.inf) == OpCost(0, 81 * 640 * 2)
    assert mex_dense_cost(81, 64, 10, beta=0.0) == OpCost(0, 81 * 74)


def test_three_compact_layers_come_to_3_5_million() -> None:
    """Deep SimNets, section 6.4: 10 channels; grids of 32, 16 and 8 with 5x5, 5x5 and 3x3 whitening."""
    flops = 0
    for grid, coordinates in ((32, 75), (16, 250), (8, 90)):
        flops += similarity_cost(grid**2, 10, coordinates, kind="linear").flops
        flops += similarity_cost(grid**2, 10, 10, order=2.0).flops
    flops += mex_pool_cost(10 * 16**2, 9, beta=math.inf).flops + mex_pool_cost(10 * 8**2, 9, beta=0.0).flops
    flops += mex_dense_cost(8**2, 10, 10).flops + mex_pool_cost(10, 8**2, beta=1.0).flops
    assert round(flops / 1e6, 1) == 3.5
