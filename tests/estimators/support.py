"""Samples, slow float64 references written from the formulas, and how far the estimators may be from them."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

Array = NDArray[Any]


class Tolerance(NamedTuple):
    value: float
    reason: str


# Absolute, in the unit of what is compared (nats for likelihoods).
TOLERANCES = {
    ("density", "float64"): Tolerance(1e-10, "sums of some dozen logarithms"),
    ("density", "float32"): Tolerance(2e-4, "exp(p log z) of values up to some dozens in 24 bits"),
    ("location", "float64"): Tolerance(2e-6, "the root is found to 1e-7, scipy's minimum to the root of the precision"),
    ("shape", "float64"): Tolerance(1e-5, "log-shapes are found to 1e-7, scipy's maximum to 1e-6"),
    ("em step", "float64"): Tolerance(1e-5, "means and shapes as above, then closed forms"),
    ("maximum likelihood", "float64"): Tolerance(1e-4, "EM stops at a rise of 1e-12, and scipy's simplex at 1e-4"),
    ("bound", "float64"): Tolerance(1e-9, "rounding of a mean of likelihoods"),
    ("bound", "float32"): Tolerance(2e-5, "sums of likelihoods of some nats in 24 bits, log-density by log-density"),
    ("rounding", "float32"): Tolerance(2e-3, "nats a coordinate by which rounding to 512 levels changes a likelihood"),
    ("whitening", "float64"): Tolerance(1e-9, "an eigendecomposition of a well conditioned covariance"),
    ("whitening", "float32"): Tolerance(1e-4, "rows in 24 bits around a mean a hundred deviations away"),
}


def assert_near(what: str, actual: Any, expected: Any, dtype: str = "float64") -> None:
    limit = TOLERANCES[what, dtype]
    found = np.abs(np.asarray(actual, dtype=np.float64) - np.asarray(expected, dtype=np.float64)).max()
    assert found <= limit.value, f"{what} is off by {found:.2g}, allowed {limit.value:.2g}: {limit.reason}"


class Mixture(NamedTuple):
    """Samples (N, d) and what they were drawn from."""

    samples: Array
    labels: Array
    means: Array
    scales: Array
    shape: float


def draw(shape: float, components: int = 3, features: int = 4, size: int = 3000, seed: int = 0) -> Mixture:
    """A mixture of well separated components of one shape."""
    random = np.random.default_rng(seed)
    means = 8 * np.arange(components)[:, None] + random.normal(size=(components, features))
    scales = random.uniform(0.5, 2, (components, features))
    labels = random.integers(components, size=size)
    noise = stats.gennorm.rvs(shape, size=(size, features), random_state=random)
    return Mixture(means[labels] + scales[labels] * noise, labels, means, scales, shape)


def slow_joint(samples: Array, weights: Array, means: Array, scales: Array, shapes: Array) -> Array:
    """log P(sample and component) (N, K), one term at a time; ``shapes`` (K, d)."""
    joint = np.empty((len(samples), len(weights)))
    for i, sample in enumerate(samples):
        for k, weight in enumerate(weights):
            total = math.log(weight)
            for y, mean, scale, shape in zip(sample, means[k], scales[k], shapes[k], strict=True):
                total += math.log(shape) - math.log(2 * scale) - math.lgamma(1 / shape)
                total -= (abs(y - mean) / scale) ** shape
            joint[i, k] = total
    return joint


def slow_location(values: Array, weights: Array, shape: float) -> float:
    """The minimum of sum w |x - m|^p by trying all values, and between neighbours of the best by golden section."""

    def cost(mean: float) -> float:
        return float((weights * np.abs(values - mean) ** shape).sum())

    ordered = np.sort(values)
    best = int(np.argmin([cost(value) for value in ordered]))
    if shape <= 1:
        return float(ordered[best])
    bounds = ordered[max(best - 1, 0)], ordered[min(best + 1, len(ordered) - 1)]
    return float(optimize.minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-9}).x)


def slow_profile(log_shape: float, distances: list[Array], weights: list[Array]) -> float:
    """Negative log-likelihood of |x - mu| when every group has the best scale for the shape."""
    shape = math.exp(log_shape)
    total = 0.0
    for distance, weight in zip(distances, weights, strict=True):
        scale = (shape * (weight * distance**shape).sum() / weight.sum()) ** (1 / shape)
        each = math.log(shape) - math.log(2 * scale) - math.lgamma(1 / shape) - (distance / scale) ** shape
        total -= float((weight * each).sum())
    return total


def slow_shape(distances: list[Array], weights: list[Array]) -> float:
    found = optimize.minimize_scalar(
        slow_profile, args=(distances, weights), bounds=(math.log(0.2), math.log(20)), method="bounded",
        options={"xatol": 1e-9},
    )  # fmt: skip
    return math.exp(found.x)
