"""Normalisations that fold: what they compute, and that folding them changes nothing."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from simroot.errors import ConfigError
from simroot.layers import FoldedContrast2d, FoldedNorm2d, FoldedWhitening2d, GroupedConv2d, NormalisedConv2d


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def correlated(batch: int, channels: int) -> torch.Tensor:
    """Channels that share a common mode ten times as large as what tells them apart, around different means."""
    common = 10 * images(batch, 1, 6, 6, seed=1)
    return common + images(batch, channels, 6, 6, seed=2) + torch.arange(channels)[:, None, None]


def test_norm_in_training_is_the_batch_standardised_per_channel() -> None:
    x = 3 * images(8, 4, 5, 5) + 2
    y = FoldedNorm2d(4, scale=2.0)(x)
    values = x.double().numpy().transpose(1, 0, 2, 3).reshape(4, -1)
    expected = 2 * (values - values.mean(1, keepdims=True)) / np.sqrt(values.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(y.numpy().transpose(1, 0, 2, 3).reshape(4, -1), expected, atol=1e-5)  # float32


def test_norm_has_no_parameters_and_uses_running_statistics_in_evaluation() -> None:
    norm = FoldedNorm2d(3)
    assert not list(norm.parameters())
    for seed in range(200):
        norm(3 * images(16, 3, 4, 4, seed=seed) + 2)
    y = norm.eval()(3 * images(64, 3, 8, 8, seed=999) + 2)
    assert abs(y.mean()) < 0.1
    assert abs(y.std() - 1) < 0.1


@pytest.mark.parametrize(
    "norm",
    [FoldedNorm2d(5, scale=3.0), FoldedContrast2d(5, scale=3.0), FoldedWhitening2d(5)],
    ids=["norm", "contrast", "whitening"],
)
def test_folded_is_the_map_of_evaluation(norm: FoldedNorm2d) -> None:
    x = correlated(32, 5)
    for _ in range(50):
        norm.train()(x)
    matrix, mean = norm.affine()
    expected = torch.einsum("rc,nchw->nrhw", matrix, x.double() - mean[:, None, None])
    torch.testing.assert_close(norm.eval()(x).double(), expected, rtol=1e-4, atol=1e-4)  # float32 against float64


def settled(norm: FoldedNorm2d, x: torch.Tensor, batches: int = 300) -> FoldedNorm2d:
    """With running averages that are those of x."""
    for _ in range(batches):
        norm(x)
    return norm


def test_contrast_divides_by_the_deviation_of_what_channels_do_not_share() -> None:
    x = correlated(8, 4)
    y = settled(FoldedContrast2d(4, scale=2.0), x)(x)
    values = x.double().numpy()
    standard = (values - values.mean((0, 2, 3))[:, None, None]) / values.std((0, 2, 3))[:, None, None]
    own = (standard - standard.mean(1, keepdims=True)).var((0, 2, 3))
    assert own.max() < 0.02  # nearly everything is shared
    np.testing.assert_allclose(y.numpy(), 2 * standard / np.sqrt(own)[:, None, None], rtol=1e-3, atol=1e-3)  # float32


def test_contrast_estimates_its_statistics_from_rows() -> None:
    x = correlated(8, 4)
    norm, expected = FoldedContrast2d(4), settled(FoldedContrast2d(4), x)
    norm.estimate(x.transpose(0, 1).flatten(1).T)
    for name, value in norm.state_dict().items():
        torch.testing.assert_close(value, expected.state_dict()[name], rtol=1e-3, atol=1e-5)  # float32


def test_contrast_bounds_its_gain() -> None:
    x = images(8, 1, 5, 5).expand(8, 3, 5, 5)
    assert settled(FoldedContrast2d(3), x)(x).std() == pytest.approx(1e3**0.5, rel=1e-2)  # biased and not


def test_contrast_of_one_channel_is_a_plain_normalisation() -> None:
    x = 3 * images(8, 1, 5, 5) + 2
    assert torch.equal(settled(FoldedContrast2d(1), x)(x), FoldedNorm2d(1)(x))


def test_narrow_contrast_s_gradient_is_that_of_a_normalisation_with_fixed_shares() -> None:
    x = correlated(3, 3).double()
    norm = settled(FoldedContrast2d(3).double(), x)
    norm.momentum = 0.0  # the map stands still for the differences
    assert torch.autograd.gradcheck(norm, x[:, :, :2, :2].clone().requires_grad_())


def test_contrast_s_gradient_holds_the_batch_s_mean_deviation_and_shares_in_wide_layers() -> None:
    x = correlated(2, 64).double()[:, :, :2, :2].clone().requires_grad_()
    assert torch.autograd.gradcheck(FoldedContrast2d(64).double(), x)


def gain_of_sharing_less(channels: int) -> float:
    """Gradient along what tells the channels apart, of what depends on nothing else, in its own absolute values."""
    base = correlated(2, channels).double()
    x = torch.cat([base.roll(steps, 1) for steps in range(channels)]).requires_grad_()  # all have the same shares
    deciding = images(*x.shape).double()
    (FoldedContrast2d(channels).double()(x) * (deciding - deciding.mean(1, keepdim=True))).sum().backward()
    assert x.grad is not None
    along = x.grad * (x.detach() - x.detach().mean(1, keepdim=True))
    return float(along.sum().abs() / along.abs().sum())


def test_channels_do_not_gain_by_sharing_less_before_a_wide_contrast() -> None:
    assert gain_of_sharing_less(64) < 1e-4  # eps beside the variance


def test_channels_gain_by_sharing_less_before_a_narrow_contrast() -> None:
    assert gain_of_sharing_less(63) > 1e-3


def test_a_narrow_contrast_divides_by_the_running_share() -> None:
    norm, x = FoldedContrast2d(4), correlated(8, 4)
    norm.own.fill_(0.25)
    standard = FoldedNorm2d(4)(x)
    torch.testing.assert_close(norm(x), 2 * standard, rtol=1e-5, atol=1e-5)  # float32
    own = (standard - standard.mean(1, keepdim=True)).var((0, 2, 3), correction=0)
    torch.testing.assert_close(norm.own, torch.full((4,), 0.25).lerp(own, 0.1), rtol=1e-3, atol=1e-5)


def test_whitening_decorrelates_what_a_normalisation_leaves_in() -> None:
    x = correlated(64, 6)

    def largest_share(y: torch.Tensor) -> float:
        values = torch.linalg.eigvalsh(torch.cov(y.transpose(0, 1).flatten(1)))
        return float(values[-1] / values.sum())

    assert largest_share(FoldedNorm2d(6)(x)) > 0.9
    assert largest_share(FoldedWhitening2d(6, momentum=1.0, eps=1e-6)(x)) < 1.01 / 6


def test_whitening_s_gradient_holds_the_batch_s_mean_and_deviation_but_not_its_correlations() -> None:
    x = correlated(4, 3).double()
    whitening = FoldedWhitening2d(3).double()
    whitening(x)
    whitening.momentum = 0.0  # the map stands still for the differences
    assert not torch.equal(whitening.matrix, torch.eye(3))
    assert torch.autograd.gradcheck(whitening, x[:, :, :2, :2].clone().requires_grad_())


def test_no_channel_gains_by_growing_before_a_whitening() -> None:
    """Along its own deviations from the mean, a channel's gradient is zero."""
    x = correlated(16, 4).double().requires_grad_()
    y = FoldedWhitening2d(4).double()(x)
    (y * images(*y.shape).double()).sum().backward()
    assert x.grad is not None
    centred = x.detach() - x.detach().mean((0, 2, 3), keepdim=True)
    along = (x.grad * centred).sum((0, 2, 3))
    assert (along.abs() < 1e-4 * (x.grad * centred).abs().sum((0, 2, 3))).all()  # eps beside the variance


