"""What scikit-learn's own estimators check their parameters with. Without it ours would check in another way."""

from __future__ import annotations

from sklearn.base import _fit_context as fit_context  # checks the parameters of an estimator before it fits
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions  # the ranges that parameters declare

__all__ = ["Interval", "RealNotInt", "StrOptions", "fit_context"]
