"""Filters learned in coordinates in which patches are white."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from simroot.layers import NormalisedConv2d, Similarity2d
from simroot.layers.norm import PatchWhitening


def smooth_images(batch: int, seed: int = 0) -> torch.Tensor:
    noise = torch.randn(batch, 2, 14, 14, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.avg_pool2d(noise, 3, stride=1)


def patches(images: torch.Tensor, k: int) -> np.ndarray:
    """Patches side by side, one per row, written with loops."""
    values = images.double().numpy()
    steps = range(0, values.shape[2] - k + 1, k)
    return np.stack([image[:, i : i + k, j : j + k].ravel() for image in values for i in steps for j in steps])


def test_matrix_is_the_inverse_root_of_the_patches_covariance() -> None:
    whitening = PatchWhitening(2, 3, eps=0.1)
    batches = [smooth_images(16, seed) for seed in range(3)]
    for batch in batches:
        whitening.update(batch)
    covariance = np.mean([np.cov(patches(batch, 3).T, bias=True) for batch in batches], axis=0)
    matrix = whitening.matrix.double().numpy()
    regularised = covariance + 0.1 * np.trace(covariance) / 18 * np.eye(18)
    np.testing.assert_allclose(matrix @ regularised @ matrix, np.eye(18), atol=1e-3)  # float32 covariance


def test_estimation_stops_after_the_first_batches_and_in_evaluation() -> None:
    conv = NormalisedConv2d(2, 4, 3, whiten=True)
    assert conv.patches is not None
    conv.patches.batches = 2
    conv(smooth_images(4, 0))
    conv.eval()(smooth_images(4, 1))
    assert conv.patches.seen == 1
    conv.train()(smooth_images(4, 2))
    before = conv.patches.matrix.clone()
    conv(smooth_images(4, 3))
    assert torch.equal(conv.patches.matrix, before)


def test_constant_and_empty_images_leave_finite_filters() -> None:
    conv = NormalisedConv2d(2, 4, 3, whiten=True)
    assert torch.isfinite(conv(torch.ones(4, 2, 6, 6))).all()
    assert conv.patches is not None
    conv.patches.update(torch.empty(0, 2, 6, 6))
    assert torch.isfinite(conv.filters()).all()


def test_whitened_filters_fold_to_a_plain_convolution() -> None:
    torch.manual_seed(0)
    conv = NormalisedConv2d(2, 4, 3, whiten=True)
    for seed in range(5):
        conv(smooth_images(8, seed))
    x = smooth_images(4, 99)
    folded = conv.eval().folded()
    assert sum(p.numel() for p in folded.parameters()) == sum(p.numel() for p in conv.parameters())
    torch.testing.assert_close(folded(x), conv(x), rtol=1e-4, atol=1e-4)  # float32 rounding of the folded filters


def test_similarity_from_the_origin_is_zero_there_and_folds_to_a_bias() -> None:
    torch.manual_seed(0)
    layer = Similarity2d(3, 5, 2, order=1.5, from_origin=True)
    assert torch.equal(layer(torch.zeros(1, 3, 2, 2)), torch.zeros(1, 5, 1, 1))
    plain = Similarity2d(3, 5, 2, order=1.5)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(2, 3, 4, 4)
    constant = layer(x) - plain(x)
    torch.testing.assert_close(constant, constant[:1, :, :1, :1].expand_as(constant), rtol=1e-4, atol=1e-4)
    folded = layer.folded()
    assert folded.bias is not None
    torch.testing.assert_close(folded(x), layer(x), rtol=1e-5, atol=1e-5)


def test_images_that_are_smaller_than_a_patch_have_zeros_around_them() -> None:
    whitening = PatchWhitening(2, 5)
    x = torch.randn(40, 2, 4, 3)
    whitening.update(x)
    padded = PatchWhitening(2, 5)
    padded.update(nn.functional.pad(x, (1, 1, 1, 1)))
    assert torch.equal(whitening.covariance, padded.covariance)
    assert whitening.covariance.isfinite().all()
