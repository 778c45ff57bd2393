"""Stochastic EM on batches, and input that is degenerate."""

from typing import Any

import numpy as np
import pytest
import torch

from estimators.support import assert_near, draw
from simroot.errors import DataError
from simroot.estimators import GeneralizedGaussianMixture


@pytest.mark.parametrize("options", [{"shape": 2}, {"shape": 1}, {}])
def test_batches_come_near_the_fit_of_everything(options: dict[str, Any]) -> None:
    true = draw(1.5, size=6000)
    whole = GeneralizedGaussianMixture(3, random_state=0, tol=1e-6, **options).fit(true.samples)
    stream = GeneralizedGaussianMixture(3, random_state=0, **options)
    for batch in np.split(true.samples, 30):
        stream.partial_fit(batch)
    assert stream.n_iter_ == len(stream.lower_bounds_) == 30
    # as good as what a third of the samples, some recent batches' worth, can tell: a nat per parameter of them
    assert stream.score(true.samples) == pytest.approx(whole.score(true.samples), abs=27 / 2000)


def test_the_first_batch_counts_whole_and_later_ones_by_the_step() -> None:
    samples = draw(2.0, size=400).samples
    stream = GeneralizedGaussianMixture(1, shape=2, step_decay=0.7)
    stream.partial_fit(samples[:100])
    assert stream.means_[0] == pytest.approx(samples[:100].mean(0))
    stream.partial_fit(samples[100:])
    step = 2**-0.7
    mean = (1 - step) * samples[:100].mean(0) + step * samples[100:].mean(0)
    square = (1 - step) * (samples[:100] ** 2).mean(0) + step * (samples[100:] ** 2).mean(0)
    assert stream.means_[0] == pytest.approx(mean)
    assert stream.scales_[0] ** 2 == pytest.approx(2 * (square - mean**2))


def test_batches_after_a_fit_start_from_it() -> None:
    true = draw(1.5, size=2000)
    fitted = GeneralizedGaussianMixture(3, random_state=0).fit(true.samples)
    before = fitted.means_.copy()
    fitted.partial_fit(true.samples[:1000])
    assert fitted.n_iter_ == 1
    assert np.abs(fitted.means_ - before).max() < 0.3  # the same components in the same order


def test_a_fit_forgets_the_batches() -> None:
    true = draw(1.5, size=600)
    fresh = GeneralizedGaussianMixture(3, random_state=0).fit(true.samples)
    used = GeneralizedGaussianMixture(3, random_state=0).partial_fit(true.samples[:50, :2]).fit(true.samples)
    assert np.array_equal(fresh.means_, used.means_)


def test_values_beyond_the_first_batch_count_as_the_outermost() -> None:
    samples = draw(2.0, components=1, size=300).samples
    stream = GeneralizedGaussianMixture(1).partial_fit(samples).partial_fit(np.concatenate([samples, [[1e6] * 4]]))
    reach = samples.max(0) + 0.5 * np.ptp(samples, axis=0)
    assert (stream.means_ < reach).all()
    assert (stream.scales_ < reach).all()


@pytest.mark.parametrize("shape", [None, 0.7, 1, 2, 3])
def test_constant_coordinates_are_told_apart_from_the_rest(shape: float | None) -> None:
    true = draw(1.5, size=300)
    constant = np.concatenate([true.samples, np.full((300, 1), 7.3)], 1)
    found = GeneralizedGaussianMixture(3, shape=shape, random_state=0, max_iter=300).fit(constant)
    assert found.means_[:, -1] == pytest.approx(7.3, abs=1e-3)
    assert found.scales_[:, -1] == pytest.approx(0.01)
    without = GeneralizedGaussianMixture(3, shape=shape, random_state=0, max_iter=300).fit(true.samples)
    agree = [(found.predict(constant) == k) & (without.predict(true.samples) == k) for k in range(3)]
    assert np.sum(agree) >= 290


@pytest.mark.parametrize("sharing", ["mixture", "component", "coordinate"])
def test_constant_coordinates_leave_learned_shapes_alone(sharing: str) -> None:
    true = draw(1.2, size=600)
    samples = np.insert(true.samples, [1, 2], [7.3, 0.0], axis=1)
    options: dict[str, Any] = {"shape_per": sharing, "random_state": 0, "tol": 1e-6, "max_iter": 500}
    found, without = (GeneralizedGaussianMixture(3, **options).fit(each) for each in (samples, true.samples))
    rest = [0, 2, 4, 5]
    assert found.means_[:, rest] == pytest.approx(without.means_)
    assert found.scales_[:, rest] == pytest.approx(without.scales_)
    shapes = found.shape_[rest] if sharing == "coordinate" else found.shape_
    assert shapes == pytest.approx(without.shape_)
    assert (found.scales_[:, [1, 3]] >= 0.01 * (1 - 1e-9)).all()
    # what is constant tells components nothing, and the bound counts its density
    assert found.predict_proba(samples) == pytest.approx(without.predict_proba(true.samples))
    gain = found.score(samples) - without.score(true.samples)
    assert gain == pytest.approx(found.lower_bound_ - without.lower_bound_)
    assert gain > 2 * np.log(1 / (4 * 0.01))


