"""The M-step's parts against brute force."""

import numpy as np
import pytest
import torch
from scipy import stats

from estimators.support import Array, assert_near, slow_location, slow_shape
from simroot.estimators._maximization import (
    SHAPE_BOUNDS,
    Bracket,
    absolute_moments,
    best_shapes,
    decreasing_root,
    locations,
    scales_of,
)

SHAPES = (0.5, 0.7, 1.0, 1.05, 1.5, 2.0, 3.0, 6.0)


def weighted(levels: int = 41, columns: int = 5, seed: int = 0) -> tuple[Array, Array]:
    """Sorted levels and skewed weights, some of them zero."""
    random = np.random.default_rng(seed)
    values = np.sort(random.gumbel(size=levels))
    return values, random.exponential(size=(levels, columns)) * (random.random((levels, columns)) < 0.7)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("start", [-100.0, 0.3, 100.0])
def test_locations_are_the_minima(shape: float, start: float) -> None:
    values, weights = weighted()
    columns = weights.shape[1]
    found = locations(
        torch.from_numpy(values),
        torch.from_numpy(weights),
        torch.full((columns,), shape, dtype=torch.float64),
        torch.full((columns,), start, dtype=torch.float64),
        torch.full((columns,), 0.1, dtype=torch.float64),
    )
    expected = [slow_location(values, weights[:, k], shape) for k in range(columns)]
    assert_near("location", found, expected)


def test_locations_of_different_shapes_at_once() -> None:
    values, weights = weighted(columns=len(SHAPES))
    found = locations(
        torch.from_numpy(values),
        torch.from_numpy(weights),
        torch.tensor(SHAPES, dtype=torch.float64),
        torch.zeros(len(SHAPES), dtype=torch.float64),
        torch.full((len(SHAPES),), 0.1, dtype=torch.float64),
    )
    assert_near("location", found, [slow_location(values, weights[:, k], p) for k, p in enumerate(SHAPES)])


def test_locations_of_one_level_are_that_level() -> None:
    levels, weights = torch.full((4,), 3.0, dtype=torch.float64), torch.eye(4, 1, dtype=torch.float64)
    for shape in SHAPES:
        found = locations(levels, weights, torch.tensor([shape]).double(), torch.zeros(1).double(), torch.ones(1))
        assert found.item() == pytest.approx(3.0, abs=1e-7)


@pytest.mark.parametrize("sharing", ["mixture", "component", "coordinate"])
@pytest.mark.parametrize("true", [0.7, 1.0, 2.5])
def test_best_shapes_maximise_the_profile_likelihood(sharing: str, true: float) -> None:
    random = np.random.default_rng(1)
    features, size, components = 2, 400, 3
    values = np.sort(stats.gennorm.rvs(true, size=(features, size), random_state=random))
    weights = random.random((features, size, components))
    means = random.normal(size=(features, components)) / 3
    groups = {
        "mixture": [[(t, k) for t in range(features) for k in range(components)]],
        "component": [[(t, k) for t in range(features)] for k in range(components)],
        "coordinate": [[(t, k) for k in range(components)] for t in range(features)],
    }[sharing]
    grid = {"mixture": (1, 1), "component": (1, components), "coordinate": (features, 1)}[sharing]
    shapes = torch.full(grid, 2.0, dtype=torch.float64)
    levels, masses, centers = map(torch.from_numpy, (values, weights, means))
    for _ in range(6):  # a step is limited
        shapes = best_shapes(levels, masses, centers, shapes, 1e-6)
    expected = [
        slow_shape([np.abs(values[t] - means[t, k]) for t, k in group], [weights[t, :, k] for t, k in group])
        for group in groups
    ]
    assert_near("shape", shapes.flatten(), expected)


def test_best_shapes_stay_within_bounds() -> None:
    """Two points ask for an infinite shape, a spike with distant points for one of almost nothing."""
    pair = torch.tensor([[-1.0, 1.0]]).double()
    spike = torch.cat([torch.zeros(1), torch.logspace(-6, 6, 40)]).double()[None]
    for levels, bound in ((pair, SHAPE_BOUNDS[1]), (spike, SHAPE_BOUNDS[0])):
        weights, means = torch.ones(1, levels.shape[1], 1).double(), torch.zeros(1, 1).double()
        shapes = torch.ones(1, 1).double()
        for _ in range(30):
            shapes = best_shapes(levels, weights, means, shapes, 1e-9)
        assert shapes.item() == pytest.approx(bound)


def test_scales_are_the_best_and_floored() -> None:
    values, weights = weighted(columns=1)
    for shape in SHAPES:
        moments, _ = absolute_moments(
            torch.from_numpy(values)[None],
            torch.from_numpy(weights)[None],
            torch.zeros(1, 1).double(),
            torch.full((1, 1), shape).double(),
        )
        scale = scales_of(moments, torch.tensor(shape).double(), 1e-3).item()

        def likelihood(scale: float, shape: float = shape) -> float:
            return float((weights[:, 0] * stats.gennorm.logpdf(values, shape, scale=scale)).sum())

        assert likelihood(scale) > max(likelihood(scale * 1.001), likelihood(scale / 1.001))
    assert scales_of(torch.zeros(1), torch.ones(1), 0.25).item() == 0.25


def test_a_root_outside_the_bracket_gives_the_nearer_end() -> None:
    roots = torch.tensor([-9.0, 0.25, 9.0]).double()
    bracket = Bracket(torch.zeros(3).double(), 0.1, torch.tensor(-1.0).double(), torch.tensor(1.0).double())
    found = decreasing_root(lambda at: (roots - at) ** 3, bracket, 1e-9)
    assert found.tolist() == pytest.approx([-1.0, 0.25, 1.0], abs=1e-6)
