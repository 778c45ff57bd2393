"""MEX layers: constraints, what is learned and what is fixed, their first state."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from simroot import ops
from simroot.errors import ConfigError
from simroot.layers import GlobalMexPool2d, MexDense, MexPool2d, MultiplicativeNoise


def test_dense_is_the_operator_on_its_parameters() -> None:
    layer = MexDense(6, 4, beta=0.7)
    x = torch.randn(3, 6, 2, 2)
    assert torch.equal(layer(x), ops.mex_dense(x, layer.offsets, layer.beta))


def test_offsets_start_different_so_that_the_gradient_below_is_not_zero() -> None:
    layer = MexDense(6, 4)
    assert layer.offsets.std() > 0.3
    x = torch.randn(5, 6, requires_grad=True)
    torch.nn.functional.cross_entropy(layer(x), torch.arange(5) % 4).backward()
    assert x.grad is not None
    assert x.grad.abs().max() > 1e-3


def test_a_small_beta_is_a_linear_unit_without_a_bias() -> None:
    torch.manual_seed(0)
    layer = MexDense(64, 3, beta=1e-2).double()
    x = torch.randn(100, 64, dtype=torch.float64)
    weights = (layer.offsets * layer.beta).softmax(1)
    # The next term is beta / 2 times the variance of x under these weights, which is about 1.
    torch.testing.assert_close(layer(x), x @ weights.T, rtol=0, atol=2e-2)


def test_beta_of_dense_stays_positive_and_offsets_follow_it() -> None:
    layer = MexDense(6, 4, beta=0.5)
    alpha = (layer.offsets * layer.beta).detach()
    with torch.no_grad():
        layer.beta = torch.tensor(0.25)
    torch.testing.assert_close(layer.offsets, alpha / 0.25)
    with torch.no_grad():
        layer.parametrizations.beta.original.fill_(-50.0)  # type: ignore[union-attr,operator]
    assert layer.beta > 0


def test_folded_dense_has_the_same_output_and_plain_parameters() -> None:
    layer = MexDense(6, 4, beta=0.5)
    folded = layer.folded()
    assert {name for name, _ in folded.named_parameters()} == {"beta", "offsets"}
    x = torch.randn(3, 6)
    torch.testing.assert_close(folded(x), layer(x))


@pytest.mark.parametrize(("fixed", "learned"), [("beta", "offsets"), ("offsets", "beta")])
def test_each_parameter_of_dense_can_be_fixed(fixed: str, learned: str) -> None:
    layer = MexDense(6, 4, learn_beta=fixed != "beta", learn_offsets=fixed != "offsets")
    trained = {name.split(".")[1] for name, p in layer.named_parameters() if p.requires_grad}
    assert trained == {learned}


@pytest.mark.parametrize("beta", [0.0, -1.0, math.inf, math.nan])
def test_dense_refuses_a_beta_that_is_not_positive_and_finite(beta: float) -> None:
    with pytest.raises(ConfigError, match="expected a positive finite number"):
        MexDense(3, 2, beta=beta)


@pytest.mark.parametrize("beta", [-math.inf, -1.0, 0.0, 2.0, math.inf])
def test_pooling_is_the_operator(beta: float) -> None:
    x = torch.randn(2, 3, 7, 7)
    layer = MexPool2d(3, 2, 1, ceil_mode=True, beta=beta)
    assert torch.equal(layer(x), ops.mex_pool2d(x, beta, 3, 2, 1, True))
    assert not list(layer.parameters())
    pool = GlobalMexPool2d(beta=beta, learn_beta=False)
    assert torch.equal(pool(x), ops.global_mex_pool2d(x, beta))


@pytest.mark.parametrize("channels", [None, 3])
@pytest.mark.parametrize("build", [lambda **o: MexPool2d(2, beta=0.5, learn_beta=True, **o), GlobalMexPool2d])
def test_pooling_learns_one_beta_or_one_per_channel(
    channels: int | None, build: Callable[..., torch.nn.Module]
) -> None:
    layer = build(channels=channels)
    layer(torch.randn(2, 3, 4, 4)).square().sum().backward()
    (beta,) = layer.parameters()
    assert beta.numel() == (channels or 1)
    assert beta.grad is not None
    assert (beta.grad.abs() > 0).all()


def test_a_step_moves_the_beta_of_global_pooling_by_the_square_of_its_rate() -> None:
    layer, x = GlobalMexPool2d(beta=0.5, beta_rate=0.2), torch.randn(3, 4, 5, 5)
    beta = torch.tensor(0.5, requires_grad=True)
    for y in (ops.global_mex_pool2d(x, beta), layer(x)):
        y.sum().backward()
    torch.optim.SGD(layer.parameters(), lr=1.0).step()
    assert beta.grad is not None
    torch.testing.assert_close(layer.beta, 0.5 - 0.2**2 * beta.grad, rtol=1e-5, atol=1e-6)  # float32


def test_an_infinite_beta_cannot_be_learned() -> None:
    with pytest.raises(ConfigError, match="cannot be learned"):
        MexPool2d(3, learn_beta=True)


def test_noise_has_the_stated_deviation_and_refuses_a_negative_one() -> None:
    torch.manual_seed(0)
    noisy = MultiplicativeNoise(0.3)(torch.full((100_000,), 2.0))
    assert abs(noisy.std() - 0.6) < 0.01  # its standard error is 0.0013
    assert abs(noisy.mean() - 2) < 0.01
    for sigma in (-0.1, math.inf):
        with pytest.raises(ConfigError, match="expected a finite number >= 0"):
            MultiplicativeNoise(sigma)
