"""The mixture: its density, its EM, and what it recovers."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import special, stats
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.mixture import GaussianMixture

from estimators.support import Array, Mixture, assert_near, draw, slow_joint, slow_location, slow_shape
from simroot.errors import DataError
from simroot.estimators import GeneralizedGaussianMixture


def shapes_of(mixture: GeneralizedGaussianMixture) -> Array:
    """The shape of every component and coordinate (K, d)."""
    shape = np.asarray(mixture.shape_)
    per_row = mixture.shape is None and mixture.shape_per == "component"
    return np.broadcast_to(shape[:, None] if per_row else shape, mixture.means_.shape)


def reference(mixture: GeneralizedGaussianMixture, samples: Array) -> Array:
    return slow_joint(samples, mixture.weights_, mixture.means_, mixture.scales_, shapes_of(mixture))


def matched(mixture: GeneralizedGaussianMixture, true: Mixture) -> Array:
    """The order of the fitted components that is nearest to the true one's."""
    distances = np.abs(mixture.means_[None] - true.means[:, None]).sum(-1)
    order = distances.argmin(1)
    assert len(set(order)) == len(order)
    return order


@pytest.mark.parametrize(
    "options",
    [*({"shape": shape} for shape in (0.7, 1, 2, 3.3, None)), {"shape_per": "component"}, {"shape_per": "coordinate"}],
)
def test_densities_and_probabilities_are_the_formula_s(options: dict[str, Any]) -> None:
    true = draw(1.5, size=200)
    mixture = GeneralizedGaussianMixture(3, random_state=0, max_iter=300, **options).fit(true.samples)
    some = true.samples[:40]
    joint = reference(mixture, some)
    assert_near("density", mixture.score_samples(some), special.logsumexp(joint, 1))
    assert_near("density", mixture.predict_proba(some), special.softmax(joint, 1))
    assert_near("density", mixture.score(some), special.logsumexp(joint, 1).mean())
    assert mixture.predict(some).tolist() == joint.argmax(1).tolist()
    at_means = reference(mixture, mixture.means_).diagonal()
    assert_near("density", mixture.log_constants_, at_means)
    single = mixture.score_samples(some.astype(np.float32))
    assert single.dtype == np.float32
    assert_near("density", single, special.logsumexp(joint, 1), "float32")


def test_similarity_of_the_paper() -> None:
    """-sum u |y - z|^p with z = mu, u = alpha^-p is log P(y and component) - c."""
    true = draw(1.3, size=300)
    mixture = GeneralizedGaussianMixture(3, random_state=0).fit(true.samples)
    y = true.samples[:20, None]
    similarity = -(mixture.scales_**-mixture.shape_ * np.abs(y - mixture.means_) ** mixture.shape_).sum(-1)
    assert_near("density", similarity + mixture.log_constants_, reference(mixture, true.samples[:20]))


@pytest.mark.parametrize("shape", [0.7, 1.0, 1.5, 2.0, 3.0, 4.0])
def test_one_component_is_scipy_s_gennorm(shape: float) -> None:
    values = stats.gennorm.rvs(shape, loc=1.5, scale=2, size=600, random_state=1)
    found = GeneralizedGaussianMixture(1, levels=600, tol=1e-12, max_iter=300).fit(values[:, None])
    # scipy's simplex is started at the truth: from elsewhere it may stop in a kink
    expected = stats.gennorm.fit(values, shape, loc=1.5, scale=2)
    ours = stats.gennorm.logpdf(values, found.shape_, found.means_.item(), found.scales_.item()).mean()
    assert_near("density", found.score(values[:, None]), ours)
    assert_near("maximum likelihood", min(ours - stats.gennorm.logpdf(values, *expected).mean(), 0), 0)


@pytest.mark.parametrize("options", [{"shape": 0.8}, {"shape": 1}, {"shape": 1.4}, {"shape": 2}, {"shape": 3}, {}])
def test_an_iteration_is_em_s(options: dict[str, Any]) -> None:
    """One more iteration against one by brute force from the same parameters."""
    samples = draw(1.5, components=1, size=120).samples
    common: dict[str, Any] = {"random_state": 3, "tol": 0, **options}
    with pytest.warns(ConvergenceWarning, match="did not converge in 2 iterations"):
        before = GeneralizedGaussianMixture(3, max_iter=2, **common).fit(samples)
    with pytest.warns(ConvergenceWarning):
        after = GeneralizedGaussianMixture(3, max_iter=3, **common).fit(samples)
    assert np.abs(after.means_ - before.means_).max() > 0.01
    share = special.softmax(reference(before, samples), 1)
    groups = [(k, t) for k in range(3) for t in range(samples.shape[1])]
    means = {(k, t): slow_location(samples[:, t], share[:, k], before.shape_) for k, t in groups}
    distances = [np.abs(samples[:, t] - means[k, t]) for k, t in groups]
    shape = before.shape_ if options else slow_shape(distances, [share[:, k] for k, _ in groups])
    scales = [
        (shape * np.average(far**shape, weights=share[:, k])) ** (1 / shape)
        for far, (k, _) in zip(distances, groups, strict=True)
    ]
    assert_near("em step", after.weights_, share.mean(0))
    assert_near("em step", after.means_.flatten(), list(means.values()))
    assert_near("em step", after.shape_, shape)
    assert_near("em step", after.scales_.flatten(), scales)


