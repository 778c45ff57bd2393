"""Mixup and cutmix against their formulas, image by image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from simroot.data.mixing import Mixing, _boxes

KINDS = {"mixup": Mixing(mixup=0.5), "cutmix": Mixing(cutmix=1.0), "both": Mixing(mixup=0.5, cutmix=1.0)}


@pytest.mark.parametrize("mixing", KINDS.values(), ids=KINDS)
def test_images_and_labels_are_what_the_formula_says(mixing: Mixing) -> None:
    images, labels = torch.randn(20, 3, 8, 6), torch.arange(20) % 4
    mixture = mixing.draw(20, (8, 6), np.random.default_rng(0))
    mixed, targets = mixture.images(images), mixture.targets(labels, 4)
    assert sorted(mixture.partners.tolist()) == list(range(20))
    torch.testing.assert_close(targets.sum(1), torch.ones(20))
    kinds = set()
    for number, partner in enumerate(mixture.partners.tolist()):
        shares = mixture.shares[number].expand(1, 8, 6)
        kinds.add("cutmix" if set(shares.unique().tolist()) <= {0.0, 1.0} else "mixup")
        expected = shares * images[number] + (1 - shares) * images[partner]
        torch.testing.assert_close(mixed[number], expected, rtol=0, atol=1e-6)  # rounding in float32
        share = float(shares.double().mean())
        probabilities = [0.0] * 4
        probabilities[int(labels[number])] += share
        probabilities[int(labels[partner])] += 1 - share
        assert targets[number].tolist() == pytest.approx(probabilities, abs=1e-6)
    assert kinds == ({"mixup", "cutmix"} if mixing == KINDS["both"] else {next(k for k in KINDS if KINDS[k] == mixing)})


def test_a_box_has_its_sides_around_its_middle() -> None:
    """Half of 8 and of 4 pixels in the middle; in the corner a quarter of it is seen."""
    boxes = _boxes((8, 4), np.array([0.5, 0.5]), np.array([[0.5, 0.0], [0.5, 1.0]]))
    expected = np.zeros((2, 8, 4), dtype=bool)
    expected[0, 2:6, 1:3] = True
    expected[1, :2, 3:] = True
    assert np.array_equal(boxes, expected)


def test_shares_are_of_beta() -> None:
    """Beta(a, a) has the mean 1/2 and the variance 1 / (4 (2 a + 1))."""
    shares = Mixing(mixup=0.5).draw(20_000, (4, 4), np.random.default_rng(1)).shares.double()
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.01)  # four standard errors
    assert float(shares.var()) == pytest.approx(1 / 8, abs=0.005)
    outside = Mixing(cutmix=1.0).draw(2_000, (64, 64), np.random.default_rng(1)).shares.double().mean((1, 2, 3))
    assert 0.5 < float(outside.mean()) < 0.75  # boxes that reach over the border are smaller


@pytest.mark.parametrize("strength", [1e-12, 1e-3])
def test_at_the_start_of_a_ramp_images_are_nearly_whole(strength: float) -> None:
    for mixing in (Mixing(mixup=strength), Mixing(cutmix=strength), Mixing(strength, strength)):
        shares = mixing.draw(100, (8, 8), np.random.default_rng(0)).shares
        assert shares.isfinite().all()
        assert ((shares < 0.05) | (shares > 0.95)).float().mean() > 0.9


def test_the_generator_decides() -> None:
    first, again, other = (KINDS["both"].draw(9, (4, 4), np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first.shares, other.shares)
    assert not Mixing()
