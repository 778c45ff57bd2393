"""What comes in and goes out of an estimator: NumPy arrays or torch tensors."""

from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import validate_data
from torch import Tensor

from simroot.errors import DataError


def as_rows(estimator: Any, data: Any, *, reset: bool) -> Tensor:
    """``data`` as a finite float32 or float64 tensor (rows, coordinates), on the device where it is.

    With ``reset`` the number of coordinates becomes the estimator's ``n_features_in_``, otherwise it must equal it.
    Anything that is not a tensor is checked by scikit-learn, with scikit-learn's messages.

    Raises:
        DataError: no numbers, not two-dimensional, empty, NaN or infinite, or another number of coordinates.
    """
    if isinstance(data, Tensor):
        return _checked_tensor(estimator, data.detach(), reset=reset)
    try:
        array = validate_data(
            estimator, data, reset=reset, dtype=[np.float64, np.float32], order="C", ensure_min_samples=1 + reset
        )
    except ValueError as error:
        raise DataError(str(error)) from error
    return torch.from_numpy(np.require(array, requirements="W"))


def _checked_tensor(estimator: Any, data: Tensor, *, reset: bool) -> Tensor:
    name = type(estimator).__name__
    if data.ndim != 2 or data.shape[1] == 0 or data.is_complex():
        raise DataError(
            f"{name} got a {data.dtype} tensor of shape {tuple(data.shape)}, expected real numbers (samples, features)"
        )
    if len(data) < 1 + reset:
        raise DataError(f"{name} got {len(data)} sample(s), a minimum of {1 + reset} is required")
    if reset:
        estimator.n_features_in_ = data.shape[1]
    elif data.shape[1] != estimator.n_features_in_:
        raise DataError(
            f"X has {data.shape[1]} features, but {name} is expecting {estimator.n_features_in_} features as input"
        )
    if not data.is_floating_point():
        data = data.double()
    rows = data if data.dtype in (torch.float32, torch.float64) else data.float()
    if not bool(torch.isfinite(rows).all()):
        raise DataError(f"Input X contains NaN or infinity; {name} needs finite values: remove or impute those rows")
    return rows


def like(result: Tensor, data: Any) -> Any:
    """``result`` as what the caller gave: a tensor if ``data`` is one, a NumPy array otherwise."""
    return result if isinstance(data, Tensor) else result.cpu().numpy()
