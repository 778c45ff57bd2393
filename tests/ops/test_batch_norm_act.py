"""Batch normalisation with an activation against its formula in float64, and which calls meet which code."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from simroot import ops
from simroot.errors import ConfigError
from simroot.ops.native import native
from simroot.ops.norm import ACTIVATIONS
from tolerances import assert_close

LAST = torch.channels_last
NAMES = list(ACTIVATIONS)


@pytest.fixture(autouse=True)
def few_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels serve smaller images than where they are worth it, so that the tests are fast."""
    monkeypatch.setattr("simroot.ops.norm._SMALLEST", 2**14)


def slow_activation(z: Tensor, name: str) -> Tensor:
    """By its definition, in pieces."""
    if name == "relu":
        return torch.where(z > 0, z, 0.0)
    if name == "relu6":
        return torch.where(z > 0, torch.where(z < 6, z, 6.0), 0.0)
    if name == "hardswish":
        return torch.where(z > -3, torch.where(z < 3, z * (z + 3) / 6, z), 0.0)
    return z / (1 + torch.exp(-z)) if name == "silu" else z


def slow(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, eps: float, name: str) -> Tensor:
    """By rows, with differences from the mean, in the precision of x."""
    rows = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    mean = rows.sum(0) / len(rows)
    var = ((rows - mean) ** 2).sum(0) / len(rows)
    z = (rows - mean) * weight / (var + eps) ** 0.5 + bias
    z = z.view(x.shape[0], *x.shape[2:], x.shape[1]).permute(0, 3, 1, 2)
    return slow_activation(z if residual is None else z + residual, name)


