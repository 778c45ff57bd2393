"""A root module in one operator against its formula in float64, and when it is called."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ops.test_batch_norm_act import LAST, slow
from simroot.ops.native import native
from simroot.ops.root_module import fits_kernel, root_module
from tolerances import assert_close


@pytest.fixture(autouse=True)
def native_only(kernels: str) -> None:
    if not native():
        pytest.skip("about native kernels")


class Case:
    """Images, filters, the normalisation's vectors, and a gradient."""

    def __init__(self, images: int, channels: int, outputs: int, height: int, width: int) -> None:
        generator = torch.Generator().manual_seed(channels)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        x = normal(images, channels, height, width) * (0.5 + normal(channels, 1, 1).abs()) + normal(channels, 1, 1)
        filters = [normal(channels, 1, 3, 3) / 3, normal(outputs, channels, 1, 1) / channels**0.5]
        self.tensors = [x.to(memory_format=LAST), *filters, normal(outputs), normal(outputs)]
        self.grad = normal(images, outputs, height, width).to(memory_format=LAST)
        self.adds = channels == outputs

    def learned(self, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        return [tensor.to(dtype, copy=True).requires_grad_() for tensor in self.tensors]

    def formula(self, tensors: list[Tensor], name: str) -> Tensor:
        """Every pixel's neighbours, one after the other, times their filters; mixed; normalised; activated; added."""
        x, spatial, embedding, weight, bias = tensors
        around, (height, width) = F.pad(x, (1, 1, 1, 1)), x.shape[2:]
        y = torch.zeros_like(x)
        for i in range(3):
            for j in range(3):
                y = y + around[:, :, i : i + height, j : j + width] * spatial[:, 0, i, j].view(-1, 1, 1)
        y = slow(torch.einsum("dc,nchw->ndhw", embedding[:, :, 0, 0], y), weight, bias, None, 1e-5, name)
        return x + y if self.adds else y

    def exact(self, name: str) -> tuple[Tensor, ...]:
        """The result and the gradients; where rounding decides on which side of a kink a value is, the gradient of the
        result is set to 0 for both sides.
        """
        tensors = self.learned(torch.float64)
        argument = self.formula(tensors, "none").detach() - (tensors[0].detach() if self.adds else 0)
        self.grad[argument.abs() < 1e-4] = 0
        y = self.formula(tensors, name)
        return (y.detach(), *torch.autograd.grad(y, tensors, self.grad.double()))

    def found(self, tensors: list[Tensor], name: str) -> Tensor:
        y = torch.ops.simroot.root_module(*tensors, 1e-5, name, self.adds)[0]
        assert isinstance(y, Tensor)
        return y


def given(case: Case) -> list[Tensor]:
    """The tensors with a mean and a variance, no batch's."""
    x, spatial, embedding, weight, bias = case.tensors
    return [x, spatial, embedding, 3 * bias.flip(0).abs(), weight.flip(0).square() + 0.1, weight, bias]


# Images, channels, outputs, height, width: rows of fewer floats than lanes, rows of no whole vectors, a single pixel,
# more images than pieces, more channels than vectors of a tile, long rows.
SHAPES = [
    (2, 3, 7, 4, 2),
    (3, 13, 13, 5, 3),
    (5, 4, 4, 1, 1),
    (70, 12, 20, 6, 8),
    (2, 70, 70, 4, 6),
    (1, 5, 33, 2, 300),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["none", "relu", "silu"])
def test_values_and_gradients(shape: tuple[int, int, int, int, int], name: str) -> None:
    case = Case(*shape)
    expected, *gradients = case.exact(name)
    tensors = case.learned()
    y = case.found(tensors, name)
    assert y.is_contiguous(memory_format=LAST)
    assert_close("batch_norm_act", y, expected, scale=max(1.0, float(expected.abs().max())))
    for one, other in zip(torch.autograd.grad(y, tensors, case.grad), gradients, strict=True):
        assert_close("batch_norm_act.gradient", one, other, scale=max(1.0, float(other.abs().max())))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["none", "relu", "silu"])
def test_values_by_statistics_that_are_given(shape: tuple[int, int, int, int, int], name: str) -> None:
    case = Case(*shape)
    x, spatial, embedding, *vectors = (tensor.double() for tensor in given(case))
    mean, var, weight, bias = (vector.view(-1, 1, 1) for vector in vectors)
    z = F.conv2d(F.conv2d(x, spatial, padding=1, groups=shape[1]), embedding)
    y = (z - mean) / (var + 1e-5).sqrt() * weight + bias
    y = y if name == "none" else getattr(F, name)(y)
    expected = x + y if case.adds else y
    y = torch.ops.simroot.root_module_evaluated(*given(case), 1e-5, name, case.adds)
    assert y.is_contiguous(memory_format=LAST)
    assert_close("batch_norm_act", y, expected, scale=max(1.0, float(expected.abs().max())))


