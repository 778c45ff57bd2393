"""scikit-learn's own checks of an estimator: parameters, cloning, messages, pickling, dtypes. All apply."""

from collections.abc import Callable
from typing import Any

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from simroot.estimators import GeneralizedGaussianMixture, Whitening


# The checks' data are a dozen random samples: no rotation of those is a stable optimum.
@pytest.mark.filterwarnings("ignore:FastICA did not converge")
@parametrize_with_checks(
    [
        GeneralizedGaussianMixture(2, max_iter=300, random_state=0),
        GeneralizedGaussianMixture(shape=2.0, random_state=0),
        Whitening(method="zca"),
        Whitening(method="ica", random_state=0),
    ]
)
def test_scikit_learn_s_checks(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)
