"""Whitening: linear maps after which the coordinates are uncorrelated, or as independent as can be."""

from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import FastICA
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted
from torch import Tensor

from simroot.borrowed.from_sklearn import Interval, RealNotInt, StrOptions, fit_context
from simroot.errors import DataError
from simroot.estimators._arrays import as_rows, like
from simroot.estimators._dimension import Array, bayes_log_evidence, minka_log_evidence

_CHUNK = 16384
# Eigenvalues below this share of the largest are rounding.
_RANK = 1e-10
# A deviation that is no more than rounding, relative to the mean.
_ROUNDING = 1e-14
_CRITERIA = {"mle": minka_log_evidence, "bayes": bayes_log_evidence}
_ICA_ITERATIONS = 500
_ICA_TOLERANCE = 1e-3


class _Solution(NamedTuple):
    """Filters and their inverse, (outputs, d) and (d, outputs), and the variances (k,) kept; float64."""

    components: Tensor
    mixing: Tensor
    variances: Tensor
    ratio: Tensor


class Whitening(TransformerMixin, BaseEstimator):
    r"""Uncorrelated coordinates of unit variance: :math:`y = W (x - \bar x)` (Deep SimNets, sections 4.2 and 5).

    With the covariance's eigenvectors E (d, k) and eigenvalues Lambda, the k largest:

    - "pca": :math:`W = \Lambda^{-1/2} E^T`
    - "zca": :math:`W = E \Lambda^{-1/2} E^T`, closest to the identity; d outputs, of rank k
    - "ica": :math:`W = R \Lambda^{-1/2} E^T` with the rotation R that makes the outputs as independent as can be, by
      scikit-learn's FastICA (Hyvärinen, IEEE Transactions on Neural Networks 10, 1999) on ``ica_samples`` random
      samples

    The covariance is gathered in float64 from any number of batches (`partial_fit`; Chan, Golub and LeVeque, 1979),
    and the map is worked out when first asked for.

    Args:
        n_components: the dimension k: None for all directions that vary, a number, a share of the variance between 0
            and 1 (the smallest k that reaches it), "mle" (Minka's evidence) or "bayes" (Seghouane and Cichocki's
            criterion; see `bayes_log_evidence`)
        method: "pca", "zca" or "ica"
        ica_samples: size of the uniform random subset (a reservoir, kept in memory) that FastICA is fitted on
        random_state: seed or generator of the subset and of FastICA

    Attributes:
        components_: W (k, d), or (d, d) with "zca"
        mixing_: its pseudo-inverse, the columns of `inverse_transform`
        mean_: mean of the samples (d,)
        explained_variance_: eigenvalues Lambda (k,), largest first, of the covariance over (samples - 1)
        explained_variance_ratio_: their share of the whole variance
        n_components_: k
        n_directions_: directions that vary, the most that n_components can be
        dimension_curve_: what k = 1, 2, … is chosen by: with "mle" and "bayes" the log-evidence, which is highest at
            the k chosen, otherwise the share of the variance
        n_samples_seen_, n_features_in_: samples seen, d

    Arrays are tensors if the samples were, NumPy arrays otherwise. Directions whose variance is below 1e-10 of the
    largest (constant coordinates, or fewer samples than dimensions) count as not varying and are never kept.

    Raises:
        DataError: samples that are not finite or not two-dimensional, that do not vary at all, or that vary in fewer
            than ``n_components`` directions.
    """

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012 - scikit-learn's convention
        "n_components": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
            StrOptions({"mle", "bayes"}),
            None,
        ],
        "method": [StrOptions({"pca", "zca", "ica"})],
        "ica_samples": [Interval(Integral, 2, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_components: int | float | str | None = None,
        *,
        method: str = "pca",
        ica_samples: int = 50_000,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.method = method
        self.ica_samples = ica_samples
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: None = None) -> "Whitening":
        """Learn from all samples ``X`` (samples, d), forgetting what was seen before."""
        for name in ("n_samples_seen_", "_solution"):
            self.__dict__.pop(name, None)
        self._gather(X)
        self._solve()
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: None = None) -> "Whitening":
        """Add a batch ``X`` (samples, d) to what was seen."""
        self._gather(X)
        return self

    def transform(self, X: Any) -> Any:
        """Whitened samples (samples, k), or (samples, d) with "zca"."""
        check_is_fitted(self)
        rows = as_rows(self, X, reset=False)
        return like((rows - self._center).to(rows.dtype) @ self._solve().components.T.to(rows), X)

    def inverse_transform(self, X: Any) -> Any:
        """Samples (samples, d) whose whitened form is ``X``; exact if all directions that vary were kept."""
        check_is_fitted(self)
        solution = self._solve()
        rows = X.detach() if isinstance(X, Tensor) else torch.from_numpy(np.array(check_array(X)))
        if rows.ndim != 2 or rows.shape[1] != len(solution.components):
            raise DataError(f"X has shape {tuple(rows.shape)}, expected (samples, {len(solution.components)})")
        rows = rows if rows.dtype == torch.float32 else rows.double()
        return like(rows @ solution.mixing.T.to(rows) + self._center.to(rows), X)

    @property
    def components_(self) -> Any:
        return self._given(self._solve().components)

    @property
    def mixing_(self) -> Any:
        return self._given(self._solve().mixing)

    @property
    def mean_(self) -> Any:
        check_is_fitted(self)
        return self._given(self._center)

    @property
    def explained_variance_(self) -> Any:
        return self._given(self._solve().variances)

    @property
    def explained_variance_ratio_(self) -> Any:
        return self._given(self._solve().ratio)

    @property
    def n_components_(self) -> int:
        return len(self._solve().variances)

    @property
    def n_directions_(self) -> int:
        check_is_fitted(self)
        return len(self._varying(torch.linalg.eigvalsh(self._covariance()).flip(0).cpu().numpy()))

    @property
    def dimension_curve_(self) -> Array:
        check_is_fitted(self)
        varying = self._varying(torch.linalg.eigvalsh(self._covariance()).flip(0).cpu().numpy())
        if isinstance(self.n_components, str):
            return _CRITERIA[self.n_components](varying, self.n_samples_seen_)
        return np.asarray(varying.cumsum() / varying.sum())

    def _given(self, result: Tensor) -> Any:
        return result if self._tensors else result.cpu().numpy()

    def _gather(self, X: Any) -> None:
        """Merge the mean, scatter and subset of ``X`` into what is there."""
        first = not hasattr(self, "n_samples_seen_")
        rows = as_rows(self, X, reset=first)
        if first:
            self._tensors = isinstance(X, Tensor)
            self.n_samples_seen_ = 0
            self._center = rows.new_zeros(rows.shape[1], dtype=torch.float64)
            self._scatter = rows.new_zeros(rows.shape[1], rows.shape[1], dtype=torch.float64)
            self._subset = rows[:0]
            self._keys = np.empty(0)
            self._random = check_random_state(self.random_state)
        for chunk in rows.split(_CHUNK):
            seen, new = self.n_samples_seen_, len(chunk)
            center = chunk.mean(0, dtype=torch.float64)
            values = chunk - center
            shift = center - self._center
            self._scatter = self._scatter + values.T @ values + torch.outer(shift, shift) * (seen * new / (seen + new))
            self._center = self._center + shift * (new / (seen + new))
            self.n_samples_seen_ = seen + new
            if self.method == "ica":
                self._keep(chunk)
        self._solution: _Solution | None = None

    def _keep(self, chunk: Tensor) -> None:
        """Keep the samples of the smallest random keys: a uniform subset of all that were seen."""
        keys = np.concatenate([self._keys, self._random.random_sample(len(chunk))])
        kept = np.sort(np.argsort(keys)[: self.ica_samples])
        self._keys = keys[kept]
        self._subset = torch.cat([self._subset, chunk.to(self._subset)])[torch.from_numpy(kept).to(chunk.device)]

    def _solve(self) -> _Solution:
        check_is_fitted(self)
        if self._solution is None:
            variances, vectors = torch.linalg.eigh(self._covariance())
            variances, vectors = variances.flip(0).clamp(min=0), vectors.flip(1)
            # An eigenvector's sign is arbitrary: its largest entry is made positive.
            largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
            vectors = vectors * largest.sign()
            size = self._dimension(variances.cpu().numpy())
            deviations, basis = variances[:size].sqrt(), vectors[:, :size]
            components, mixing = (basis / deviations).T, basis * deviations
            if self.method == "zca":
                components, mixing = basis @ components, mixing @ basis.T
            if self.method == "ica":
                rotation = self._rotation(components)
                components, mixing = rotation @ components, mixing @ rotation.T
            self._solution = _Solution(components, mixing, variances[:size], variances[:size] / variances.sum())
        return self._solution

    def _covariance(self) -> Tensor:
        return self._scatter / max(self.n_samples_seen_ - 1, 1)

    def _varying(self, variances: Array) -> Array:
        """Those of the covariance's eigenvalues, largest first, that are more than rounding."""
        if not variances[0] > (_ROUNDING * float(self._center.abs().max())) ** 2:
            raise DataError(f"{self.n_samples_seen_} samples that are all alike: there is nothing to whiten")
        return variances[variances > _RANK * variances[0]]

    def _dimension(self, variances: Array) -> int:
        """k, from the eigenvalues of the covariance, largest first."""
        varying = self._varying(variances)
        wanted = self.n_components
        if wanted is None:
            return len(varying)
        if isinstance(wanted, str):
            if len(varying) == 1:
                return 1
            return int(_CRITERIA[wanted](varying, self.n_samples_seen_).argmax()) + 1
        if wanted < 1:
            share = varying.cumsum() / varying.sum()
            return min(int(np.searchsorted(share, wanted)) + 1, len(varying))
        if wanted > len(varying):
            raise DataError(
                f"n_components={wanted}, but {self.n_samples_seen_} samples of {len(variances)} coordinates vary in "
                f"{len(varying)} directions: ask for at most that, or give more samples"
            )
        return int(wanted)

    def _rotation(self, components: Tensor) -> Tensor:
        """The rotation to independent coordinates, as scikit-learn's FastICA finds it."""
        white = ((self._subset.double() - self._center) @ components.T).cpu().numpy()
        if len(white) <= white.shape[1]:
            raise DataError(f"ICA got {len(white)} samples for {white.shape[1]} components, expected more samples")
        ica = FastICA(whiten=False, max_iter=_ICA_ITERATIONS, tol=_ICA_TOLERANCE, random_state=self._random)
        rotation = ica.fit(white).components_
        left, _, right = np.linalg.svd(rotation)  # orthogonal to the last digit
        return torch.from_numpy(left @ right).to(components)
