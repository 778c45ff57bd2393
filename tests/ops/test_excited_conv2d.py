"""A squeeze-excitation between a normalisation and a 1x1 convolution, against formulas in float64."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from simroot import ops
from simroot.ops.narrow import Norm
from simroot.ops.native import native
from tolerances import assert_close

LAST = torch.channels_last
EPS = 1e-5

# Images, channels, size, outputs: whole vectors and not, images of several chunks, of a few pixels.
SHAPES = [(8, 16, (12, 13), 24), (3, 13, (23, 31), 5), (2, 40, (17, 16), 160), (130, 130, (1, 1), 7)]


class Case:
    """Images, a normalisation, a gate's matrix, filters, and gradients of a loss by the result and its moments."""

    def __init__(self, shape: tuple[int, int, tuple[int, int], int], activation: str = "silu") -> None:
        images, c, size, outputs = shape
        generator = torch.Generator().manual_seed(c)

        def normal(*numbers: int) -> Tensor:
            return torch.randn(numbers, generator=generator)

        self.activation = activation
        self.tensors = [
            (normal(images, c, *size) + 1).to(memory_format=LAST),
            *(normal(c), normal(c).square() + 0.5, normal(c), normal(c)),
            normal(c, c) / c**0.5,
            normal(outputs, c, 1, 1) / c**0.5,
        ]
        rows = (images * size[0] * size[1]) ** 0.5
        grad = normal(images, outputs, *size).to(memory_format=LAST)
        self.grads = [grad, normal(outputs) * rows, normal(outputs) * rows]

    def learned(self, dtype: torch.dtype) -> list[Tensor]:
        return [tensor.to(dtype, copy=True).requires_grad_() for tensor in self.tensors]

    def slow(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        x, *norm, matrix, filters = tensors
        mean, var, weight, bias = (one[:, None, None] for one in norm)
        z = (x - mean) / (var + EPS) ** 0.5 * weight + bias
        a = z / (1 + torch.exp(-z)) if self.activation == "silu" else z * ((z + 3) / 6).clamp(0, 1)
        means = a.sum((2, 3)) / a[0, 0].numel()
        gate = 1 / (1 + torch.exp(-means @ matrix))
        y = torch.einsum("nchw,nc,dc->ndhw", a, gate, filters[:, :, 0, 0])
        mean = y.sum((0, 2, 3)) / y[:, 0].numel()
        return [y, mean, ((y - mean[:, None, None]) ** 2).sum((0, 2, 3)) / y[:, 0].numel()]

    def found(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        x, mean, var, weight, bias, matrix, filters = tensors

        def gate(means: Tensor) -> Tensor:
            return torch.sigmoid(means.flatten(1) @ matrix)[:, :, None, None]

        norm = Norm(mean, var, weight, bias, EPS, self.activation)
        y, moments = ops.excited_conv2d(x, filters, gate, norm=norm, moments=True)
        assert moments is not None
        return [y, *moments]


@pytest.fixture
def native_only(kernels: str) -> None:
    if not native():
        pytest.skip("about native kernels")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activation", ["silu", "hardswish"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_and_gradients(shape: Any, activation: str, dtype: torch.dtype) -> None:
    case = Case(shape, activation)
    ours, exact = case.learned(dtype), case.learned(torch.float64)
    results, expected = case.found(ours), case.slow(exact)
    assert ("gated_conv" in type(results[0].grad_fn).__name__) == (native() and dtype == torch.float32)
    for one, other in zip(results, expected, strict=True):
        assert_close("narrow_conv2d", one, other, scale=max(1.0, float(other.detach().abs().max())))
    found = torch.autograd.grad(results, ours, [grad.to(dtype) for grad in case.grads])
    others = torch.autograd.grad(expected, exact, [grad.double() for grad in case.grads])
    least = float(others[0].abs().max()) * (exact[0].numel() / exact[0].shape[1]) ** 0.5
    for one, other in zip(found, others, strict=True):
        assert_close("narrow_conv2d.gradient", one, other, scale=max(least, float(other.abs().max())))


def test_each_gradient_alone_and_of_each_result() -> None:
    case = Case(SHAPES[0])
    exact = case.learned(torch.float64)
    expected = case.slow(exact)
    for place in range(3):
        grad = case.grads[place]
        others = torch.autograd.grad(expected[place], exact, grad.double(), retain_graph=True)
        for wanted, other in enumerate(others):
            tensors = list(case.tensors)
            tensors[wanted] = tensors[wanted].clone().requires_grad_()
            (found,) = torch.autograd.grad(case.found(tensors)[place], tensors[wanted], grad)
            assert_close("narrow_conv2d.gradient", found, other, scale=max(1.0, float(other.abs().max())))


def test_second_derivatives() -> None:
    case = Case(SHAPES[0])

    def twice(function: Callable[[list[Tensor]], list[Tensor]], dtype: torch.dtype) -> tuple[Tensor, ...]:
        tensors = case.learned(dtype)
        grads = [grad.to(dtype) for grad in case.grads]
        first = torch.autograd.grad(function(tensors), tensors, grads, create_graph=True)
        return torch.autograd.grad(sum((one.square().sum() for one in first), torch.zeros(())), tensors)

    for one, other in zip(twice(case.found, torch.float32), twice(case.slow, torch.float64), strict=True):
        assert_close("narrow_conv2d.gradient", one, other)


@pytest.mark.without_kernels
def test_gradients_by_differences() -> None:
    case = Case((2, 3, (2, 2), 2))
    assert torch.autograd.gradcheck(lambda *tensors: tuple(case.found(tensors)), case.learned(torch.float64))


@pytest.mark.usefixtures("native_only")
def test_same_bits_at_any_number_of_threads(assert_same_bits: Callable[..., None]) -> None:
    case = Case(SHAPES[1])
    tensors = case.learned(torch.float32)

    def call() -> Any:
        results = case.found(tensors)
        return (*results, *torch.autograd.grad(results, tensors, case.grads))

    assert_same_bits(call)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.usefixtures("native_only")
def test_operators_are_well_registered() -> None:
    x, *norm, _, filters = Case((2, 8, (3, 4), 5)).learned(torch.float32)
    gate = torch.rand(2, 8, requires_grad=True)
    torch.library.opcheck(torch.ops.simroot.norm_pool.default, (x, *norm, EPS, "silu"))
    constants = [one.detach() for one in (x, *norm)]
    added = torch.zeros(()).expand(x.shape).requires_grad_()
    torch.library.opcheck(torch.ops.simroot.gated_conv.default, (added, *constants, EPS, "silu", gate, filters, True))
