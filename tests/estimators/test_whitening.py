"""Whitening: what it does to a covariance, how it is gathered, and how many directions it keeps."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError

from estimators.support import Array, assert_near
from simroot.errors import DataError
from simroot.estimators import Whitening
from simroot.estimators._dimension import bayes_log_evidence, minka_log_evidence


def correlated(size: int = 500, features: int = 6, seed: int = 0) -> Array:
    """Skewed sources, mixed, around a mean a hundred deviations away."""
    random = np.random.default_rng(seed)
    return random.gumbel(size=(size, features)) @ random.normal(size=(features, features)) + 100


def in_noise(directions: int = 3, features: int = 10, size: int = 2000) -> Array:
    random = np.random.default_rng(0)
    basis = np.linalg.qr(random.normal(size=(features, directions)))[0]
    signal = random.normal(size=(size, directions)) * np.linspace(2, 4, directions)
    return signal @ basis.T + 0.5 * random.normal(size=(size, features))


@pytest.mark.parametrize("method", ["pca", "zca", "ica"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_whitened_samples_are_white_and_come_back(method: str, dtype: str) -> None:
    samples = correlated().astype(dtype)
    whitening = Whitening(method=method, random_state=0).fit(samples)
    white = whitening.transform(samples)
    assert white.dtype == dtype
    assert_near("whitening", np.cov(white.astype(np.float64).T), np.eye(6), dtype)
    assert_near("whitening", white.astype(np.float64).mean(0), np.zeros(6), dtype)
    assert_near("whitening", whitening.inverse_transform(white) / 100, samples / 100, dtype)
    assert_near("whitening", whitening.components_ @ whitening.mixing_, np.eye(6))
    assert_near("whitening", whitening.components_ @ (samples[0].astype(float) - whitening.mean_), white[0], dtype)


@pytest.mark.parametrize("components", [None, 4, 0.9])
def test_pca_is_scikit_learn_s(components: Any) -> None:
    samples = correlated()
    theirs = PCA(components, whiten=True, svd_solver="full").fit(samples)
    ours = Whitening(components).fit(samples)
    assert ours.n_components_ == theirs.n_components_
    assert ours.explained_variance_ == pytest.approx(theirs.explained_variance_)
    assert ours.explained_variance_ratio_ == pytest.approx(theirs.explained_variance_ratio_)
    assert np.abs(ours.transform(samples)) == pytest.approx(np.abs(theirs.transform(samples)), abs=1e-9)
    assert ours.inverse_transform(ours.transform(samples)) == pytest.approx(
        theirs.inverse_transform(theirs.transform(samples))
    )


def test_zca_is_the_covariance_s_inverse_root() -> None:
    samples = correlated()
    root = Whitening(method="zca").fit(samples).components_
    assert_near("whitening", root, root.T)
    assert_near("whitening", root @ np.cov(samples.T) @ root, np.eye(6))
    low = Whitening(2, method="zca").fit(samples)
    assert low.components_.shape == (6, 6)
    assert np.linalg.matrix_rank(low.components_) == low.n_components_ == 2


def test_ica_finds_independent_sources() -> None:
    random = np.random.default_rng(0)
    sources = random.laplace(size=(4000, 3))
    found = Whitening(method="ica", random_state=0).fit_transform(sources @ random.normal(size=(3, 3)))
    correlation = np.abs(np.corrcoef(found.T, sources.T)[:3, 3:])
    assert (correlation.max(1) > 0.98).all()
    assert sorted(correlation.argmax(1)) == [0, 1, 2]


@pytest.mark.parametrize("method", ["pca", "ica"])
def test_batches_are_as_good_as_everything_at_once(method: str) -> None:
    samples = correlated(2000, 3)
    whole = Whitening(method=method, random_state=0).fit(samples)
    parts = Whitening(method=method, random_state=0)
    for batch in np.split(samples, [1000, 1007, 1900]):
        parts.partial_fit(batch)
    assert parts.n_samples_seen_ == 2000
    assert_near("whitening", parts.mean_, whole.mean_)
    assert_near("whitening", parts.explained_variance_, whole.explained_variance_)
    assert_near("whitening", parts.components_, whole.components_)


def test_a_batch_after_an_answer_is_not_forgotten() -> None:
    samples = correlated()
    whitening = Whitening().partial_fit(samples[:100])
    before = whitening.explained_variance_
    assert not np.allclose(whitening.partial_fit(samples[100:]).explained_variance_, before)
    assert whitening.explained_variance_ == pytest.approx(Whitening().fit(samples).explained_variance_)
    assert whitening.fit(samples[:100]).explained_variance_ == pytest.approx(before)


def test_the_subset_of_ica_is_uniform_and_bounded() -> None:
    """Each sample is its own number, so the subset can be read from what is kept."""
    numbers = np.arange(4000.0)[:, None]
    whitening = Whitening(method="ica", ica_samples=400, random_state=0)
    for batch in np.array_split(numbers, 7):
        whitening.partial_fit(batch)
    kept = whitening._subset.numpy()[:, 0]
    assert len(set(kept)) == 400
    # four standard errors of a quarter's share
    assert np.histogram(kept, 4, (0, 4000))[0] == pytest.approx(np.full(4, 100), abs=4 * math.sqrt(400 * 3 / 16))


def test_tensors_in_tensors_out() -> None:
    samples = correlated()
    tensors = Whitening(method="zca").fit(torch.from_numpy(samples).float())
    arrays = Whitening(method="zca").fit(samples)
    for name in ("components_", "mixing_", "mean_", "explained_variance_"):
        assert isinstance(getattr(tensors, name), torch.Tensor)
        assert getattr(tensors, name).numpy() == pytest.approx(getattr(arrays, name), rel=1e-3, abs=1e-4)
    white = tensors.transform(torch.from_numpy(samples))
    assert isinstance(white, torch.Tensor)
    assert isinstance(tensors.inverse_transform(white), torch.Tensor)
    assert isinstance(tensors.transform(samples), np.ndarray)


@pytest.mark.parametrize("criterion", ["mle", "bayes"])
def test_the_dimension_of_a_signal_in_noise(criterion: str) -> None:
    assert Whitening(criterion).fit(in_noise()).n_components_ == 3


def test_minka_s_dimension_is_scikit_learn_s() -> None:
    for seed in range(3):
        samples = correlated(60, 8, seed)
        theirs = PCA("mle", svd_solver="full").fit(samples).n_components_
        assert Whitening("mle").fit(samples).n_components_ == theirs


def test_minka_s_evidence_term_by_term() -> None:
    spectrum, samples, size = np.array([9.0, 5.0, 2.0, 1.1, 0.9]), 80, 5
    for k, found in enumerate(minka_log_evidence(spectrum, samples), 1):
        noise = spectrum[k:].mean()
        smooth = [*spectrum[:k], *[noise] * (size - k)]
        prior = -k * math.log(2)
        for i in range(1, k + 1):
            prior += math.lgamma((size - i + 1) / 2) - (size - i + 1) / 2 * math.log(math.pi)
        hessian = sum(
            math.log(samples * (spectrum[i] - spectrum[j]) * (1 / smooth[j] - 1 / smooth[i]))
            for i in range(k)
            for j in range(i + 1, size)
        )
        free = size * k - k * (k + 1) / 2
        fit = -samples / 2 * (sum(map(math.log, spectrum[:k])) + (size - k) * math.log(noise))
        rest = (free + k) / 2 * math.log(2 * math.pi) - k / 2 * math.log(samples)
        assert found == pytest.approx(prior + fit - hessian / 2 + rest)


def test_bayes_evidence_is_the_gaussian_s_bic() -> None:
    """The likelihood is that of the samples under the covariance of k directions and noise, up to one constant."""
    samples = in_noise(size=200)
    size, count = samples.shape[1], len(samples)
    covariance = np.cov(samples.T, bias=True)
    values, vectors = np.linalg.eigh(covariance)
    spectrum = values[::-1].copy()
    found = bayes_log_evidence(spectrum, count)
    expected = []
    for k in range(1, size):
        diagonal = np.concatenate([spectrum[:k], np.full(size - k, spectrum[k:].mean())])
        model = vectors[:, ::-1] @ np.diag(diagonal) @ vectors[:, ::-1].T
        fit = -count / 2 * (np.linalg.slogdet(model)[1] + np.trace(np.linalg.solve(model, covariance)))
        free = size * k + 1 - k * (k - 1) / 2
        expected.append(fit - free / 2 * math.log(count))
    assert np.diff(found) == pytest.approx(np.diff(expected))


@pytest.mark.parametrize("method", ["pca", "zca"])
@pytest.mark.parametrize("components", [None, 0.99, "mle", "bayes"])
def test_directions_that_do_not_vary_are_left_out(method: str, components: Any) -> None:
    samples = np.concatenate([correlated(), np.full((500, 2), 3.3)], 1)
    whitening = Whitening(components, method=method).fit(samples)
    assert whitening.n_components_ <= 6
    assert np.abs(whitening.components_[:, 6:]).max() < 1e-6
    assert np.isfinite(whitening.transform(samples)).all()


def test_fewer_samples_than_coordinates() -> None:
    samples = correlated(4, 10)
    whitening = Whitening().fit(samples)
    assert whitening.n_components_ == 3
    assert_near("whitening", np.cov(whitening.transform(samples).T), np.eye(3))
    with pytest.raises(DataError, match="n_components=5, but 4 samples of 10 coordinates vary in 3 directions"):
        Whitening(5).fit(samples)
    with pytest.raises(DataError, match="ICA got 3 samples for 3 components"):
        Whitening(3, method="ica", ica_samples=3).fit(samples)


@pytest.mark.parametrize("data", [np.full((9, 3), 0.1), np.zeros((9, 3)), torch.full((9, 3), 1e6)])
def test_samples_that_are_all_alike(data: Any) -> None:
    with pytest.raises(DataError, match="9 samples that are all alike"):
        Whitening().fit(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.full((9, 2), np.nan), "NaN"),
        (torch.full((9, 2), torch.nan), "NaN or infinity"),
        (np.zeros(9), "Expected 2D array"),
        (torch.zeros(2, 2, 2), r"shape \(2, 2, 2\)"),
        (np.zeros((1, 3)), "minimum of 2 is required"),
    ],
)
def test_errors_name_what_is_wrong(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Whitening().partial_fit(data)


def test_shapes_that_do_not_fit() -> None:
    whitening = Whitening(2).fit(correlated())
    with pytest.raises(DataError, match="5 features, but Whitening is expecting 6"):
        whitening.transform(np.zeros((2, 5)))
    with pytest.raises(DataError, match=r"shape \(2, 6\), expected \(samples, 2\)"):
        whitening.inverse_transform(np.zeros((2, 6)))
    with pytest.raises(NotFittedError):
        _ = Whitening().components_


def test_directions_that_vary() -> None:
    data = correlated()
    constant = np.concatenate([data, np.ones((len(data), 2)), data[:, :1] * 2], 1)
    assert Whitening().partial_fit(constant).n_directions_ == data.shape[1]
    assert Whitening(1).fit(data[:4]).n_directions_ == 3
    with pytest.raises(DataError, match="all alike"):
        _ = Whitening().partial_fit(np.ones((5, 3))).n_directions_


@pytest.mark.parametrize("criterion", ["mle", "bayes"])
def test_the_curve_is_highest_at_the_dimension_chosen(criterion: str) -> None:
    whitening = Whitening(criterion).fit(correlated())
    assert int(whitening.dimension_curve_.argmax()) + 1 == whitening.n_components_
    share = Whitening(0.9).fit(correlated())
    assert share.dimension_curve_[share.n_components_ - 1] >= 0.9
    assert share.dimension_curve_ == pytest.approx(PCA().fit(correlated()).explained_variance_ratio_.cumsum())


def test_small_deviations_around_a_large_mean_are_whitened() -> None:
    samples = 1.7e9 + 10 * np.random.default_rng(0).normal(size=(500, 2))
    white = Whitening().fit(samples).transform(samples)
    assert np.cov(white.T) == pytest.approx(np.eye(2), abs=1e-6)
    with_constant = np.insert(samples - 1.7e9, 1, 1e8, axis=1)
    assert Whitening().fit(with_constant).n_components_ == 2
    single = torch.from_numpy(samples - 1.7e9 + 1e4).float()
    assert Whitening().fit(single).transform(single).mean(0).abs().max() < 1e-3
