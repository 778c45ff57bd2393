"""Depthwise and pointwise convolutions behind a normalisation, and their moments, against formulas in float64."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from simroot import ops
from simroot.ops.narrow import Norm, fits_kernel
from simroot.ops.native import native
from tolerances import assert_close

LAST = torch.channels_last


class Shape(NamedTuple):
    """Of images, and of a convolution."""

    images: int
    channels: int
    size: tuple[int, int]
    outputs: int
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    groups: int = 1


def depthwise(images: int, channels: int, size: tuple[int, int], kernel: int, stride: int, padding: int) -> Shape:
    return Shape(images, channels, size, channels, kernel, stride, padding, channels)


# Channels in whole vectors and not, one channel, more than one panel of outputs, one image, one position.
POINTWISE = [
    Shape(2, 8, (5, 6), 16),
    Shape(3, 13, (9, 7), 37),
    Shape(1, 1, (3, 3), 1),
    Shape(70, 20, (1, 1), 5),
    Shape(2, 40, (17, 16), 160),
    Shape(3, 12, (7, 5), 24, groups=4),
]
DEPTHWISE = [
    depthwise(2, 8, (8, 9), 3, 1, 1),
    depthwise(3, 13, (7, 12), 3, 2, 1),
    depthwise(1, 20, (33, 31), 5, 1, 2),
    depthwise(2, 9, (9, 8), 5, 2, 2),
    depthwise(2, 17, (10, 9), 7, 1, 3),
    depthwise(2, 3, (11, 11), 7, 2, 3),
    depthwise(2, 2, (5, 4), 3, 1, 0),
    depthwise(2, 4, (4, 3), 3, 2, 2),
    depthwise(1, 8, (1, 1), 5, 1, 2),
]
ACTIVATIONS = ["none", "hardswish", "silu"]  # smooth but for two kinks that no test meets


class Case:
    """Images, a normalisation, filters, and gradients of a loss by the result and its moments."""

    def __init__(self, shape: Shape, activation: str = "silu") -> None:
        generator = torch.Generator().manual_seed(shape.channels)

        def normal(*size: int) -> Tensor:
            return torch.randn(size, generator=generator)

        self.shape, self.activation, c = shape, activation, shape.channels
        self.x = (normal(shape.images, c, *shape.size) + 1).to(memory_format=LAST)
        self.norm = [normal(c), normal(c).square() + 0.5, normal(c), normal(c)]
        self.filters = normal(shape.outputs, c // shape.groups, shape.kernel, shape.kernel)
        size = [(side + 2 * shape.padding - shape.kernel) // shape.stride + 1 for side in shape.size]
        self.grad = normal(shape.images, shape.outputs, *size).to(memory_format=LAST)
        rows = (self.grad.numel() / shape.outputs) ** 0.5
        self.grads = [self.grad, normal(shape.outputs) * rows, normal(shape.outputs) * rows]

    @property
    def settings(self) -> tuple[int, int, int]:
        return self.shape.stride, self.shape.padding, self.shape.groups

    def tensors(self, *, normed: bool) -> list[Tensor]:
        return [self.x, *(self.norm if normed else ()), self.filters]

    def learned(self, dtype: torch.dtype, *, normed: bool) -> list[Tensor]:
        return [tensor.to(dtype, copy=True).requires_grad_() for tensor in self.tensors(normed=normed)]

    def slow(self, tensors: list[Tensor]) -> list[Tensor]:
        """Tap by tap: the result and its moments."""
        x, *norm, filters = tensors
        if norm:
            mean, var, weight, bias = (one[:, None, None] for one in norm)
            z = (x - mean) / (var + 1e-5) ** 0.5 * weight + bias
            gates = {"none": torch.ones(()), "silu": 1 / (1 + torch.exp(-z)), "hardswish": ((z + 3) / 6).clamp(0, 1)}
            x = z * gates[self.activation]
        shape = self.shape
        padded = x.new_zeros(*x.shape[:2], *(side + 2 * shape.padding for side in shape.size))
        padded[:, :, shape.padding : shape.padding + x.shape[2], shape.padding : shape.padding + x.shape[3]] = x
        y = torch.zeros(self.grad.shape, dtype=x.dtype)
        blocks = filters.view(shape.groups, shape.outputs // shape.groups, -1, shape.kernel, shape.kernel)
        for a in range(shape.kernel):
            for b in range(shape.kernel):
                rows = slice(a, a + shape.stride * (y.shape[2] - 1) + 1, shape.stride)
                columns = slice(b, b + shape.stride * (y.shape[3] - 1) + 1, shape.stride)
                seen = padded[:, :, rows, columns].unflatten(1, (shape.groups, -1))
                y = y + torch.einsum("ngchw,gdc->ngdhw", seen, blocks[..., a, b]).flatten(1, 2)
        mean = y.sum((0, 2, 3)) / y[:, 0].numel()
        var = ((y - mean[:, None, None]) ** 2).sum((0, 2, 3)) / y[:, 0].numel()
        return [y, mean, var]

    def found(self, tensors: list[Tensor]) -> list[Tensor]:
        """By the operator itself, whatever the size."""
        x, *norm, filters = tensors
        given: list[Any] = norm or [None] * 4
        activation = self.activation if norm else "none"
        return list(torch.ops.simroot.narrow_conv(x, *given, 1e-5, activation, filters, *self.settings, True))


def silu_behind(vectors: list[Tensor]) -> Norm:
    mean, var, weight, bias = vectors
    return Norm(mean, var, weight, bias, 1e-5, "silu")


@pytest.fixture
def native_only(kernels: str) -> None:
    if not native():
        pytest.skip("about native kernels")


@pytest.mark.usefixtures("native_only")
@pytest.mark.parametrize("shape", POINTWISE + DEPTHWISE)
@pytest.mark.parametrize("activation", [*ACTIVATIONS, None])
def test_kernels(shape: Shape, activation: str | None) -> None:
    normed = activation is not None
    case = Case(shape, activation or "none")
    ours, exact = case.learned(torch.float32, normed=normed), case.learned(torch.float64, normed=normed)
    results, expected = case.found(ours), case.slow(exact)
    for one, other in zip(results, expected, strict=True):
        assert_close("narrow_conv2d", one, other, scale=max(1.0, float(other.detach().abs().max())))
    found = torch.autograd.grad(results, ours, case.grads)
    others = torch.autograd.grad(expected, exact, [grad.double() for grad in case.grads])
    # Sums over rows may be small differences: what is added has the size of the gradient of x.
    least = float(others[0].abs().max()) * (case.x.numel() / case.shape.channels) ** 0.5
    for one, other in zip(found, others, strict=True):
        assert_close("narrow_conv2d.gradient", one, other, scale=max(least, float(other.abs().max())))


@pytest.mark.usefixtures("native_only")
@pytest.mark.parametrize("shape", [POINTWISE[1], POINTWISE[5], DEPTHWISE[1]])
def test_only_what_is_needed_and_only_some_results(shape: Shape) -> None:
    case = Case(shape)
    exact = case.learned(torch.float64, normed=True)
    expected = case.slow(exact)
    for results in ([0], [1], [2], [0, 2]):
        grads = [case.grads[place].double() for place in results]
        others = torch.autograd.grad([expected[place] for place in results], exact, grads, retain_graph=True)
        for wanted, other in enumerate(others):
            tensors = case.tensors(normed=True)
            tensors[wanted] = tensors[wanted].clone().requires_grad_()
            outcome = case.found(tensors)
            (found,) = torch.autograd.grad(
                [outcome[place] for place in results], tensors[wanted], [case.grads[place] for place in results]
            )
            assert_close("narrow_conv2d.gradient", found, other, scale=max(1.0, float(other.detach().abs().max())))


SERVED = [
    Shape(8, 16, (16, 17), 24),
    depthwise(8, 12, (16, 17), 5, 2, 2),
    Shape(8, 12, (16, 17), 24, groups=4),
]
LEFT = [
    Shape(8, 16, (16, 17), 24, stride=2),
    Shape(8, 16, (16, 17), 16, 3, 1, 1),
    Shape(1, 16, (5, 5), 8),
    Shape(2, 300, (8, 8), 8),
    Shape(8, 8, (16, 17), 16, 3, 1, 1, 8),
]


@pytest.mark.parametrize("shape", SERVED + LEFT)
@pytest.mark.parametrize("moments", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_function(shape: Shape, moments: bool, dtype: torch.dtype) -> None:
    case = Case(shape)
    tensors, exact = case.learned(dtype, normed=True), case.learned(torch.float64, normed=True)
    x, *norm, filters = tensors
    y, found = ops.narrow_conv2d(x, filters, *case.settings, norm=silu_behind(norm), moments=moments)
    assert ("simroot" in type(y.grad_fn).__name__) == (native() and dtype == torch.float32 and shape in SERVED)
    results = [y, *found] if found is not None else [y]
    assert len(results) == (3 if moments else 1)
    expected = case.slow(exact)[: len(results)]
    for one, other in zip(results, expected, strict=True):
        assert_close("narrow_conv2d", one, other, scale=max(1.0, float(other.detach().abs().max())))
    grads = case.grads[: len(results)]
    ours = torch.autograd.grad(results, tensors, [grad.to(dtype) for grad in grads])
    for one, other in zip(ours, torch.autograd.grad(expected, exact, [g.double() for g in grads]), strict=True):
        assert_close("narrow_conv2d.gradient", one, other, scale=max(1.0, float(other.detach().abs().max())))


def test_what_fits() -> None:
    x = torch.zeros(8, 16, 16, 17).to(memory_format=LAST)
    assert fits_kernel(x, torch.zeros(8, 16, 1, 1), 1, 0, 1) == native()
    assert not fits_kernel(x.contiguous(), torch.zeros(8, 16, 1, 1), 1, 0, 1)
    assert not fits_kernel(x, torch.zeros(8, 8, 1, 1), 1, 0, 1)
    assert not fits_kernel(x, torch.zeros(16, 1, 3, 3), 1, 3, 16)
    assert not fits_kernel(x, torch.zeros(16, 1, 3, 3), 3, 1, 16)
    assert not fits_kernel(x, torch.zeros(16, 1, 3, 5), 1, 1, 16)
    assert not fits_kernel(x.double(), torch.zeros(8, 16, 1, 1).double(), 1, 0, 1)


@pytest.mark.parametrize("shape", [Shape(3, 40, (12, 12), 8), depthwise(3, 40, (12, 12), 3, 1, 1)])
def test_second_derivatives(shape: Shape) -> None:
    case = Case(shape)

    def twice(function: Callable[[list[Tensor]], list[Tensor]], dtype: torch.dtype) -> tuple[Tensor, ...]:
        tensors = case.learned(dtype, normed=True)
        grads = [grad.to(dtype) for grad in case.grads]
        first = torch.autograd.grad(function(tensors), tensors, grads, create_graph=True)
        return torch.autograd.grad(sum((one.square().sum() for one in first), torch.zeros(())), tensors)

    def found(tensors: list[Tensor]) -> list[Tensor]:
        x, *norm, filters = tensors
        y, moments = ops.narrow_conv2d(x, filters, *case.settings, norm=silu_behind(norm), moments=True)
        assert moments is not None
        return [y, *moments]

    for one, other in zip(twice(found, torch.float32), twice(case.slow, torch.float64), strict=True):
        assert_close("narrow_conv2d.gradient", one, other)


@pytest.mark.usefixtures("native_only")
@pytest.mark.parametrize("shape", [Shape(9, 13, (20, 21), 30), depthwise(5, 20, (19, 18), 5, 1, 2)])
def test_same_bits_at_any_number_of_threads(shape: Shape, assert_same_bits: Callable[..., None]) -> None:
    case = Case(shape)
    tensors = case.learned(torch.float32, normed=True)

    def call() -> Any:
        results = case.found(tensors)
        return (*results, *torch.autograd.grad(results, tensors, case.grads))

    assert_same_bits(call)


@pytest.mark.usefixtures("native_only")
def test_empty_batches_and_missing_values() -> None:
    case = Case(Shape(0, 8, (4, 4), 8))
    tensors = case.learned(torch.float32, normed=True)
    y, *_ = case.found(tensors)
    assert y.shape == (0, 8, 4, 4)
    assert all(not found.any() for found in torch.autograd.grad(y.sum(), tensors))
    case = Case(depthwise(2, 9, (8, 8), 3, 1, 1))
    case.x[1, 4, 5, 5] = torch.nan
    y = case.found(case.tensors(normed=True))[0]
    assert y.isnan().sum() == 9
    assert y[1, 4, 4:7, 4:7].isnan().all()


@pytest.mark.usefixtures("native_only")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("shape", [POINTWISE[0], DEPTHWISE[0]])
def test_operators_are_well_registered(shape: Shape) -> None:
    case = Case(shape)
    x, *norm, filters = case.learned(torch.float32, normed=True)
    arguments = (x, *norm, 1e-5, "silu", filters, *case.settings, True)
    torch.library.opcheck(torch.ops.simroot.narrow_conv.default, arguments)


@pytest.mark.without_kernels
def test_double_precision_by_differences() -> None:
    case = Case(depthwise(1, 2, (4, 4), 3, 1, 1))

    def function(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        *norm, filters = rest
        y, moments = ops.narrow_conv2d(x, filters, *case.settings, norm=silu_behind(norm), moments=True)
        assert moments is not None
        return (y, *moments)

    assert torch.autograd.gradcheck(function, case.learned(torch.float64, normed=True))


@pytest.mark.slow
def test_compiled() -> None:
    case = Case(SERVED[0])
    tensors = case.learned(torch.float32, normed=True)

    def function(x: Tensor, *rest: Tensor) -> Tensor:
        *norm, filters = rest
        y, moments = ops.narrow_conv2d(x, filters, *case.settings, norm=silu_behind(norm), moments=True)
        assert moments is not None
        return y * moments.var[:, None, None]

    y = torch.compile(function, backend="aot_eager", fullgraph=True)(*tensors)
    expected = function(*tensors)
    assert_close("narrow_conv2d", y, expected.double())
    for one, other in zip(*(torch.autograd.grad(out, tensors, case.grad) for out in (y, expected)), strict=True):
        assert_close("narrow_conv2d.gradient", one, other.double())
