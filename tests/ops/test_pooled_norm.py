"""Batch normalisation, activation and pooling in one against its formula in float64, and when it is called."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ops.test_batch_norm_act import LAST, slow
from simroot.ops.native import native
from simroot.ops.pooled_norm import can_be_pooled, pooled_batch_norm
from tolerances import assert_close

BETAS = [math.inf, 0.0]


@pytest.fixture(autouse=True)
def native_only(kernels: str) -> None:
    if not native():
        pytest.skip("about native kernels")


class Case:
    """Images, the normalisation's vectors, and a gradient."""

    def __init__(self, images: int, channels: int, height: int, width: int) -> None:
        generator = torch.Generator().manual_seed(channels)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        x = normal(images, channels, height, width) * (0.5 + normal(channels, 1, 1).abs()) + 3 * normal(channels, 1, 1)
        self.tensors = [x.to(memory_format=LAST), normal(channels), normal(channels)]
        self.grad = normal(images, channels, height // 2, width // 2).to(memory_format=LAST)

    def learned(self, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        return [tensor.to(dtype, copy=True).requires_grad_() for tensor in self.tensors]

    def windows(self, tensors: list[Tensor], name: str) -> Tensor:
        """(N, C, H / 2, W / 2, 4): the values of each window, in float64."""
        x, weight, bias = tensors
        y = slow(x, weight, bias, None, 1e-5, name)
        return torch.stack([y[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], -1)

    def exact(self, name: str, beta: float) -> tuple[Tensor, ...]:
        """The result and the gradients; where rounding decides which is the largest, or on which side of a kink a value
        is, the gradient of the result is set to 0 for both sides.
        """
        tensors = self.learned(torch.float64)
        arguments = self.windows(tensors, "none").detach().sort(-1).values
        near = (arguments.abs() < 1e-4).any(-1) | (arguments.diff(dim=-1) < 1e-4).any(-1)
        self.grad[near] = 0
        values = self.windows(tensors, name)
        y = values.max(-1).values if beta else values.mean(-1)
        return (y.detach(), *torch.autograd.grad(y, tensors, self.grad.double()))


def found(tensors: list[Tensor], name: str, beta: float) -> Tensor:
    x, weight, bias = tensors
    y, _, _ = torch.ops.simroot.pooled_norm(x, weight, bias, 1e-5, name, beta > 0)
    assert isinstance(y, Tensor)
    return y


# Images, channels, height, width: fewer channels than lanes, no whole vectors, more than four vectors, one window, long
# rows, several chunks.
SHAPES = [(2, 8, 6, 8), (3, 13, 4, 10), (2, 70, 4, 6), (2, 3, 2, 2), (1, 5, 2, 600), (9, 24, 32, 32)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("name", ["none", "relu", "silu"])
def test_values_and_gradients(shape: tuple[int, int, int, int], beta: float, name: str) -> None:
    case = Case(*shape)
    expected, *gradients = case.exact(name, beta)
    tensors = case.learned()
    y = found(tensors, name, beta)
    assert y.is_contiguous(memory_format=LAST)
    assert_close("batch_norm_act", y, expected)
    for one, other in zip(torch.autograd.grad(y, tensors, case.grad), gradients, strict=True):
        assert_close("batch_norm_act.gradient", one, other, scale=max(1.0, float(other.abs().max())))


def test_of_equal_values_the_first_has_the_gradient() -> None:
    x = torch.tensor([[1.0, 2, 5, 5], [2, 0, 5, 1], [0, 0, 3, 4], [0, 0, 4, 4]]).view(1, 1, 4, 4)
    given = [x.clone().requires_grad_() for _ in range(2)]
    y = F.max_pool2d(F.batch_norm(given[0], None, None, training=True), 2)
    ours, _, _ = torch.ops.simroot.pooled_norm(given[1].to(memory_format=LAST), None, None, 1e-5, "none", True)
    grad = torch.tensor([[1.0, 3], [5, 7]]).view(1, 1, 2, 2)
    (theirs,), (gradient,) = (torch.autograd.grad(out, x, grad) for out, x in zip((y, ours), given, strict=True))
    assert_close("batch_norm_act.gradient", gradient, theirs.double())


@pytest.mark.parametrize("wanted", range(3))
def test_only_what_is_needed(wanted: int) -> None:
    case = Case(2, 9, 6, 4)
    exact = case.exact("silu", math.inf)[1 + wanted]
    tensors = list(case.tensors)
    tensors[wanted] = tensors[wanted].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(found(tensors, "silu", math.inf), tensors[wanted], case.grad)
    assert_close("batch_norm_act.gradient", gradient, exact, scale=max(1.0, float(exact.abs().max())))


def test_missing_values_stay_in_their_channel() -> None:
    case = Case(2, 12, 6, 8)
    case.tensors[0][0, 3, 1, 1] = torch.nan
    for beta in BETAS:
        y = found(case.tensors, "relu", beta)
        assert y[:, 3].isnan().all()
        assert y[:, :3].isfinite().all()


def test_second_derivatives() -> None:
    case = Case(2, 5, 4, 6)
    case.exact("silu", 0.0)

    def twice(function: Callable[[list[Tensor]], Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
        tensors = case.learned(dtype)
        first = torch.autograd.grad(function(tensors), tensors, case.grad.to(dtype), create_graph=True)
        return torch.autograd.grad(sum((one.square().sum() for one in first), torch.zeros(())), tensors)

    got = twice(lambda tensors: found(tensors, "silu", 0.0), torch.float32)
    expected = twice(lambda tensors: case.windows(tensors, "silu").mean(-1), torch.float64)
    for one, other in zip(got, expected, strict=True):
        assert_close("batch_norm_act.gradient", one, other, scale=max(1.0, float(other.abs().max())))


def test_same_bits_at_any_number_of_threads(assert_same_bits: Callable[..., None]) -> None:
    case = Case(9, 24, 32, 32)
    _, mean, var = torch.ops.simroot.pooled_norm(*case.tensors, 1e-5, "relu", True)
    assert_same_bits(lambda: torch.ops.simroot.pooled_norm(*case.tensors, 1e-5, "relu", True))
    arguments = (case.grad, *case.tensors, mean, var, 1e-5, "relu", True, [True] * 3)
    assert_same_bits(lambda: torch.ops.simroot.pooled_norm_backward(*arguments))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_operators_are_well_registered() -> None:
    case = Case(2, 9, 4, 6)
    _, mean, var = torch.ops.simroot.pooled_norm(*case.tensors, 1e-5, "silu", False)
    arguments = (case.grad, *case.tensors, mean, var, 1e-5, "silu", False, [True, False, True])
    torch.library.opcheck(torch.ops.simroot.pooled_norm.default, (*case.learned(), 1e-5, "silu", False))
    torch.library.opcheck(torch.ops.simroot.pooled_norm_backward.default, arguments)


def test_running_statistics_and_what_is_served() -> None:
    large, odd = torch.randn(8, 16, 48, 48).to(memory_format=LAST), torch.randn(8, 16, 48, 47).to(memory_format=LAST)
    assert can_be_pooled(large, torch.zeros(16), None)
    assert not can_be_pooled(odd)
    assert not can_be_pooled(large[:, :, :8, :8])
    assert not can_be_pooled(large.double())
    ours, theirs = ([torch.full((16,), 0.5), torch.full((16,), 2.0)] for _ in range(2))
    y = pooled_batch_norm(large, ours[0], ours[1], None, None, 0.1, 1e-5, activation="relu", beta=math.inf)
    expected = F.max_pool2d(F.relu(F.batch_norm(large, theirs[0], theirs[1], training=True)), 2)
    assert_close("batch_norm_act", y, expected.double())
    for one, other in zip(ours, theirs, strict=True):
        assert_close("batch_norm_act", one, other.double())
