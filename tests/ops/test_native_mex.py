"""MEX by native kernels against the formula in float64, where blocking, lanes, rounding or threads could go wrong."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from simroot import ops
from simroot.ops.native import native
from tolerances import assert_close

INF = float("inf")


@pytest.fixture(autouse=True)
def _native_only(kernels: str) -> None:
    if not native():
        pytest.skip("about native kernels")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def exact(terms: np.ndarray, beta: np.ndarray | float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """MEX over the last axis, its gradient by the terms and its derivative by beta, in long double."""
    c = terms.astype(np.longdouble)
    b = np.broadcast_to(np.asarray(beta, dtype=np.longdouble), c.shape[:-1])[..., None]
    if np.isinf(b).all():
        top = (c * np.sign(b)).max(-1, keepdims=True) * np.sign(b)
        ties = (c == top).astype(np.longdouble)
        return top[..., 0], ties / ties.sum(-1, keepdims=True), np.zeros(c.shape[:-1])
    mean = c.mean(-1, keepdims=True)
    if (b == 0).all():
        return mean[..., 0], np.full(c.shape, 1 / c.shape[-1]), ((c - mean) ** 2).mean(-1) / 2
    exponents = b * (c - mean)
    top = exponents.max(-1, keepdims=True)
    powers = np.exp(exponents - top)
    probabilities = powers / powers.sum(-1, keepdims=True)
    if abs(exponents).max() < 0.5:
        logs = np.log1p(np.expm1(exponents).mean(-1, keepdims=True))
    else:
        logs = top + np.log(powers.mean(-1, keepdims=True))
    # e^q (q - 1) + 1 at q = b (c - MEX), by its series where that is a small difference.
    q = exponents - logs
    series = sum(q ** (k + 2) / (math.factorial(k) * (k + 2)) for k in range(14))
    divergence = np.where(abs(q) < 0.3, series, np.exp(np.maximum(q, -10000)) * (q - 1) + 1)
    return (mean + logs / b)[..., 0], probabilities, divergence.mean(-1) / b[..., 0] ** 2


def tensor(array: object) -> Tensor:
    return torch.from_numpy(np.asarray(array, dtype=np.float64))


def largest(x: Tensor) -> Tensor:
    return x.detach().abs().max()


def of_infinite(terms: Tensor, beta: float) -> Tensor:
    """MEX over the last axis, which may hold -inf."""
    return ((beta * terms.double()).logsumexp(-1) - math.log(terms.shape[-1])) / beta


DENSE_SIZES = [(1, 1, 1), (5, 3, 2), (7, 8, 8), (101, 20, 10), (13, 70, 19)]


@pytest.mark.parametrize("size", DENSE_SIZES)
@pytest.mark.parametrize("beta", [0.0, 1e-6, 0.1, -1.0, 1000.0, INF])
@pytest.mark.parametrize("spread", [(1.0, 1.0), (40.0, 200.0)])
def test_dense(size: tuple[int, int, int], beta: float, spread: tuple[float, float]) -> None:
    rows, channels, outputs = size
    x = (spread[0] * normal(rows, channels)).requires_grad_()
    offsets = (spread[1] * normal(outputs, channels, seed=1).clamp(-1, 1)).requires_grad_()
    learned = torch.tensor(beta, requires_grad=True)
    grad = normal(rows, outputs, seed=2)
    y = ops.mex_dense(x, offsets, learned)
    dx, doffsets, dbeta = torch.autograd.grad(y, (x, offsets, learned), grad)
    sums = x.detach().double()[:, None] + offsets.detach().double()
    value, probabilities, by_beta = exact(sums.numpy(), beta)
    weighted = grad.double().unsqueeze(-1) * tensor(probabilities)
    assert_close("mex_dense", y, tensor(value), largest(x) + largest(offsets))
    assert_close("mex_dense.gradient", dx, weighted.sum(1), grad.abs().sum(1).max())
    assert_close("mex_dense.gradient", doffsets, weighted.sum(0), grad.abs().sum(0).max())
    contributions = grad.double() * tensor(by_beta)
    assert_close("mex_dense.gradient", dbeta, contributions.sum(), contributions.abs().sum())


def test_dense_where_products_underflow() -> None:
    """Most sums of products are 0 here: rows and offsets peak at different channels."""
    x = (200 * normal(50, 20)).requires_grad_()
    offsets = (-x[:3].detach() + normal(3, 20, seed=1)).requires_grad_()
    beta = torch.tensor(1.0, requires_grad=True)
    y = ops.mex_dense(x, offsets, beta)
    value, probabilities, by_beta = exact((x.detach().double()[:, None] + offsets.detach().double()).numpy(), 1.0)
    assert_close("mex_dense", y, tensor(value), largest(x) + largest(offsets))
    dx, doffsets, dbeta = torch.autograd.grad(y.sum(), (x, offsets, beta))
    assert_close("mex_dense.gradient", dx, tensor(probabilities.sum(1)))
    assert_close("mex_dense.gradient", doffsets, tensor(probabilities.sum(0)))
    assert_close("mex_dense.gradient", dbeta, tensor(by_beta.sum()))


def test_dense_of_infinite_and_missing_values() -> None:
    x, offsets = normal(4, 11), normal(3, 11, seed=1)
    x[0, 2] = offsets[1, 5] = -INF
    x[1, 10], x[2, 3] = INF, math.nan
    y = ops.mex_dense(x, offsets, 1.5)
    assert_close("mex_dense", y[[0, 3]], of_infinite(x[[0, 3]].double()[:, None] + offsets, 1.5))
    assert y[1:3].isnan().all()
    x.requires_grad_()
    (dx,) = torch.autograd.grad(ops.mex_dense(x, offsets, 1.5)[[0, 3]].sum(), x)
    assert dx[0, 2] == 0
    assert dx[[0, 3]].isfinite().all()


def test_dense_of_views() -> None:
    x, offsets = normal(6, 3, 4, 4), normal(3, 5, seed=1).t()
    expected = ops.mex_dense(x.contiguous(), offsets.contiguous(), 2.0)
    assert torch.equal(ops.mex_dense(x.contiguous(memory_format=torch.channels_last), offsets, 2.0), expected)
    assert torch.equal(ops.mex_dense(x.repeat_interleave(2, 0)[::2], offsets, 2.0), expected)


# Pooling

POOLINGS = [
    # size, kernel, stride, padding, ceil_mode
    ((2, 43, 6, 8), (2, 2), (2, 2), (0, 0), False),
    ((1, 19, 7, 7), (2, 2), (2, 2), (0, 0), True),
    ((3, 5, 7, 9), (3, 3), (2, 2), (1, 1), True),
    ((17, 13, 4, 4), (3, 3), (1, 1), (1, 1), False),
    ((2, 40, 9, 8), (4, 5), (3, 2), (2, 1), True),
    ((2, 4, 9, 9), (2, 2), (3, 3), (1, 1), False),
    ((1, 9, 21, 22), (21, 22), (1, 1), (0, 0), False),
]


def windows(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], size: torch.Size):  # type: ignore[no-untyped-def]
    """(i, j, rows, columns) of every window, cut to the image."""
    for i, j in itertools.product(range(size[2]), range(size[3])):
        top, left = i * stride[0] - padding[0], j * stride[1] - padding[1]
        yield i, j, slice(max(top, 0), top + kernel[0]), slice(max(left, 0), left + kernel[1])


@pytest.mark.parametrize("case", POOLINGS)
@pytest.mark.parametrize("beta", [1e-12, -1e-3, 0.1, -1.0, 1000.0])
@pytest.mark.parametrize("per_channel", [False, True])
def test_pooling(
    case: tuple[tuple[int, int, int, int], tuple[int, int], tuple[int, int], tuple[int, int], bool],
    beta: float,
    per_channel: bool,
) -> None:
    shape, kernel, stride, padding, ceil = case
    x = (3 * normal(*shape)).requires_grad_()
    betas = beta * (1 + torch.arange(shape[1]) % 3) if per_channel else torch.tensor(beta)
    betas.requires_grad_()
    y = ops.mex_pool2d(x, betas, kernel, stride, padding, ceil)
    grad = normal(*y.shape, seed=1)
    dx, dbeta = torch.autograd.grad(y, (x, betas), grad)
    values, slopes = np.empty(y.shape), torch.zeros(shape, dtype=torch.float64)
    by_beta = torch.zeros(shape[1], dtype=torch.float64)
    size_of_beta = torch.zeros(shape[1], dtype=torch.float64)
    for i, j, rows, columns in windows(x, kernel, stride, padding, y.shape):
        window = x.detach()[:, :, rows, columns]
        found = exact(window.flatten(2).double().numpy(), betas.detach().double().numpy())
        values[:, :, i, j] = found[0]
        g = grad[:, :, i, j].double()
        slopes[:, :, rows, columns] += (g[:, :, None] * tensor(found[1])).view(window.shape)
        by_beta += (g * tensor(found[2])).sum(0)
        size_of_beta += (g * tensor(found[2])).abs().sum(0)
    assert_close("mex", y, values, largest(x))
    assert_close("mex.gradient", dx, slopes)
    if per_channel:
        assert_close("mex.gradient", dbeta, by_beta, size_of_beta.max())
    else:
        assert_close("mex.gradient", dbeta, by_beta.sum(), size_of_beta.sum())


@pytest.mark.parametrize("beta", [INF, -INF])
def test_learned_limits_share_ties(beta: float) -> None:
    x = torch.zeros(1, 9, 4, 4)
    x[:, :, 1:] = -math.copysign(1.0, beta)
    x.requires_grad_()
    learned = torch.tensor(beta, requires_grad=True)
    y = ops.mex_pool2d(x, learned, 2)
    assert not y[:, :, 0].any()
    assert (y[:, :, 1] == x[:, :, 1:2, ::2].squeeze(2)).all()
    dx, dbeta = torch.autograd.grad(y.sum(), (x, learned))
    assert_close("mex.gradient", dx[0, 0, :2, :2], [[1 / 2, 1 / 2], [0.0, 0.0]])
    assert dbeta == 0


def test_pooling_of_infinite_and_missing_values() -> None:
    x = normal(1, 3, 4, 4)
    x[0, 0, 0, 0], x[0, 1, 0, 0], x[0, 2, 0, 0] = -INF, INF, math.nan
    y = ops.mex_pool2d(x, 2.0, 2)
    assert_close("mex", y[0, 0, 0, 0], of_infinite(x[0, 0, :2, :2].flatten(), 2.0))
    assert not y[0, 1, 0, 0].isfinite()
    assert y[0, 2, 0, 0].isnan()
    assert y[:, :, 1].isfinite().all()


@pytest.mark.parametrize("beta", [1e-9, 0.5])
def test_global_pooling_of_many_positions(beta: float) -> None:
    x = normal(1, 5, 96, 96) + 3
    value = tensor(exact(x.flatten(2).double().numpy(), beta)[0])
    assert_close("mex", ops.global_mex_pool2d(x, beta), value)
    assert_close("mex", ops.global_mex_pool2d(x, torch.full((5,), beta, requires_grad=True)), value)


# Both


def calls() -> list[tuple[torch._ops.OpOverloadPacket, tuple[object, ...]]]:
    x, offsets, image = normal(300, 20), normal(7, 20, seed=1), normal(20, 40, 9, 9)
    beta, betas = torch.tensor(1.5), torch.linspace(-2, 2, 40).view(-1, 1, 1)
    windows = ([3, 3], [2, 2], [1, 1])
    return [
        (torch.ops.simroot.mex_dense, (x, offsets, beta)),
        (torch.ops.simroot.mex_dense_backward, (normal(300, 7), x, offsets, beta, True)),
        (torch.ops.simroot.mex_pool2d, (image, beta, *windows, [5, 5])),
        (torch.ops.simroot.mex_pool2d, (image, betas, *windows, [5, 5])),
        (torch.ops.simroot.mex_pool2d_backward, (normal(20, 40, 5, 5), image, betas, *windows, True)),
        (torch.ops.simroot.mex_pool2d_backward, (normal(20, 40, 5, 5), image, beta, *windows, True)),
        (torch.ops.simroot.mex_pool2d_backward, (normal(2, 40, 5, 5), image[:2], beta, *windows, True)),
    ]


@pytest.mark.parametrize("number", range(len(calls())))
def test_same_bits_at_any_number_of_threads(number: int, assert_same_bits: Callable[..., None]) -> None:
    function, arguments = calls()[number]
    assert_same_bits(lambda: function(*arguments))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("number", range(len(calls())))
def test_operators_are_well_registered(number: int) -> None:
    function, arguments = calls()[number]
    learned = [
        item.clone().requires_grad_() if isinstance(item, Tensor) and "backward" not in str(function) else item
        for item in arguments
    ]
    torch.library.opcheck(function.default, tuple(learned))


def test_compiled() -> None:
    def function(x: Tensor, offsets: Tensor, beta: Tensor) -> Tensor:
        pooled = ops.mex_pool2d(x, beta, 3, 2, 1)
        return ops.mex_dense(pooled, offsets, beta) + ops.global_mex_pool2d(x, 0.5).mean()

    tensors = [t.requires_grad_() for t in (normal(2, 6, 8, 8), normal(4, 6, seed=1), torch.tensor(1.5))]
    expected = function(*tensors)
    y = torch.compile(function, backend="aot_eager", fullgraph=True)(*tensors)
    assert_close("mex_dense", y, expected.double())
    for one, other in zip(*(torch.autograd.grad(out.sum(), tensors) for out in (y, expected)), strict=True):
        assert_close("mex_dense.gradient", one, other.double())


def test_kernels_may_change_before_the_backward_pass() -> None:
    x, offsets, image = normal(4, 5).requires_grad_(), normal(3, 5, seed=1), normal(2, 5, 4, 4).requires_grad_()
    expected = torch.autograd.grad(ops.mex_dense(x, offsets, 1.5).sum(), x)[0]
    outs = ops.mex_dense(x, offsets, 1.5), ops.mex_pool2d(image, 1.5, 2)
    with ops.use_kernels("reference"):
        assert_close("mex_dense.gradient", torch.autograd.grad(outs[0].sum(), x)[0], expected.double())
        assert torch.autograd.grad(outs[1].sum(), image)[0].isfinite().all()


def test_second_derivatives() -> None:
    x, offsets = normal(4, 5).requires_grad_(), normal(3, 5, seed=1).requires_grad_()
    image, beta = normal(2, 5, 4, 4).requires_grad_(), torch.tensor(1.5, requires_grad=True)

    def twice(y: Tensor, *inputs: Tensor) -> list[Tensor]:
        first = torch.autograd.grad(y.square().sum(), inputs, create_graph=True)
        return list(torch.autograd.grad(sum((one.square().sum() for one in first), torch.zeros(())), inputs))

    found = twice(ops.mex_dense(x, offsets, beta), x, offsets, beta)
    found += twice(ops.mex_pool2d(image, beta, 2), image, beta)
    found += twice(ops.global_mex_pool2d(image, beta), image, beta)
    with ops.use_kernels("reference"):
        expected = twice(ops.mex_dense(x, offsets, beta), x, offsets, beta)
        expected += twice(ops.mex_pool2d(image, beta, 2), image, beta)
        expected += twice(ops.global_mex_pool2d(image, beta), image, beta)
    for one, other in zip(found, expected, strict=True):
        assert_close("mex_dense.gradient", one, other.double())
