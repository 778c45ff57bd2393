"""The number of components chosen from data."""

from typing import Any

import numpy as np
import pytest
import torch

from estimators.support import draw
from simroot.errors import ConfigError
from simroot.estimators import GeneralizedGaussianMixture, select_components


@pytest.mark.parametrize("criterion", ["nec", "bic"])
def test_separate_clusters_are_counted(criterion: str) -> None:
    random = np.random.default_rng(0)
    centers = np.array([[0, 0], [5, 4]])[random.integers(2, size=900)]
    samples = centers + random.normal(size=(900, 2))
    found = select_components(samples, [4, 1, 2, 3], criterion, random_state=0, n_init=2, max_iter=300)
    assert found.n_components == 2
    assert found.criterion == criterion
    assert found.candidates == (1, 2, 3, 4)
    assert found.curves["nec"][0] == 1.0
    assert found.curves[criterion].index(min(found.curves[criterion])) == 1
    assert (found.fitted.predict(samples)[:, None] == np.arange(2)).any(0).all()


def test_one_cluster_is_one() -> None:
    """Without the correction NEC(1) = 0 / 0 the criterion could not choose one component at all."""
    samples = torch.from_numpy(draw(2.0, components=1, features=2, size=600).samples)
    found = select_components(samples, range(1, 4), shape=2, random_state=0, max_iter=500)
    assert found.n_components == 1
    assert all(value > 1 for value in found.curves["nec"][1:])


def test_curves_are_the_mixture_s_own() -> None:
    samples = draw(1.2, features=2, size=300).samples
    options: dict[str, Any] = {"shape": 2, "random_state": 0, "max_iter": 500}
    found = select_components(samples, [2, 3], "aic", **options)
    mixture = GeneralizedGaussianMixture(2, **options).fit(samples)
    for name in ("nec", "bic", "aic"):
        assert found.curves[name][0] == pytest.approx(getattr(mixture, name)(samples))
    assert found.curves["log_likelihood"][0] == pytest.approx(mixture.score(samples))


@pytest.mark.parametrize(
    ("candidates", "criterion", "message"),
    [([], "nec", r"candidates=\(\)"), ([0, 2], "nec", r"\(0, 2\)"), ([2], "icl", "criterion='icl'.*nec, bic, aic")],
)
def test_errors_name_what_is_wrong(candidates: list[int], criterion: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        select_components(np.zeros((9, 2)), candidates, criterion)