class Case:
    """Images of one shape, and what belongs to them."""

    def __init__(self, images: int, channels: int, height: int, width: int, *, adds: bool = False) -> None:
        generator = torch.Generator().manual_seed(channels)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        shape = images, channels, height, width
        # Means of some deviations, and deviations that differ.
        self.x = (normal(*shape) * (0.5 + normal(channels, 1, 1).abs()) + 3 * normal(channels, 1, 1)).to(
            memory_format=LAST
        )
        self.weight, self.bias = normal(channels), normal(channels)
        self.residual = normal(*shape).to(memory_format=LAST) if adds else None
        self.grad = normal(*shape).to(memory_format=LAST)

    @property
    def tensors(self) -> list[Tensor]:
        all_of_them = (self.x, self.weight, self.bias, self.residual)
        return [tensor for tensor in all_of_them if tensor is not None]

    def learned(self, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        return [tensor.detach().to(dtype, copy=True).requires_grad_() for tensor in self.tensors]

    def exact(self, name: str, eps: float = 1e-5) -> tuple[Tensor, ...]:
        """The result, and the gradients."""
        tensors = self.learned(torch.float64)
        x, weight, bias, *rest = tensors
        y = slow(x, weight, bias, rest[0] if rest else None, eps, name)
        return (y.detach(), *torch.autograd.grad(y, tensors, self.grad.double()))

    def found(self, tensors: list[Tensor], name: str, eps: float = 1e-5) -> Tensor:
        x, weight, bias, *rest = tensors
        residual = rest[0] if rest else None
        return ops.batch_norm_act(x, None, None, weight, bias, True, eps=eps, activation=name, residual=residual)


def apart(case: Case, name: str) -> Case:
    """The case without values so near to a kink that rounding decides on which side they are."""
    x, weight, bias, *rest = (tensor.double() for tensor in case.tensors)
    y = slow(x, weight, bias, rest[0] if rest else None, 1e-5, "none")
    kinks = torch.tensor({"relu": [0.0], "relu6": [0.0, 6.0], "hardswish": [-3.0, 3.0]}.get(name, []))
    for kink in kinks:
        case.grad[(y - kink).abs() < 1e-4] = 0
    return case


# Images, channels, height, width: fewer channels than lanes, no whole vectors, several chunks, one image, one position.
SHAPES = [(2, 8, 40, 41), (1, 1, 150, 151), (3, 13, 37, 31), (130, 160, 1, 1), (2, 12, 33, 64), (7, 300, 4, 3)]


@pytest.fixture
def native_only(kernels: str) -> None:
    if not native():
        pytest.skip("about native kernels")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients(shape: tuple[int, int, int, int], adds: bool, name: str) -> None:
    case = apart(Case(*shape, adds=adds), name)
    tensors = case.learned()
    y = case.found(tensors, name)
    assert y.is_contiguous(memory_format=LAST)
    served = native() and case.x.numel() >= 2**14
    assert ("simroot" in type(y.grad_fn).__name__) == served
    expected, *gradients = case.exact(name)
    assert_close("batch_norm_act", y, expected)
    for one, other in zip(torch.autograd.grad(y, tensors, case.grad), gradients, strict=True):
        assert_close("batch_norm_act.gradient", one, other)


@pytest.mark.usefixtures("native_only")
@pytest.mark.parametrize("shape", [(0, 5, 3, 3), (1, 5, 1, 2), (1, 17, 3, 1), (2, 3, 5, 7)])
def test_small_shapes_by_the_operator_itself(shape: tuple[int, int, int, int]) -> None:
    case = apart(Case(*shape, adds=True), "relu")
    y, mean, var = torch.ops.simroot.batch_norm_act(*case.tensors, 1e-5, "relu")
    if not case.x.numel():
        assert y.shape == case.x.shape
        return
    expected, *gradients = case.exact("relu")
    assert_close("batch_norm_act", y, expected)
    needed = [True] * 4
    found = torch.ops.simroot.batch_norm_act_backward(case.grad, *case.tensors, mean, var, 1e-5, "relu", needed)
    for one, other in zip(found, gradients, strict=True):
        assert_close("batch_norm_act.gradient", one, other, scale=max(1.0, float(other.detach().abs().max())))


@pytest.mark.usefixtures("native_only")
def test_means_far_from_zero_and_constant_channels() -> None:
    case = Case(4, 8, 32, 32)
    case.x[:, 1] = 1e4 + case.x[:, 1]
    case.x[:, 2] = 7.5
    case.x[0, 3] = 1e3  # one image unlike the others: a shift by the first rows would lose digits
    expected = case.exact("none")[0]
    y = case.found(case.tensors, "none")
    scale = expected.abs().amax((0, 2, 3)).clamp(min=1e-3)
    scale[1] *= 400  # x itself has only so many digits there
    error = ((y - expected).abs().amax((0, 2, 3)) / scale).max()
    assert error < 5e-6


def test_running_statistics_as_pytorch_keeps_them() -> None:
    case = Case(4, 12, 20, 21)
    for momentum in (0.1, 0.6):
        ours, theirs = ([torch.full((12,), 0.5), torch.full((12,), 2.0)] for _ in range(2))
        ops.batch_norm_act(case.x, ours[0], ours[1], None, None, True, momentum)
        F.batch_norm(case.x, theirs[0], theirs[1], None, None, True, momentum)
        for one, other in zip(ours, theirs, strict=True):
            assert_close("batch_norm_act", one, other.double())


def test_evaluation_is_pytorchs() -> None:
    case = Case(4, 12, 20, 21, adds=True)
    assert case.residual is not None
    mean, var = torch.randn(12), torch.rand(12) + 0.5
    before = mean.clone(), var.clone()
    y = ops.batch_norm_act(case.x, mean, var, case.weight, case.bias, activation="relu", residual=case.residual)
    assert torch.equal(y, torch.relu(F.batch_norm(case.x, mean, var, case.weight, case.bias) + case.residual))
    assert torch.equal(mean, before[0])
    assert torch.equal(var, before[1])


@pytest.mark.parametrize("adds", [False, True])
def test_only_what_is_needed(adds: bool) -> None:
    case = Case(3, 9, 30, 31, adds=adds)
    exact = case.exact("silu")[1:]
    for wanted, expected in enumerate(exact):
        tensors = list(case.tensors)
        tensors[wanted] = tensors[wanted].clone().requires_grad_()
        (found,) = torch.autograd.grad(case.found(tensors, "silu"), tensors[wanted], case.grad)
        assert_close("batch_norm_act.gradient", found, expected)


def test_without_weight_and_bias() -> None:
    case = Case(3, 9, 30, 31)
    x = case.x.clone().requires_grad_()
    y = ops.batch_norm_act(x, None, None, training=True, activation="hardswish")
    exact = x.detach().double().requires_grad_()
    expected = slow(exact, torch.ones(9), torch.zeros(9), None, 1e-5, "hardswish")
    assert_close("batch_norm_act", y, expected)
    (found,), (other,) = (
        torch.autograd.grad(out.sum(), at) for out, at in ((y.square(), x), (expected.square(), exact))
    )
    assert_close("batch_norm_act.gradient", found, other)


def test_views_and_other_layouts() -> None:
    case = Case(3, 12, 30, 31)
    expected = case.exact("relu")[0]
    wide = torch.cat((case.x, case.x), 1).contiguous(memory_format=LAST)
    for x in (case.x.contiguous(), wide[:, :12], torch.cat((case.x, case.x), 3)[..., :31]):
        y = case.found([x, case.weight, case.bias], "relu")
        assert_close("batch_norm_act", y, expected)
    tensors = case.learned()
    y = case.found(tensors, "silu")
    found = torch.autograd.grad(y, tensors, case.grad.contiguous())
    for one, other in zip(found, case.exact("silu")[1:], strict=True):
        assert_close("batch_norm_act.gradient", one, other)


def test_missing_and_infinite_values_stay_in_their_channel() -> None:
    case = Case(2, 12, 30, 31)
    case.x[0, 3, 5, 6], case.x[1, 7, 0, 0] = torch.nan, torch.inf
    for name in NAMES:
        y = case.found(case.tensors, name)
        expected = ACTIVATIONS[name](F.batch_norm(case.x, None, None, case.weight, case.bias, True))
        assert torch.equal(y.isnan(), expected.isnan()), name
        assert y[:, :3].isfinite().all()
        assert y[:, 3].isnan().all()


@pytest.mark.parametrize("adds", [False, True])
def test_second_derivatives(adds: bool) -> None:
    case = Case(3, 9, 30, 31, adds=adds)

    def twice(function: Callable[[list[Tensor]], Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
        tensors = case.learned(dtype)
        first = torch.autograd.grad(function(tensors), tensors, case.grad.to(dtype), create_graph=True)
        return torch.autograd.grad(sum((one.square().sum() for one in first), torch.zeros(())), tensors)

    found = twice(lambda tensors: case.found(tensors, "silu"), torch.float32)
    expected = twice(lambda t: slow(t[0], t[1], t[2], t[3] if adds else None, 1e-5, "silu"), torch.float64)
    for one, other in zip(found, expected, strict=True):
        assert_close("batch_norm_act.gradient", one, other)


@pytest.mark.without_kernels
@pytest.mark.parametrize("name", ["none", "silu"])
def test_double_precision_by_differences(name: str) -> None:
    case = Case(2, 2, 3, 2, adds=True)
    assert torch.autograd.gradcheck(lambda *t: case.found(list(t), name), case.learned(torch.float64))


@pytest.mark.usefixtures("native_only")
def test_same_bits_at_any_number_of_threads(assert_same_bits: Callable[..., None]) -> None:
    case = Case(5, 13, 60, 61, adds=True)
    _, mean, var = torch.ops.simroot.batch_norm_act(*case.tensors, 1e-5, "silu")
    assert_same_bits(lambda: torch.ops.simroot.batch_norm_act(*case.tensors, 1e-5, "silu"))
    arguments = (case.grad, *case.tensors, mean, var, 1e-5, "silu", [True] * 4)
    assert_same_bits(lambda: torch.ops.simroot.batch_norm_act_backward(*arguments))


@pytest.mark.slow
@pytest.mark.usefixtures("native_only")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_operators_are_well_registered() -> None:
    case = Case(2, 9, 4, 5, adds=True)
    _, mean, var = torch.ops.simroot.batch_norm_act(*case.tensors, 1e-5, "silu")
    arguments = (case.grad, *case.tensors, mean, var, 1e-5, "silu", [True, False, True, True])
    torch.library.opcheck(torch.ops.simroot.batch_norm_act.default, (*case.learned(), 1e-5, "silu"))
    torch.library.opcheck(torch.ops.simroot.batch_norm_act_backward.default, arguments)


@pytest.mark.slow
def test_compiled() -> None:
    case = Case(3, 9, 30, 31)
    tensors = case.learned()

    def function(*given: Tensor) -> Tensor:
        return case.found(list(given), "silu") * 2

    y = torch.compile(function, backend="aot_eager", fullgraph=True)(*tensors)
    expected = function(*tensors)
    assert_close("batch_norm_act", y, expected.double())
    for one, other in zip(*(torch.autograd.grad(out, tensors, case.grad) for out in (y, expected)), strict=True):
        assert_close("batch_norm_act.gradient", one, other.double())


def test_wrong_arguments() -> None:
    x = torch.randn(2, 3, 4, 4)
    with pytest.raises(ConfigError, match="activation is 'gelu', expected one of none, relu, relu6, hardswish, silu"):
        ops.batch_norm_act(x, None, None, training=True, activation="gelu")
    wrong: Any = torch.randn(5)
    with pytest.raises(RuntimeError):
        ops.batch_norm_act(torch.randn(2, 3, 64, 64).to(memory_format=LAST), None, None, wrong, wrong, True)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        ops.batch_norm_act(torch.randn(1, 2**14, 1, 1), None, None, training=True)