def test_whitening_of_a_constant_channel_stays_finite() -> None:
    x = images(8, 3, 4, 4)
    x[:, 1] = 5
    y = FoldedWhitening2d(3)(x)
    assert torch.isfinite(y).all()
    assert (y[:, 1].abs() < 1e-3).all()


@pytest.mark.parametrize("value", [1e25, math.inf, math.nan])
def test_whitening_outlives_a_channel_that_overflows(value: float) -> None:
    """Its squares are beyond float32. The others come out; what is not finite stays so, for the loss to tell."""
    x = images(8, 3, 4, 4)
    x[:, 1] *= value
    whitening = FoldedWhitening2d(3)
    y = whitening(x)
    assert whitening.matrix.isfinite().all()
    assert bool(y.isfinite().all()) == math.isfinite(value)


@pytest.mark.parametrize("norm", [FoldedWhitening2d(3), FoldedContrast2d(3)], ids=["whitening", "contrast"])
def test_an_empty_batch_keeps_the_statistics(norm: FoldedNorm2d) -> None:
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    assert norm(torch.empty(0, 3, 4, 4)).shape == (0, 3, 4, 4)
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


@pytest.mark.parametrize("options", [{}, {"norm": False}, {"stride": 2, "padding": 1, "groups": 2}])
def test_normalised_convolution_folds_to_a_plain_one(options: dict[str, int]) -> None:
    conv = NormalisedConv2d(4, 6, 3, **options)  # type: ignore[arg-type]
    torch.nn.init.normal_(conv.bias)  # type: ignore[arg-type]
    x = images(8, 4, 9, 9)
    for _ in range(20):
        conv.train()(x)
    folded = conv.eval().folded()
    assert type(folded) is (GroupedConv2d if conv.groups > 1 else torch.nn.Conv2d)
    assert sum(p.numel() for p in folded.parameters()) == sum(p.numel() for p in conv.parameters())
    torch.testing.assert_close(folded(x), conv(x), rtol=1e-5, atol=1e-5)  # float32 rounding of the folded filters


def test_groups_that_do_not_divide_are_named() -> None:
    with pytest.raises(ConfigError, match="out_channels 5 is not divisible by groups 2"):
        NormalisedConv2d(4, 5, 3, groups=2)
    with pytest.raises(ConfigError, match="in_channels 4 is not divisible by groups 0"):
        NormalisedConv2d(4, 4, 3, groups=0)
    with pytest.raises(ConfigError, match="without filter groups; got 2 groups"):
        NormalisedConv2d(4, 4, 3, groups=2, whiten=True)


def test_double_precision() -> None:
    x = images(8, 3, 9, 9).double()
    for layer in (
        FoldedContrast2d(3).double(),
        FoldedWhitening2d(3).double(),
        NormalisedConv2d(3, 4, 3, whiten=True).double(),
    ):
        assert layer(x).dtype == torch.float64


def test_mixed_precision_is_near_to_single() -> None:
    x = images(8, 3, 9, 9)
    for layer in (FoldedContrast2d(3), FoldedWhitening2d(3), NormalisedConv2d(3, 4, 3, whiten=True)):
        single = copy.deepcopy(layer)
        for _ in range(2):  # the second time with the statistics of the first
            with torch.autocast("cpu", torch.bfloat16):
                mixed = layer(x)
            expected = single(x)
        assert (mixed - expected).abs().max() <= 2e-2 * expected.abs().max()  # 8 bits of mantissa