@pytest.mark.parametrize("shape", [0.7, 1.0, 1.5, 2.0, 3.0, 4.0])
def test_recovers_a_known_mixture(shape: float) -> None:
    true = draw(shape)
    found = GeneralizedGaussianMixture(3, random_state=0, tol=1e-6).fit(true.samples)
    order = matched(found, true)
    # a thousand samples a component: some standard errors of a heavy-tailed or a broad coordinate
    assert found.shape_ == pytest.approx(shape, rel=0.06)
    assert np.abs((found.means_[order] - true.means) / true.scales).max() < 0.2
    assert np.abs(found.scales_[order] / true.scales - 1).max() < 0.12
    assert found.weights_[order] == pytest.approx(np.bincount(true.labels) / len(true.labels), abs=0.01)
    assert (order[true.labels] == found.predict(true.samples)).mean() > 0.98


def test_recovers_shapes_of_components_and_coordinates() -> None:
    low, high = draw(0.9, components=1, size=2000), draw(4.0, components=1, size=2000, seed=1)
    stacked = np.concatenate([low.samples, high.samples + 30])
    found = GeneralizedGaussianMixture(2, shape_per="component", random_state=0, tol=1e-6).fit(stacked)
    assert found.shape_[found.means_[:, 0].argsort()] == pytest.approx([0.9, 4.0], rel=0.1)
    beside = np.concatenate([low.samples[:, :1], high.samples[:, :1]], 1)
    found = GeneralizedGaussianMixture(1, shape_per="coordinate", tol=1e-6).fit(beside)
    assert found.shape_ == pytest.approx([0.9, 4.0], rel=0.15)


@pytest.mark.filterwarnings("ignore:EM did not converge")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "options",
    [
        *({"shape": shape} for shape in (0.6, 1, 2, 5, None)),
        *({"shape_per": sharing} for sharing in ("component", "coordinate")),
        {"levels": 40},
        {"min_scale": 0.3},
    ],
)
def test_the_bound_never_falls(options: dict[str, Any], dtype: str) -> None:
    true = draw(0.9, features=2, size=400)
    mixture = GeneralizedGaussianMixture(5, random_state=1, tol=0, max_iter=20, **options)
    mixture.fit(true.samples.astype(dtype))
    falls = np.diff(mixture.lower_bounds_).min(initial=0)
    assert_near("bound", min(falls, 0), 0, dtype)


def test_matches_scikit_learn_at_shape_two() -> None:
    samples = draw(2.0, size=1500).samples + 1000
    options: dict[str, Any] = {"tol": 1e-12, "max_iter": 1000, "random_state": 0}
    ours = GeneralizedGaussianMixture(3, shape=2, **options).fit(samples)
    theirs = GaussianMixture(3, covariance_type="diag", reg_covar=0, **options).fit(samples)
    order = np.abs(ours.means_ - theirs.means_[:, None]).sum(-1).argmin(1)
    assert_near("bound", ours.score(samples), theirs.score(samples))
    assert ours.means_[order] == pytest.approx(theirs.means_)
    assert ours.scales_[order] ** 2 == pytest.approx(2 * theirs.covariances_, rel=1e-6)
    assert ours.bic(samples) == pytest.approx(theirs.bic(samples))
    assert ours.aic(samples) == pytest.approx(theirs.aic(samples))
    rounded = GeneralizedGaussianMixture(3, shape=2.0000001, levels=1500, **options).fit(samples)
    assert rounded.score(samples) == pytest.approx(ours.score(samples), abs=1e-6)


def test_rounding_to_levels_changes_little() -> None:
    true = draw(1.2, size=6000)
    options: dict[str, Any] = {"random_state": 0, "tol": 1e-7}
    exact = GeneralizedGaussianMixture(3, levels=6000, **options).fit(true.samples)
    rough = GeneralizedGaussianMixture(3, **options).fit(true.samples.astype(np.float32))
    features = true.samples.shape[1]
    assert_near("rounding", rough.score(true.samples) / features, exact.score(true.samples) / features, "float32")
    assert_near("rounding", rough.lower_bound_ / features, exact.lower_bound_ / features, "float32")
    assert rough.shape_ == pytest.approx(exact.shape_, rel=5e-3)


