"""Estimators by scikit-learn's conventions: an array or tensor in, a fitted object out.

`Whitening` finds the filters of a whitened similarity, `GeneralizedGaussianMixture` its templates, weights and order,
`select_components` how many templates the data asks for.
"""

from simroot.estimators._criteria import Assessment
from simroot.estimators.mixture import GeneralizedGaussianMixture
from simroot.estimators.selection import ComponentSelection, select_components
from simroot.estimators.whitening import Whitening

__all__ = ["Assessment", "ComponentSelection", "GeneralizedGaussianMixture", "Whitening", "select_components"]