def test_small_deviations_around_a_large_mean_are_no_constants() -> None:
    samples = 1e5 + 1e-3 * np.random.default_rng(0).normal(size=(2000, 2))
    found = GeneralizedGaussianMixture(1, shape=2).fit(samples)
    assert found.scales_[0] / np.sqrt(2) == pytest.approx(samples.std(0), rel=1e-6)


@pytest.mark.parametrize("shape", [None, 1, 2])
def test_everything_alike(shape: float | None) -> None:
    found = GeneralizedGaussianMixture(3, shape=shape, random_state=0).fit(np.full((20, 2), 5.0))
    assert found.means_ == pytest.approx(5.0, abs=1e-3)
    assert np.isfinite(found.lower_bound_)
    assert found.partial_fit(np.full((20, 2), 5.0)).means_ == pytest.approx(5.0, abs=5e-3)


@pytest.mark.parametrize("shape", [None, 0.7, 1, 2])
def test_no_component_collapses_onto_a_sample(shape: float | None) -> None:
    """As many components as samples, and a sample three times: scales stay at the floor or above."""
    samples = np.random.default_rng(0).normal(size=(8, 3))
    samples[5:] = samples[5]
    found = GeneralizedGaussianMixture(6, shape=shape, random_state=0, min_scale=0.01, max_iter=500).fit(samples)
    assert (found.scales_ >= 0.01 * samples.std(0) * (1 - 1e-6)).all()
    assert np.isfinite(found.score(samples))


def test_fewer_samples_than_coordinates() -> None:
    samples = np.random.default_rng(0).normal(size=(10, 40))
    found = GeneralizedGaussianMixture(2, random_state=0).fit(samples)
    assert np.isfinite(found.means_).all()
    assert np.isfinite(found.score(samples))


def test_a_distant_sample_has_finite_answers() -> None:
    samples = draw(3.0, size=300).samples.astype(np.float32)
    found = GeneralizedGaussianMixture(3, shape=3, random_state=0).fit(samples)
    far = np.full((1, 4), 1e30, dtype=np.float32)
    assert found.predict_proba(far) == pytest.approx(np.full((1, 3), 1 / 3))
    assert np.isfinite(found.score_samples(far)).all()


def test_a_mean_far_from_zero_in_single_precision() -> None:
    samples = draw(2.0, size=2000).samples
    near = GeneralizedGaussianMixture(3, shape=2, random_state=0).fit(samples)
    far = GeneralizedGaussianMixture(3, shape=2, random_state=0).fit((samples + 4096).astype(np.float32))
    assert_near("rounding", far.lower_bound_, near.lower_bound_, "float32")
    assert far.scales_ == pytest.approx(near.scales_, rel=1e-3)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((2, 3)), "n_samples=2 is fewer than n_components=3"),
        (torch.zeros(2, 3), "n_samples=2 is fewer than n_components=3"),
        (np.zeros((1, 3)), "minimum of 2 is required"),
        (torch.zeros(1, 3), "minimum of 2 is required"),
        (np.full((9, 2), np.nan), "NaN"),
        (torch.full((9, 2), torch.nan), "NaN or infinity"),
        (np.full((9, 2), np.inf), "infinity"),
        (torch.full((9, 2), torch.inf), "NaN or infinity"),
        (np.zeros(9), "Expected 2D array"),
        (torch.zeros(9), r"shape \(9,\)"),
        (torch.zeros(9, 2, dtype=torch.complex64), "complex64"),
        (np.zeros((9, 0)), "0 feature"),
        (torch.zeros(9, 0), r"shape \(9, 0\)"),
    ],
)
def test_errors_name_what_is_wrong(method: str, data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        getattr(GeneralizedGaussianMixture(3), method)(data)


def test_another_number_of_coordinates() -> None:
    samples = draw(1.5, size=200).samples
    mixture = GeneralizedGaussianMixture(3, random_state=0).partial_fit(samples)
    for wrong in (samples[:, :2], torch.from_numpy(samples[:, :2])):
        for method in (mixture.partial_fit, mixture.score_samples):
            with pytest.raises(DataError, match=r"2 features, but .* expecting 4"):
                method(wrong)
