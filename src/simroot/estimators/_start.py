"""Where EM starts: clusters of a random subset of the samples."""

import warnings

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from simroot.estimators._density import Parameters

FIRST_SHAPE = 2.0
_SUBSET = 10_000
_ROWS_PER_COMPONENT = 50


def shape_grid(fixed: float | None, sharing: str, features: int, components: int) -> tuple[int, int]:
    """The size of the array of shapes: one, one a component (1, K) or one a coordinate (d, 1)."""
    if fixed is not None or sharing == "mixture":
        return 1, 1
    return (1, components) if sharing == "component" else (features, 1)


def deviation_to_scale(deviations: Tensor, shapes: Tensor) -> Tensor:
    r"""Scale of the generalised Gaussian of a standard deviation: :math:`\sigma \sqrt{\Gamma(1/p) / \Gamma(3/p)}`."""
    return deviations * ((torch.special.gammaln(1 / shapes) - torch.special.gammaln(3 / shapes)) / 2).exp()


def clustered(
    rows: Tensor, components: int, shapes: Tensor, least_scale: float, random: np.random.RandomState
) -> Parameters:
    """Parameters from a k-means clustering (k-means++ seeds) of at most max(10,000, 50 K) random rows.

    A cluster's variances are shrunk towards the mean within-cluster variance as by one more sample, so that a
    cluster of one sample has a scale.
    """
    size = min(len(rows), max(_SUBSET, _ROWS_PER_COMPONENT * components))
    chosen = torch.from_numpy(random.choice(len(rows), size, replace=False)).to(rows.device)
    subset = rows[chosen].double()
    with warnings.catch_warnings():
        # Fewer distinct rows than clusters, or too few rounds: a start may be rough.
        warnings.simplefilter("ignore", ConvergenceWarning)
        kmeans = KMeans(components, n_init=1, max_iter=30, random_state=random).fit(subset.cpu().numpy())
    labels = torch.from_numpy(kmeans.labels_).long().to(rows.device)
    member = torch.nn.functional.one_hot(labels, components).double()
    counts = member.sum(0)
    means = torch.from_numpy(kmeans.cluster_centers_).to(subset).T.contiguous()
    squares = (subset - means.T[labels]).square().T @ member
    variances = (squares + squares.sum(1, keepdim=True) / size) / (counts + 1)
    scales = deviation_to_scale(variances.sqrt(), shapes).clamp(min=least_scale)
    weights = (counts + 1) / (counts + 1).sum()
    return Parameters(weights.log(), means, scales, shapes)


def first_shapes(fixed: float | None, sharing: str, features: int, components: int, device: torch.device) -> Tensor:
    """Shapes before the first iteration: the fixed one, or a Gaussian's."""
    value = FIRST_SHAPE if fixed is None else fixed
    size = shape_grid(fixed, sharing, features, components)
    return torch.full(size, value, dtype=torch.float64, device=device)
