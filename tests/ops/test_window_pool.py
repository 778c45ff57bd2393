"""Pooling over windows of 2 x 2 against the windows themselves, and when it is called."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ops.test_batch_norm_act import LAST
from simroot.ops.native import native
from simroot.ops.window_pool import fits_kernel, window_pool

BETAS = [math.inf, 0.0]


@pytest.fixture(autouse=True)
def native_only(kernels: str) -> None:
    if not native():
        pytest.skip("about native kernels")


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(shape[1])).to(memory_format=LAST)


# Images, channels, height, width: fewer channels than lanes, no whole vectors, more than four vectors, one window,
# several chunks.
@pytest.mark.parametrize("shape", [(2, 8, 6, 8), (3, 13, 4, 10), (2, 70, 4, 6), (2, 3, 2, 2), (9, 24, 32, 32)])
@pytest.mark.parametrize("beta", BETAS)
def test_values_and_gradients(shape: tuple[int, int, int, int], beta: float) -> None:
    x = normal(*shape).requires_grad_()
    y = window_pool(x, beta)
    assert y.is_contiguous(memory_format=LAST)
    grad = normal(*y.shape)
    windows = torch.stack([x.detach()[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)])
    if beta:
        expected, share = windows.max(0).values, windows == windows.max(0).values
    else:
        expected, share = windows.double().mean(0).float(), torch.full_like(windows, 0.25)
    torch.testing.assert_close(y, expected, rtol=0, atol=0 if beta else 1e-6)  # three additions, each rounded
    (found,) = torch.autograd.grad(y, x, grad)
    found = torch.stack([found[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)])
    torch.testing.assert_close(found, share * grad, rtol=0, atol=0)


def test_ties_and_missing_values_are_pytorchs() -> None:
    x = torch.tensor([[1.0, 1, 5, 2], [1, 0, 5, 5], [math.nan, 0, 3, 4], [7, 0, 4, math.nan]]).view(1, 1, 4, 4)
    given = [x.clone().requires_grad_() for _ in range(2)]
    ours, theirs = window_pool(given[0], math.inf), F.max_pool2d(given[1], 2)
    torch.testing.assert_close(ours, theirs, equal_nan=True, rtol=0, atol=0)
    grad = torch.tensor([[1.0, 3], [0, 0]]).view(1, 1, 2, 2)
    (one,), (other,) = (torch.autograd.grad(y, item, grad) for y, item in zip((ours, theirs), given, strict=True))
    assert torch.equal(one, other)


@pytest.mark.parametrize("beta", BETAS)
def test_second_derivatives(beta: float) -> None:
    x = normal(2, 5, 4, 6).requires_grad_()

    def twice(pool: Callable[[Tensor], Tensor]) -> Tensor:
        (first,) = torch.autograd.grad(pool(x).pow(3).sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x)[0]

    pool = F.max_pool2d if beta else F.avg_pool2d
    torch.testing.assert_close(twice(lambda x: window_pool(x, beta)), twice(lambda x: pool(x, 2)))


def test_same_bits_at_any_number_of_threads(assert_same_bits: Callable[..., None]) -> None:
    x, grad = normal(9, 24, 32, 32), normal(9, 24, 16, 16)
    assert_same_bits(lambda: window_pool(x, math.inf))
    assert_same_bits(lambda: torch.ops.simroot.window_pool_backward(grad, x, True))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_operators_are_well_registered() -> None:
    x, grad = normal(2, 9, 4, 6), normal(2, 9, 2, 3)
    torch.library.opcheck(torch.ops.simroot.window_pool.default, (x.requires_grad_(), True))
    torch.library.opcheck(torch.ops.simroot.window_pool_backward.default, (grad, x.detach(), False))


def test_what_is_served() -> None:
    large = normal(8, 16, 16, 16)
    assert fits_kernel(large)
    assert not fits_kernel(large[:, :, :15])
    assert not fits_kernel(large[:, :, :4, :4].contiguous(memory_format=LAST))
    assert not fits_kernel(large.double())
    assert not fits_kernel(large.contiguous())
