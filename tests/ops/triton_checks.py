"""The Triton kernels in Triton's interpreter, on the CPU; `test_triton.py` runs these in a process of their own.

The interpreter is chosen by TRITON_INTERPRET=1 when Triton is imported. References are the formulas in float64,
their gradients those of PyTorch's autograd.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from simroot.ops.mex import gpu as mex_gpu
from simroot.ops.mex import triton as _triton_mex
from simroot.ops.similarity import gpu as lp_gpu
from simroot.ops.similarity import triton as _triton_lp
from tolerances import assert_close

NAN, INF = math.nan, math.inf


@pytest.fixture(autouse=True)
def kernels() -> Iterator[None]:
    """In place of the fixture that repeats every test for each instruction set of the CPU.

    NumPy, which the interpreter uses, warns of log 0 and 0 / 0 where a GPU goes on.
    """
    with np.errstate(all="ignore"):
        yield


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Fields(NamedTuple):
    """Similarities over receptive fields."""

    x: Sequence[int] = (2, 4, 3, 2)
    templates: Sequence[int] = (4, 4, 1, 1)
    stride: tuple[int, int] = (1, 1)
    groups: int = 1
    weighted: bool = True

    def tensors(self) -> list[Tensor | None]:
        """Images, templates, weights and biases."""
        z = normal(*self.templates, seed=1)
        u = normal(*self.templates, seed=2).exp() if self.weighted else None
        return [normal(*self.x), z, u, normal(len(z), seed=3) if self.weighted else None]


FIELDS = {
    "1x1": Fields(),
    "unweighted": Fields(weighted=False),
    "groups": Fields(templates=(4, 2, 1, 1), groups=2),
    "fields": Fields(x=(1, 4, 5, 3), templates=(4, 2, 2, 2), stride=(2, 1), groups=2),
    "strides": Fields(x=(1, 2, 4, 5), templates=(3, 2, 2, 2), stride=(2, 3)),
    "vectors": Fields(x=(1, 4, 5, 1)),
}


def reference(
    tensors: Sequence[Tensor | None], order: Tensor, fields: Fields
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """b_r - sum_i u_ri |x_i - z_ri|^p over the coordinates that are not NaN, and the sum of the terms' sizes."""
    x, z, u, b = tensors
    assert x is not None
    assert z is not None
    kernel = (z.shape[2], z.shape[3])
    size = [(n - k) // s + 1 for n, k, s in zip(x.shape[2:], kernel, fields.stride, strict=True)]
    patches = F.unfold(x, kernel, stride=fields.stride).unflatten(1, (fields.groups, 1, -1))
    difference = patches - z.unflatten(0, (fields.groups, -1)).flatten(2).unsqueeze(-1)
    terms = torch.where(patches.isnan(), 0.0, difference).abs() ** order
    if u is not None:
        terms = terms * u.unflatten(0, (fields.groups, -1)).flatten(2).unsqueeze(-1)
    sums = terms.sum(3).flatten(1, 2).unflatten(2, size)
    bias = torch.zeros(len(z)) if b is None else b
    return bias[:, None, None] - sums, bias[:, None, None].abs() + sums


def exact_gradients(
    tensors: Sequence[Tensor | None], p: float, fields: Fields, grad: Tensor
) -> list[Tensor | None]:  # fmt: skip
    """Those of images, templates, weights, biases and order, in float64."""
    doubles = [None if item is None else item.double().requires_grad_() for item in (*tensors, torch.tensor(p))]
    order = doubles[-1]
    assert order is not None
    y, _ = reference(doubles[:-1], order, fields)
    found = iter(torch.autograd.grad(y, [item for item in doubles if item is not None], grad.double()))
    return [None if item is None else next(found) for item in doubles]


def forward(tensors: Sequence[Tensor | None], p: float, fields: Fields) -> Tensor:
    x, z, u, b = tensors
    assert x is not None
    assert z is not None
    return _triton_lp.forward(x, z, u, b, p, fields.stride, fields.groups)


def gradients(
    tensors: Sequence[Tensor | None], p: float, fields: Fields, grad: Tensor, needed: Sequence[bool] = (True,) * 5
) -> tuple[Tensor, ...]:
    x, z, u, _ = tensors
    assert x is not None
    assert z is not None
    return _triton_lp.backward(grad, x, z, u, torch.tensor(p), p, fields.stride, fields.groups, needed)


def check_lp(tensors: Sequence[Tensor | None], p: float, fields: Fields) -> None:
    doubles = [None if item is None else item.double() for item in tensors]
    y = forward(tensors, p, fields)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert_close("similarity", y, *reference(doubles, torch.tensor(p).double(), fields))
    grad = normal(*y.shape, seed=4) + 2  # sums of it do not cancel
    exact = exact_gradients(tensors, p, fields, grad)
    for found, expected in zip(gradients(tensors, p, fields, grad), exact, strict=True):
        if expected is not None:
            assert_close("similarity.gradient", found, expected)


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("p", [2.0, 1.0, 1.37])
def test_similarity(p: float, name: str) -> None:
    check_lp(FIELDS[name].tensors(), p, FIELDS[name])


@pytest.mark.parametrize("p", [0.5, 3.0])
def test_other_orders(p: float) -> None:
    check_lp(FIELDS["1x1"].tensors(), p, FIELDS["1x1"])


@pytest.mark.parametrize("buffer", [1, 2**22])
def test_tiles_cover_everything(monkeypatch: pytest.MonkeyPatch, buffer: int) -> None:
    """More than one tile of everything, none of them full; rows summed by one program or by several, in chunks."""
    for name, value in {"_TILE": 4, "_CHUNK": 4, "_SHARE": 8, "_BUFFER": buffer}.items():
        monkeypatch.setattr(_triton_lp, name, value)
    fields = Fields(x=(2, 10, 2, 3), templates=(6, 5, 1, 1), groups=2)
    check_lp(fields.tensors(), 1.37, fields)


@pytest.mark.parametrize("p", [1.0, 1.37])
def test_missing_coordinates(p: float) -> None:
    fields = FIELDS["fields"]
    tensors = fields.tensors()
    x = tensors[0]
    assert x is not None
    x[0, 1, 2, 1] = x[0, :, 0, 0] = NAN
    check_lp(tensors, p, fields)
    assert not gradients(tensors, p, fields, torch.ones_like(forward(tensors, p, fields)))[0][x.isnan()].any()


@pytest.mark.parametrize("p", [1.0, 1.37])
def test_templates_that_are_nan_are_not_missing(p: float) -> None:
    tensors = FIELDS["1x1"].tensors()
    z = tensors[1]
    assert z is not None
    z[1, 2] = NAN
    y = forward(tensors, p, FIELDS["1x1"])
    assert y.isnan().any((0, 2, 3)).tolist() == [False, True, False, False]
    dx, dz, *_ = gradients(tensors, p, FIELDS["1x1"], torch.ones_like(y))
    assert dx[:, 2].isnan().all()
    assert dz[1, 2].isnan().all()


@pytest.mark.parametrize("p", [0.1, 1.0, 1.37, 2.0])
def test_ties_have_gradient_zero(p: float) -> None:
    fields = Fields(x=(1, 3, 1, 1), templates=(2, 3, 1, 1))
    values = torch.tensor([0.0, 1.0, -2.0]).view(1, 3, 1, 1)
    tensors = [values, torch.cat([values, torch.tensor([0.0, 3.0, 1e-44]).view(1, 3, 1, 1)]), None, None]
    y = forward(tensors, p, fields)
    assert y[0, 0] == 0
    dx, dz, du, _, dp = gradients(tensors, p, fields, torch.tensor([1.0, 0.0]).view(1, 2, 1, 1))
    for gradient in (dx, dz, du, dp):
        assert not gradient.any()
    assert all(gradient.isfinite().all() for gradient in gradients(tensors, p, fields, torch.ones_like(y)))
    tiny = [torch.full((1, 3, 1, 1), 1e-44), *tensors[1:]]
    assert all(gradient.isfinite().all() for gradient in gradients(tiny, p, fields, torch.ones_like(y)))


def test_layouts_give_the_same() -> None:
    fields = FIELDS["fields"]
    x, *others = fields.tensors()
    assert x is not None
    expected = forward([x, *others], 1.37, fields)
    for same in (x.contiguous(memory_format=torch.channels_last), x.transpose(2, 3).contiguous().transpose(2, 3)):
        assert torch.equal(forward([same, *others], 1.37, fields), expected)
    # A sum's gradient is one number with strides of 0.
    ones = torch.ones(()).expand(expected.shape)
    for one, other in zip(
        gradients([x, *others], 1.37, fields, ones),
        gradients([x, *others], 1.37, fields, torch.ones(expected.shape)),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_empty_batches_of_images() -> None:
    fields = Fields(x=(0, 4, 3, 2))
    tensors = fields.tensors()
    y = forward(tensors, 1.37, fields)
    assert y.shape == (0, 4, 3, 2)
    for gradient, tensor in zip(gradients(tensors, 1.37, fields, y), tensors, strict=False):
        assert tensor is not None
        assert gradient.shape == tensor.shape
        assert not gradient.any()


def test_gradients_that_are_not_needed_are_empty() -> None:
    fields = FIELDS["1x1"]
    tensors = fields.tensors()
    grad = torch.ones_like(forward(tensors, 1.37, fields))
    every = gradients(tensors, 1.37, fields, grad)
    for index, expected in enumerate(every):
        needed = [position == index for position in range(5)]
        found = gradients(tensors, 1.37, fields, grad, needed)
        assert torch.equal(found[index], expected)
        assert not any(item.numel() for position, item in enumerate(found) if position != index)


# mex_dense

BETAS = [0.0, -1e-3, 0.1, -3.0, 1e4, INF]
SPREADS = {"like": (1.0, 1.0), "offsets": (1.0, 300.0), "inputs": (300.0, 1.0), "both": (40.0, 200.0)}


def exact_mex(x: Tensor, offsets: Tensor, beta: float) -> tuple[Tensor, Tensor, Tensor]:
    """MEX of x_c + b_rc over c in float64, the probabilities of the terms, and the derivative by beta."""
    sums = x.double().unsqueeze(1) + offsets.double()
    channels = sums.shape[2]
    if math.isinf(beta):
        top = sums.amax(2) if beta > 0 else sums.amin(2)
        ties = (sums == top.unsqueeze(2)).double()
        return top, ties / ties.sum(2, keepdim=True), torch.zeros_like(top)
    deviations = sums - sums.mean(2, keepdim=True)
    if abs(beta) <= 1e-6:
        # The first terms of the series: the next are smaller than these by (beta x)^2.
        variance, third = deviations.square().mean(2), deviations.pow(3).mean(2)
        value = sums.mean(2) + beta * variance / 2
        return value, (beta * sums).softmax(2), variance / 2 + beta * third / 3
    logs = (beta * deviations).log_softmax(2)
    value = sums.mean(2) + ((beta * deviations).logsumexp(2) - math.log(channels)) / beta
    return value, logs.exp(), ((logs.exp() * logs).sum(2) + math.log(channels)) / beta**2


def check_mex(x: Tensor, offsets: Tensor, beta: float) -> None:
    value, probabilities, slope = exact_mex(x, offsets, beta)
    b = torch.tensor(beta)
    y = _triton_mex.forward(x, offsets, b)
    assert_close("mex_dense", y, value, x.abs().max() + offsets.abs().max())
    grad = normal(*y.shape, seed=4) + 2
    dx, doffsets, dbeta = _triton_mex.backward(grad, x, offsets, b, True)
    assert_close("mex_dense.gradient", dx, (grad.double().unsqueeze(2) * probabilities).sum(1))
    assert_close("mex_dense.gradient", doffsets, (grad.double().unsqueeze(2) * probabilities).sum(0))
    assert_close("mex_dense.gradient", dbeta, (grad.double() * slope).sum())


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("spread", SPREADS)
def test_mex_dense(spread: str, beta: float) -> None:
    first, second = SPREADS[spread]
    check_mex(first * normal(5, 9), second * normal(4, 9, seed=1).clamp(-1, 1), beta)


@pytest.mark.parametrize(("beta", "buffer"), [(0.1, 1), (-2.0, 2**22)])
def test_tiles_of_mex_dense(monkeypatch: pytest.MonkeyPatch, beta: float, buffer: int) -> None:
    """Some have small exponents, some have sums that underflow, some have both; rows are summed by one or by several.

    None of the tiles at the ends are full.
    """
    for name, value in {"_ROWS": 4, "_OUTPUTS": 2, "_CHANNELS": 4, "_SHARE": 8, "_BUFFER": buffer}.items():
        monkeypatch.setattr(_triton_mex, name, value)
    x, offsets = normal(11, 6), normal(3, 6, seed=1)
    x[5:] *= 100
    offsets[1:] *= 100
    check_mex(x, offsets, beta)


def test_peaks_far_apart() -> None:
    """Every product of exponentials underflows."""
    x, offsets = torch.tensor([[0.0, -400.0, -500.0]]), torch.tensor([[-900.0, -300.0, 0.0]])
    check_mex(x, offsets, 1.0)
    check_mex(-x, -offsets, -1.0)


@pytest.mark.parametrize("beta", [1e-45, -1e-38, 1e-6])
def test_tiny_betas(beta: float) -> None:
    check_mex(300 * normal(3, 5), normal(2, 5, seed=1), beta)


@pytest.mark.parametrize("beta", [INF, -INF])
def test_ties_share_the_gradient(beta: float) -> None:
    x, offsets = torch.zeros(1, 4), torch.tensor([[1.0, 1.0, -1.0, -1.0]])
    dx, doffsets, dbeta = _triton_mex.backward(torch.ones(1, 1), x, offsets, torch.tensor(beta), True)
    expected = [[0.5, 0.5, 0.0, 0.0]] if beta > 0 else [[0.0, 0.0, 0.5, 0.5]]
    assert dx.tolist() == doffsets.tolist() == expected
    assert dbeta == 0


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_nan_is_not_swallowed(beta: float) -> None:
    x, offsets = normal(3, 4), 100 * normal(2, 4, seed=1)
    x[1, 2] = NAN
    y = _triton_mex.forward(x, offsets, torch.tensor(beta))
    assert y.isnan().tolist() == [[False] * 2, [True] * 2, [False] * 2]
    dx, doffsets, dbeta = _triton_mex.backward(torch.ones_like(y), x, offsets, torch.tensor(beta), True)
    assert dx.isnan().any(1).tolist() == [False, True, False]
    assert doffsets.isnan().any(1).all()
    assert dbeta.isnan()


def test_empty_batches_of_rows() -> None:
    x, offsets, beta = torch.zeros(0, 4), normal(3, 4), torch.tensor(1.0)
    assert _triton_mex.forward(x, offsets, beta).shape == (0, 3)
    dx, doffsets, dbeta = _triton_mex.backward(torch.zeros(0, 3), x, offsets, beta, True)
    assert dx.shape == (0, 4)
    assert doffsets.shape == (3, 4)
    assert not doffsets.any()
    assert dbeta == 0


# The operators with these kernels


class OnTriton(TorchDispatchMode):
    """Calls the GPU's implementations for any device, below autograd."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "simroot":
            name = func._schema.name.removeprefix("simroot::")
            func = getattr(lp_gpu, name, None) or getattr(mex_gpu, name)
        return func(*args, **(kwargs or {}))


def differentiated(call: Any, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The result and the gradients of its weighted sum."""
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    with OnTriton():  # type: ignore[no-untyped-call]
        y = call(*leaves)
        return (y, *torch.autograd.grad((y * normal(*y.shape, seed=4)).sum(), leaves))


def test_the_operator_lp() -> None:
    fields = FIELDS["fields"]
    tensors = [item for item in fields.tensors() if item is not None]
    y, *found = differentiated(
        lambda x, z, u, b, order: torch.ops.simroot.lp(x, z, u, b, order, 2.0, fields.stride, fields.groups),
        (*tensors, torch.tensor(1.37)),
    )
    assert_close("similarity", y, *reference([item.double() for item in tensors], torch.tensor(1.37), fields))
    exact = exact_gradients(tensors, 1.37, fields, normal(*y.shape, seed=4))
    for gradient, expected in zip(found, exact, strict=True):
        assert_close("similarity.gradient", gradient, expected)


def test_the_operator_mex_dense() -> None:
    x, offsets = normal(8, 12), normal(5, 12, seed=1)
    y, dx, doffsets, dbeta = differentiated(torch.ops.simroot.mex_dense, (x, offsets, torch.tensor(2.0)))
    value, probabilities, slope = exact_mex(x, offsets, 2.0)
    grad = normal(*y.shape, seed=4).double()
    assert_close("mex_dense", y, value)
    assert_close("mex_dense.gradient", dx, (grad.unsqueeze(2) * probabilities).sum(1))
    assert_close("mex_dense.gradient", doffsets, (grad.unsqueeze(2) * probabilities).sum(0))
    assert_close("mex_dense.gradient", dbeta, (grad * slope).sum())