def test_several_starts_keep_the_likeliest() -> None:
    samples = draw(2.0, components=6, features=2, size=600).samples
    random = np.random.RandomState(0)
    options: dict[str, Any] = {"random_state": random, "max_iter": 500}
    singles = [GeneralizedGaussianMixture(6, **options).fit(samples).lower_bound_ for _ in range(4)]
    many = GeneralizedGaussianMixture(6, n_init=4, random_state=np.random.RandomState(0), max_iter=500).fit(samples)
    assert many.lower_bound_ == max(singles)


def test_entropy_and_its_criterion() -> None:
    samples = draw(2.0, size=300).samples
    mixture = GeneralizedGaussianMixture(3, shape=2, random_state=0).fit(samples)
    single = GeneralizedGaussianMixture(1, shape=2).fit(samples)
    joint = reference(mixture, samples)
    share = special.softmax(joint, 1)
    entropy = -special.xlogy(share, share).sum()
    gain = special.logsumexp(joint, 1).sum() - reference(single, samples).sum()
    assessment = mixture.assess(samples)
    assert_near("density", assessment.entropy, entropy)
    assert mixture.nec(samples) == pytest.approx(entropy / gain)
    assert single.nec(samples) == 1.0
    assert assessment.nec(single=math.inf) == math.inf


@pytest.mark.parametrize(
    ("options", "free"),
    [({}, 27), ({"shape": 1}, 26), ({"shape_per": "component"}, 29), ({"shape_per": "coordinate"}, 30)],
)
def test_free_parameters(options: dict[str, Any], free: int) -> None:
    samples = draw(2.0, size=200).samples
    fitted = GeneralizedGaussianMixture(3, random_state=0, max_iter=500, **options).fit(samples)
    assert fitted.n_parameters_ == free
    tensors = torch.from_numpy(samples)
    of_tensors = GeneralizedGaussianMixture(3, random_state=0, max_iter=500, **options).fit(tensors)
    assert of_tensors.bic(tensors) == pytest.approx(fitted.bic(samples))


def test_samples_are_from_the_mixture() -> None:
    true = draw(0.8, components=2, features=1, size=500)
    mixture = GeneralizedGaussianMixture(2, random_state=0).fit(true.samples)
    drawn, labels = mixture.sample(4000)
    assert drawn.shape == (4000, 1)
    assert np.bincount(labels) / 4000 == pytest.approx(mixture.weights_, abs=0.03)
    for k in range(2):
        law = stats.gennorm(mixture.shape_, mixture.means_[k, 0], mixture.scales_[k, 0])
        assert stats.kstest(drawn[labels == k, 0], law.cdf).pvalue > 1e-3
    with pytest.raises(DataError, match="n_samples=0"):
        mixture.sample(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensors_in_tensors_out(dtype: torch.dtype) -> None:
    samples = draw(1.5, size=400).samples
    arrays = GeneralizedGaussianMixture(3, random_state=0).fit(samples)
    tensors = GeneralizedGaussianMixture(3, random_state=0).fit(torch.from_numpy(samples).to(dtype))
    for name in ("weights_", "means_", "scales_", "log_constants_"):
        assert isinstance(getattr(arrays, name), np.ndarray)
        assert isinstance(getattr(tensors, name), torch.Tensor)
        assert getattr(tensors, name).numpy() == pytest.approx(getattr(arrays, name), rel=1e-3)
    rows = torch.from_numpy(samples[:10]).to(dtype)
    assert tensors.score_samples(rows).dtype == dtype
    assert isinstance(arrays.predict(rows), torch.Tensor)
    assert isinstance(tensors.predict_proba(samples), np.ndarray)
    assert all(isinstance(part, torch.Tensor) for part in tensors.sample(3))


def test_one_seed_one_result_and_the_data_is_left_alone() -> None:
    samples = draw(1.5, size=300).samples
    copy = samples.copy()
    first, second = (GeneralizedGaussianMixture(3, random_state=5).fit(samples) for _ in range(2))
    assert np.array_equal(first.means_, second.means_)
    first.score(samples)
    first.partial_fit(samples)
    assert np.array_equal(samples, copy)


def test_progress_is_shown_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    samples = draw(1.5, size=100).samples
    GeneralizedGaussianMixture(2, random_state=0).fit(samples)
    assert not capsys.readouterr().out
    GeneralizedGaussianMixture(2, random_state=0, verbose=True).fit(samples)
    assert "nats" in capsys.readouterr().out


def test_unfitted() -> None:
    with pytest.raises(NotFittedError):
        GeneralizedGaussianMixture(2).score(np.zeros((3, 2)))
