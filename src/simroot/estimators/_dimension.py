"""How many principal components to keep: criteria on the spectrum of a covariance, in float64 NumPy."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Array = NDArray[np.float64]


def noise_variances(spectrum: Array) -> Array:
    """Mean of the eigenvalues after the first k, for k = 1 … d - 1: PPCA's noise of k components."""
    tails = spectrum[::-1].cumsum()[::-1]
    return np.asarray(tails[1:] / np.arange(len(spectrum) - 1, 0, -1), dtype=np.float64)


def ppca_log_likelihood(spectrum: Array, samples: int) -> Array:
    r"""Log-likelihood of probabilistic PCA with k = 1 … d - 1 components at its maximum, without constants.

    :math:`-\frac N2 \left( \sum_{j \le k} \log \lambda_j + (d - k) \log v_k \right)`, v_k the mean of the other
    eigenvalues (Tipping and Bishop, JRSS B 61, 1999).
    """
    rest = np.arange(len(spectrum) - 1, 0, -1)
    logs = np.log(spectrum[:-1]).cumsum() + rest * np.log(noise_variances(spectrum))
    return np.asarray(-samples / 2 * logs, dtype=np.float64)


def bayes_log_evidence(spectrum: Array, samples: int) -> Array:
    r"""Bayesian information of probabilistic PCA with k = 1 … d - 1 components; higher is better.

    Seghouane and Cichocki (Signal Processing 87, 2007) choose k by the evidence of probabilistic PCA,
    :math:`\int p(X | W, \sigma^2, \mu)\, p(W, \sigma^2, \mu)`, and come to a criterion of the form of BIC. Laplace's
    method gives it: at the maximum the integrand is the likelihood L_k of `ppca_log_likelihood`; around it the
    Hessian is N times that of one sample in each direction that changes the density, so each contributes a factor
    :math:`N^{-1/2}`. :math:`W W^T + \sigma^2 I` stays the same when the k columns of W rotate, which leaves
    :math:`m_k = dk - k(k - 1)/2 + 1` directions of W and the noise (the mean's d are common to all k):

    .. math:: \log L_k - \frac{m_k}2 \log N ,

    the log-evidence up to terms that do not grow with N and hence do not change a consistent choice.
    """
    size = len(spectrum)
    ranks = np.arange(1, size)
    free = size * ranks - ranks * (ranks - 1) / 2 + 1
    evidence: Array = ppca_log_likelihood(spectrum, samples) - free / 2 * np.log(samples)
    return evidence


def minka_log_evidence(spectrum: Array, samples: int) -> Array:
    r"""Minka's log-evidence of k = 1 … d - 1 principal components (NIPS 13, 2000, equation 30); higher is better.

    .. math:: \log p(U) - \frac N2 \sum_{j \le k} \log \lambda_j - \frac{N (d - k)}2 \log v_k
              + \frac{m + k}2 \log 2 \pi - \frac12 \log |A_Z| - \frac k2 \log N

    with :math:`m = dk - k(k + 1)/2`, the prior of the directions
    :math:`p(U) = 2^{-k} \prod_{i \le k} \Gamma((d - i + 1) / 2) \pi^{-(d - i + 1) / 2}`, and
    :math:`|A_Z| = \prod_{i \le k} \prod_{j > i} N (\lambda_i - \lambda_j)(1/\hat\lambda_j - 1/\hat\lambda_i)` where
    :math:`\hat\lambda` is v_k beyond the first k.
    """
    size = len(spectrum)
    ranks = np.arange(1, size)
    halves = (size - ranks + 1) / 2
    prior = (gammaln(halves) - halves * np.log(np.pi) - np.log(2)).cumsum()
    logs = np.log(spectrum)
    # Equal eigenvalues would make a log of 0: they are told apart by their rounding.
    gaps = np.log(np.maximum(spectrum[:, None] - spectrum, np.finfo(float).eps * spectrum[0]))
    upper = np.triu(gaps, 1)
    kept = np.triu(gaps - logs[:, None] - logs, 1)
    noise = noise_variances(spectrum)
    curvature = np.maximum(1 / noise[:, None] - 1 / spectrum[:-1], np.finfo(float).eps / spectrum[0])
    dropped = np.tril(np.log(curvature)).sum(1) * (size - ranks)
    free = size * ranks - ranks * (ranks + 1) / 2
    hessian = upper.sum(1)[:-1].cumsum() + kept.sum(0)[:-1].cumsum() + dropped + free * np.log(samples)
    evidence: Array = prior + ppca_log_likelihood(spectrum, samples) - hessian / 2
    return evidence + (free + ranks) / 2 * np.log(2 * np.pi) - ranks / 2 * np.log(samples)