@pytest.mark.parametrize("wanted", range(5))
def test_only_what_is_needed(wanted: int) -> None:
    case = Case(2, 9, 9, 6, 4)
    exact = case.exact("silu")[1 + wanted]
    tensors = list(case.tensors)
    tensors[wanted] = tensors[wanted].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(case.found(tensors, "silu"), tensors[wanted], case.grad)
    assert_close("batch_norm_act.gradient", gradient, exact, scale=max(1.0, float(exact.abs().max())))


def test_missing_values_do_not_reach_other_channels_filters() -> None:
    """Lanes behind a row's end hold other channels; what they sum is dropped."""
    case = Case(2, 12, 12, 6, 7)
    _, *kept = torch.ops.simroot.root_module(*case.tensors, 1e-5, "relu", True)
    case.tensors[0][0, 3, 1, 1] = torch.nan
    needed = [False, True, False, False, False]
    found = torch.ops.simroot.root_module_backward(case.grad, *case.tensors, *kept, 1e-5, "relu", True, needed)
    assert found[1].isnan().flatten(1).any(1).nonzero().flatten().tolist() == [3]


def test_second_derivatives() -> None:
    case = Case(2, 5, 5, 4, 3)
    case.exact("silu")

    def twice(function: Callable[[list[Tensor], str], Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
        tensors = case.learned(dtype)
        first = torch.autograd.grad(function(tensors, "silu"), tensors, case.grad.to(dtype), create_graph=True)
        return torch.autograd.grad(sum((one.square().sum() for one in first), torch.zeros(())), tensors)

    for one, other in zip(twice(case.found, torch.float32), twice(case.formula, torch.float64), strict=True):
        assert_close("batch_norm_act.gradient", one, other, scale=max(1.0, float(other.abs().max())))


def test_same_bits_at_any_number_of_threads(assert_same_bits: Callable[..., None]) -> None:
    case = Case(70, 12, 12, 16, 16)
    _, *kept = torch.ops.simroot.root_module(*case.tensors, 1e-5, "relu", True)
    assert_same_bits(lambda: torch.ops.simroot.root_module(*case.tensors, 1e-5, "relu", True))
    assert_same_bits(lambda: torch.ops.simroot.root_module_evaluated(*given(case), 1e-5, "relu", True))
    arguments = (case.grad, *case.tensors, *kept, 1e-5, "relu", True, [True] * 5)
    assert_same_bits(lambda: torch.ops.simroot.root_module_backward(*arguments))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_operators_are_well_registered() -> None:
    case = Case(2, 9, 9, 4, 6)
    _, *kept = torch.ops.simroot.root_module(*case.tensors, 1e-5, "silu", True)
    arguments = (case.grad, *case.tensors, *kept, 1e-5, "silu", True, [True, False, True, True, False])
    torch.library.opcheck(torch.ops.simroot.root_module.default, (*case.learned(), 1e-5, "silu", True))
    torch.library.opcheck(torch.ops.simroot.root_module_backward.default, arguments)
    torch.library.opcheck(torch.ops.simroot.root_module_evaluated.default, (*given(case), 1e-5, "silu", True))


def test_running_statistics_and_what_is_served() -> None:
    case = Case(8, 16, 24, 16, 16)
    x, spatial, embedding, weight, bias = case.tensors
    assert fits_kernel(x, spatial, embedding, weight, None)
    assert not fits_kernel(x[:, :, :1, :1], spatial, embedding, weight, None)
    assert not fits_kernel(x, spatial[:, :, 1:, 1:], embedding, weight, None)
    assert not fits_kernel(x, spatial, embedding[:, 1:], weight, None)
    assert not fits_kernel(x, spatial, embedding, weight[1:], None)
    assert not fits_kernel(x.double(), spatial.double(), embedding.double())
    (mean, var), (mean2, var2) = ((torch.full((24,), 0.5), torch.full((24,), 2.0)) for _ in range(2))
    y = root_module(x, spatial, embedding, mean, var, weight, bias, True, 0.1, 1e-5, activation="relu", adds=False)
    z = F.conv2d(F.conv2d(x, spatial, padding=1, groups=16), embedding)
    assert_close("batch_norm_act", y, F.relu(F.batch_norm(z, mean2, var2, weight, bias, training=True)).double())
    assert_close("batch_norm_act", mean, mean2.double())
    assert_close("batch_norm_act", var, var2.double())
