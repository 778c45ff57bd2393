"""Time of EM: against scikit-learn's GaussianMixture at shape 2, and for other shapes, per iteration.

    python benchmarks/mixture.py [--samples N] [--coordinates D] [--components K] [--iterations I] [--threads T]

First both run the same iterations from the same point and must agree; only then are they timed. Samples are heavy-
tailed (Laplacian clusters), as whitened patches are. Times are of the threads' processors, so that what else runs
on the machine does not count; the ratio is the figure.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from simroot.estimators import GeneralizedGaussianMixture


def clusters(samples: int, coordinates: int, components: int) -> np.ndarray:
    random = np.random.default_rng(0)
    means = random.normal(size=(components, coordinates))
    scales = random.uniform(0.3, 1.0, size=(components, coordinates))
    labels = random.integers(components, size=samples)
    return means[labels] + scales[labels] * random.laplace(size=(samples, coordinates))


def ours(data: np.ndarray, components: int, iterations: int, shape: float | None) -> GeneralizedGaussianMixture:
    mixture = GeneralizedGaussianMixture(components, shape=shape, max_iter=iterations, tol=0, random_state=0)
    return mixture.fit(data)


def theirs(data: np.ndarray, start: GeneralizedGaussianMixture, iterations: int) -> GaussianMixture:
    mixture = GaussianMixture(
        start.n_components,
        covariance_type="diag",
        reg_covar=0,
        tol=0,
        max_iter=iterations,
        weights_init=start.weights_,
        means_init=start.means_,
        precisions_init=2 / start.scales_**2,
    )
    return mixture.fit(data)


def check_equal(data: np.ndarray, components: int, iterations: int) -> float:
    """The difference of mean log-likelihoods after the same iterations from the same start; an error if it is large."""
    start = ours(data, components, 1, 2.0)
    difference = abs(
        ours(data, components, 1 + iterations, 2.0).score(data) - theirs(data, start, iterations).score(data)
    )
    if difference > 1e-6:
        raise SystemExit(f"not the same EM: mean log-likelihoods differ by {difference:.3g} nats")
    return difference


def per_iteration(run: Callable[[int], object], iterations: int) -> float:
    """Processor seconds an iteration, without what a start costs: the difference of a long and a short run."""
    seconds = []
    for count in (1, 1 + iterations):
        begin = time.process_time()
        run(count)
        seconds.append(time.process_time() - begin)
    return (seconds[1] - seconds[0]) / iterations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--coordinates", type=int, default=75)
    parser.add_argument("--components", type=int, default=100)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shapes", type=float, nargs="*", default=[0.7, 1.0, 1.5])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore", ConvergenceWarning)
    data = clusters(options.samples, options.coordinates, options.components)
    single, count = data.astype(np.float32), options.components
    shapes = {f"shape {shape}, float32": shape for shape in options.shapes} | {"shape learned, float32": None}
    with threadpool_limits(options.threads):
        difference = check_equal(data, count, options.iterations)
        start = ours(data, count, 1, 2.0)
        reference = per_iteration(lambda steps: theirs(data, start, steps), options.iterations)
        gaussian = per_iteration(lambda steps: ours(data, count, steps, 2.0), options.iterations)
        others = {
            name: per_iteration(partial(ours, single, count, shape=shape), options.iterations)
            for name, shape in shapes.items()
        }
    report = {
        **vars(options),
        "nats_apart": difference,
        "seconds_an_iteration": {"scikit-learn": reference, "shape 2": gaussian, **others},
        "shape 2 / scikit-learn": gaussian / reference,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
