"""Grouped convolution against its formula in float64, and which calls meet which code."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from simroot import ops
from simroot.errors import ConfigError
from simroot.ops.grouped.operator import passes_of_kernel
from simroot.ops.native import native
from tolerances import assert_close

LAST = torch.channels_last
FORMATS = [torch.contiguous_format, LAST]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def exact(
    x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int, groups: int, grad: Tensor | None = None
) -> tuple[Tensor, ...]:
    """The convolution and, given the gradient of a loss by it, those by x, weight and bias: tap by tap, in float64."""
    (n, c, h, w), (d, _, kernel, _) = x.shape, weight.shape
    size = [(length + 2 * padding - kernel) // stride + 1 for length in (h, w)]
    padded = torch.zeros(n, groups, c // groups, h + 2 * padding, w + 2 * padding, dtype=torch.float64)
    padded[..., padding : padding + h, padding : padding + w] = x.view(n, groups, c // groups, h, w)
    filters = weight.double().view(groups, d // groups, c // groups, kernel, kernel)
    y = bias.double().view(groups, d // groups, 1, 1).expand(n, groups, d // groups, *size).clone()
    dpadded, dfilters = torch.zeros_like(padded), torch.zeros_like(filters)
    dy = torch.zeros_like(y) if grad is None else grad.double().view(y.shape)
    for a in range(kernel):
        for b in range(kernel):
            rows = slice(a, a + stride * (size[0] - 1) + 1, stride)
            columns = slice(b, b + stride * (size[1] - 1) + 1, stride)
            y += torch.einsum("ngchw,gdc->ngdhw", padded[..., rows, columns], filters[..., a, b])
            dpadded[..., rows, columns] += torch.einsum("ngdhw,gdc->ngchw", dy, filters[..., a, b])
            dfilters[..., a, b] = torch.einsum("ngdhw,ngchw->gdc", dy, padded[..., rows, columns])
    dx = dpadded[..., padding : padding + h, padding : padding + w].reshape(x.shape)
    return y.view(n, d, *size), dx, dfilters.view(weight.shape), dy.sum((0, 3, 4)).flatten()


class Case:
    """Images of one shape, filters, bias and the gradient of a loss by the convolution."""

    def __init__(
        self,
        images: int,
        groups: int,
        channels: int,
        filters: int,
        size: tuple[int, int],
        kernel: int,
        stride: int,
        padding: int,
    ) -> None:
        self.x = normal(images, groups * channels, *size)
        self.weight = normal(groups * filters, channels, kernel, kernel, seed=1)
        self.bias = normal(groups * filters, seed=2)
        self.settings = stride, padding, groups
        shape = [(length + 2 * padding - kernel) // stride + 1 for length in size]
        self.grad = normal(images, groups * filters, *shape, seed=3)

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.x, self.weight, self.bias

    def exact(self) -> tuple[Tensor, ...]:
        return exact(*self.tensors, *self.settings, self.grad)

    def convolved(self, tensors: Sequence[Tensor]) -> Tensor:
        x, weight, bias = tensors
        return ops.grouped_conv2d(x, weight, bias, *self.settings)

    def learned(self, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        return [tensor.to(dtype, copy=True).requires_grad_() for tensor in self.tensors]


# Images, groups, channels and filters of a group, size, kernel, stride, padding.
SHAPES: list[Any] = [
    (2, 8, 6, 12, (16, 16), 5, 1, 2),
    (3, 5, 6, 6, (8, 8), 3, 1, 1),
    (1, 4, 4, 4, (56, 56), 3, 1, 1),
    (2, 3, 5, 7, (7, 7), 3, 1, 1),
    (2, 2, 12, 12, (9, 33), 3, 1, 0),
    (20, 2, 2, 3, (5, 6), 3, 1, 1),
    (2, 4, 4, 4, (28, 27), 3, 2, 1),
    (2, 3, 3, 5, (7, 8), 5, 2, 2),
    (2, 2, 4, 2, (9, 9), 3, 2, 0),
    (3, 1, 3, 9, (6, 13), 5, 1, 0),
    (2, 6, 1, 1, (8, 9), 3, 1, 1),
    (2, 2, 2, 2, (3, 3), 3, 1, 0),
    (2, 2, 2, 2, (1, 2), 3, 1, 1),
    (2, 2, 3, 2, (70, 6), 7, 1, 3),
    (0, 2, 4, 4, (8, 8), 3, 1, 1),
]


@pytest.fixture
def native_only(kernels: str) -> None:
    if not native():
        pytest.skip("about native kernels")


@pytest.mark.usefixtures("native_only")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("memory_format", FORMATS)
def test_kernels(shape: Any, memory_format: torch.memory_format) -> None:
    case = Case(*shape)
    stride, padding, groups = case.settings
    x, weight, grad = (t.contiguous(memory_format=memory_format) for t in (case.x, case.weight, case.grad))
    y, dx, dweight, dbias = case.exact()
    assert_close("grouped_conv2d", torch.ops.simroot.grouped_conv(x, weight, case.bias, *case.settings), y)
    without = torch.ops.simroot.grouped_conv(x, weight, None, *case.settings)
    assert_close("grouped_conv2d", without, y - case.bias.double().view(-1, 1, 1))
    found = torch.ops.simroot.grouped_conv_filters(grad, x, weight, *case.settings)
    assert_close("grouped_conv2d.gradient", found[0], dweight)
    assert_close("grouped_conv2d.gradient", found[1], dbias)
    if stride == 1:
        found = torch.ops.simroot.grouped_conv_input(grad, x, weight, padding, groups)
        assert_close("grouped_conv2d.gradient", found, dx)


# What the rule sends to kernels, in all passes and in some, and what it leaves to PyTorch.
SERVED = [(2, 4, 4, 4, (28, 30), 3, 1, 1), (2, 4, 6, 4, (7, 9), 5, 1, 2), (2, 2, 4, 2, (29, 28), 3, 2, 1)]
LEFT = [(2, 4, 1, 2, (9, 9), 3, 1, 1), (2, 1, 4, 4, (9, 9), 3, 1, 1), (2, 2, 4, 4, (9, 9), 1, 1, 0)]


@pytest.mark.parametrize("shape", SERVED + LEFT)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("memory_format", FORMATS)
def test_function(shape: Any, dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    case = Case(*shape)
    x, weight, bias = tensors = case.learned(dtype)
    y = ops.grouped_conv2d(x.contiguous(memory_format=memory_format), weight, bias, *case.settings)
    kernel = native() and dtype == torch.float32 and shape in SERVED
    assert ("simroot" in type(y.grad_fn).__name__) == kernel
    for found, expected in zip((y, *torch.autograd.grad(y, tensors, case.grad.to(dtype))), case.exact(), strict=True):
        assert_close("grouped_conv2d.gradient", found, expected)
    assert y.is_contiguous(memory_format=memory_format)


def test_only_what_is_needed() -> None:
    case = Case(*SERVED[0])
    _, dx, dweight, dbias = case.exact()
    for wanted, expected in enumerate((dx, dweight, dbias)):
        tensors = list(case.tensors)
        tensors[wanted] = tensors[wanted].clone().requires_grad_()
        (found,) = torch.autograd.grad(case.convolved(tensors), tensors[wanted], case.grad)
        assert_close("grouped_conv2d.gradient", found, expected)


@pytest.mark.parametrize(
    ("shape", "passes"),
    [
        ((12, 24, 5, 16, 1), (False, False, False)),
        ((6, 12, 5, 16, 1), (True, True, False)),
        ((12, 12, 3, 8, 1), (True, True, False)),
        ((4, 4, 3, 56, 1), (True, True, True)),
        ((8, 8, 3, 28, 1), (True, False, False)),
        ((8, 8, 3, 14, 1), (False, False, False)),
        ((16, 16, 3, 56, 1), (False, False, False)),
        ((1, 1, 3, 56, 1), (False, False, False)),
        ((4, 4, 3, 56, 2), (True, False, True)),
        ((8, 8, 3, 56, 2), (False, False, False)),
        ((4, 4, 1, 56, 1), (False, False, False)),
    ],
)
def test_rule(shape: tuple[int, int, int, int, int], passes: tuple[bool, bool, bool]) -> None:
    assert passes_of_kernel(*shape) == passes


def test_views() -> None:
    case = Case(*SERVED[0])
    x, weight, bias = case.tensors
    expected = ops.grouped_conv2d(x, weight, bias, *case.settings)
    wide = torch.cat((x, x), 1).contiguous(memory_format=LAST)
    for view in (x.repeat_interleave(2, 0)[::2], torch.cat((x, x), 3)[..., : x.shape[3]], wide[:, : x.shape[1]]):
        assert not view.is_contiguous()
        assert_close("grouped_conv2d", ops.grouped_conv2d(view, weight, bias, *case.settings), expected)
    strided = torch.stack((weight, weight), -1)[..., 0]
    learned = strided.clone().requires_grad_()
    y = ops.grouped_conv2d(x, strided, bias, *case.settings)
    assert_close("grouped_conv2d", y, expected)
    (found,) = torch.autograd.grad(ops.grouped_conv2d(x, learned, bias, *case.settings).sum(), learned)
    assert_close("grouped_conv2d.gradient", found, exact(x, weight, bias, *case.settings, torch.ones_like(y))[2])


@pytest.mark.parametrize("memory_format", FORMATS)
def test_infinite_and_missing_values_reach_their_neighbours_alone(memory_format: torch.memory_format) -> None:
    case = Case(*SERVED[0])
    x, weight, bias = case.tensors
    x[0, 0, 5, 29], x[0, 5, 27, 3], x[1, 15, 0, 0] = torch.nan, torch.inf, -torch.inf
    y = ops.grouped_conv2d(x.contiguous(memory_format=memory_format), weight, bias, *case.settings)
    expected = F.conv2d(x.double(), weight.double(), bias.double(), case.settings[0], case.settings[1], 1, 4)
    finite = expected.isfinite()
    assert 0 < (~finite).sum() <= 3 * 9 * 4
    assert torch.equal(y.isnan(), expected.isnan())
    assert torch.equal(y[expected.isinf()].double(), expected[expected.isinf()])
    assert_close("grouped_conv2d", y[finite], expected[finite])


def calls() -> list[tuple[Any, tuple[Any, ...]]]:
    case, strided = Case(*SERVED[0]), Case(*SERVED[2])
    many = Case(30, 5, 6, 6, (16, 17), 3, 1, 1)
    tensors = case.x.contiguous(memory_format=LAST), case.weight.contiguous(memory_format=LAST)
    library = torch.ops.simroot
    return [
        (library.grouped_conv, (*case.tensors, *case.settings)),
        (library.grouped_conv, (*tensors, None, *case.settings)),
        (library.grouped_conv, (*strided.tensors, *strided.settings)),
        (library.grouped_conv_input, (case.grad, *tensors, *case.settings[1:])),
        (library.grouped_conv_filters, (case.grad, *tensors, *case.settings)),
        (library.grouped_conv_filters, (strided.grad, strided.x, strided.weight, *strided.settings)),
        (library.grouped_conv_filters, (many.grad, many.x, many.weight, *many.settings)),
    ]


@pytest.mark.usefixtures("native_only")
@pytest.mark.parametrize("number", range(len(calls())))
def test_same_bits_at_any_number_of_threads(number: int, assert_same_bits: Callable[..., None]) -> None:
    function, arguments = calls()[number]
    assert_same_bits(lambda: function(*arguments))


@pytest.mark.slow
@pytest.mark.usefixtures("native_only")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("number", range(len(calls()) - 1))
def test_operators_are_well_registered(number: int) -> None:
    function, arguments = calls()[number]
    if function is torch.ops.simroot.grouped_conv:
        arguments = tuple(t.clone().requires_grad_() if isinstance(t, Tensor) else t for t in arguments)
    torch.library.opcheck(function.default, arguments)


@pytest.mark.parametrize("shape", SERVED)
def test_second_derivatives(shape: Any) -> None:
    case = Case(*shape)

    def twice(function: Callable[..., Tensor], *settings: int) -> tuple[Tensor, ...]:
        tensors = case.learned()
        first = torch.autograd.grad(function(*tensors, *settings).square().sum(), tensors, create_graph=True)
        return torch.autograd.grad(sum((one.square().sum() for one in first), torch.zeros(())), tensors)

    stride, padding, groups = case.settings
    expected = twice(F.conv2d, stride, padding, 1, groups)
    for found, one in zip(twice(ops.grouped_conv2d, stride, padding, groups), expected, strict=True):
        assert_close("grouped_conv2d.gradient", found, one.double())


@pytest.mark.without_kernels
def test_double_precision_by_differences() -> None:
    case = Case(1, 2, 2, 3, (4, 5), 3, 1, 1)
    assert torch.autograd.gradcheck(lambda *t: case.convolved(t), case.learned(torch.float64))


@pytest.mark.slow
@pytest.mark.parametrize("memory_format", FORMATS)
def test_compiled(memory_format: torch.memory_format) -> None:
    case = Case(*SERVED[0])

    def function(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return ops.grouped_conv2d(x.relu(), weight, bias, *case.settings) * 2

    tensors = [t.to(memory_format=memory_format).requires_grad_() if t.ndim == 4 else t for t in case.learned()]
    tensors = [t.detach().requires_grad_() for t in tensors]
    expected = function(*tensors)
    y = torch.compile(function, backend="aot_eager", fullgraph=True)(*tensors)
    assert_close("grouped_conv2d", y, expected.double())
    for one, other in zip(*(torch.autograd.grad(out.sum(), tensors) for out in (y, expected)), strict=True):
        assert_close("grouped_conv2d.gradient", one, other.double())


class Layer(torch.nn.Module):
    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return ops.grouped_conv2d(x, weight, None, 1, 1, 4)


@pytest.mark.without_kernels
def test_exported_graphs_hold_pytorchs_convolution() -> None:
    case = Case(*SERVED[0])
    program = torch.export.export(Layer(), (case.x, case.weight))
    names = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert names == ["aten.conv2d.default"]


def test_others_see_pytorchs_convolution() -> None:
    class Calls(TorchFunctionMode):
        seen: list[Any] = []  # noqa: RUF012

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.seen.append(func)
            return func(*args, **(kwargs or {}))

    case = Case(*SERVED[0])
    with Calls() as mode:
        ops.grouped_conv2d(*case.tensors, *case.settings)
    assert torch.conv2d in mode.seen
    with torch.autocast("cpu", torch.bfloat16):
        y = ops.grouped_conv2d(*case.tensors, *case.settings)
        assert y.dtype == torch.bfloat16
        assert torch.equal(y, F.conv2d(*case.tensors, case.settings[0], case.settings[1], 1, case.settings[2]))


def test_gradients_inside_autocast_of_a_result_outside() -> None:
    case = Case(*SERVED[0])
    tensors = case.learned()
    y = case.convolved(tensors)
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.autograd.grad(y, tensors, case.grad)
    for one, expected in zip(found, case.exact()[1:], strict=True):
        assert_close("grouped_conv2d.gradient", one, expected)


def test_wrong_arguments() -> None:
    x, weight = normal(1, 8, 6, 6), normal(8, 4, 3, 3)
    with pytest.raises(ConfigError, match="stride is 0, expected an int or a pair of ints >= 1"):
        ops.grouped_conv2d(x, weight, stride=0, groups=2)
    for wrong in ((x, weight, None, 1, 1, 4), (x, weight, normal(7), 1, 1, 2), (x[..., :2], weight, None, 1, 0, 2)):
        with pytest.raises(RuntimeError):
            ops.grouped_conv2d(*wrong)
    assert ops.grouped_conv2d(x[0], weight, None, 1, 1, 2).shape == (8, 6, 6)
