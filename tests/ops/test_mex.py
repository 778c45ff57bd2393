"""MEX over axes and as a dense layer, against the definition in float64 and in extended precision."""

import math
from collections.abc import Callable
from decimal import Decimal, getcontext
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from simroot import ops
from simroot.errors import ConfigError
from simroot.ops.mex import along_axis
from tolerances import assert_close

getcontext().prec = 120
INF = float("inf")
ZERO = Decimal(0)
BETAS = [0.0, 1e-12, 1e-6, -1e-3, 0.1, 1.0, -3.0, 50.0, 1e4, INF, -INF]


class Exact(NamedTuple):
    value: float
    probabilities: list[float]
    dbeta: float


def reference(values: np.ndarray, beta: float) -> Exact:
    """MEX, its gradient and its derivative by beta, KL(p || uniform) / beta^2, with 120 decimal digits."""
    return _reference(tuple(values.tolist()), beta)


@cache  # many tests ask for the same
def _reference(values: tuple[float, ...], beta: float) -> Exact:
    terms = [Decimal(value) for value in values]
    n, mean = len(terms), sum(terms, ZERO) / len(terms)
    if beta == 0:
        return Exact(float(mean), [1 / n] * n, float(sum(((term - mean) ** 2 for term in terms), ZERO) / n / 2))
    top = max(terms) if beta > 0 else min(terms)
    if math.isinf(beta):
        return Exact(float(top), [(term == top) / terms.count(top) for term in terms], 0.0)
    b = Decimal(beta)
    exponents = [b * (term - top) for term in terms]
    powers = [exponent.exp() if exponent > -2000 else Decimal(0) for exponent in exponents]
    total = sum(powers, ZERO)
    log_mean = (total / n).ln()
    divergence = sum((w / total * (e - log_mean) for e, w in zip(exponents, powers, strict=True)), ZERO)
    probabilities = [float(w / total) for w in powers]
    return Exact(float(top + log_mean / b), probabilities, float(divergence / b**2))


def along(x: Tensor, beta: float | np.ndarray, axis: int) -> np.ndarray:
    rows = np.moveaxis(x.detach().double().numpy(), axis, -1)
    betas = np.broadcast_to(np.asarray(beta, dtype=float), rows.shape[:-1])
    out = np.empty(rows.shape[:-1])
    for index in np.ndindex(out.shape):
        out[index] = reference(rows[index], float(betas[index])).value
    return out


def dense(x: Tensor, offsets: Tensor, beta: float) -> np.ndarray:
    rows, shifts = x.detach().double().numpy(), offsets.detach().double().numpy()
    return np.array([[reference(row + shift, beta).value for shift in shifts] for row in rows])


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def exact_gradients(x: Tensor, beta: float) -> tuple[Tensor, float]:
    """Gradients of the sum of MEX over the last axis: by x, and by beta."""
    rows = x.detach().double().flatten(0, -2).numpy()
    found = [reference(row, beta) for row in rows]
    return torch.tensor([one.probabilities for one in found], dtype=torch.float64).view(x.shape), sum(
        one.dbeta for one in found
    )


@pytest.mark.without_kernels
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("beta", BETAS)
def test_mex(beta: float, dtype: torch.dtype) -> None:
    x = 3 * normal(4, 7, 5, dtype=dtype)
    y = ops.mex(x, beta, dim=1)
    assert y.dtype == dtype
    assert_close("mex", y, along(x, beta, 1))
    assert_close(
        "mex", ops.mex(x, torch.tensor(beta, dtype=torch.float64), dim=-2, keepdim=True), along(x, beta, 1)[:, None]
    )


@pytest.mark.without_kernels
@pytest.mark.parametrize("beta", BETAS)
def test_mex_over_several_axes(beta: float) -> None:
    x = 3 * normal(4, 2, 5, 3)
    expected = along(x.movedim(1, 2).flatten(2), beta, 2)
    assert_close("mex", ops.mex(x, beta, dim=(1, -1)), expected)
    assert_close("mex", ops.mex(x, torch.tensor(beta), dim=(3, 1), keepdim=True), expected[:, None, :, None])


@pytest.mark.without_kernels
def test_chunks_cover_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    x, beta = 3 * normal(4, 7, 5), torch.tensor([0.1, 1.0, INF, 0.0, -2.0])
    monkeypatch.setattr(along_axis, "_CHUNK", 40)
    assert_close("mex", ops.mex(x, beta, dim=1), along(x, beta.numpy(), 1))
    assert_close("mex", ops.mex(x, beta, dim=0), along(x, beta.numpy(), 0))
    assert_close("mex", ops.mex(x, 1.0, dim=(0, 1, 2)), along(x.flatten(), 1.0, 0))
    assert_close("mex", ops.mex(x.flatten(), 1.0, dim=0), along(x.flatten(), 1.0, 0))


@pytest.mark.without_kernels
def test_beta_broadcasts_to_the_result() -> None:
    x = 3 * normal(4, 7, len(BETAS))
    assert_close("mex", ops.mex(x, torch.tensor(BETAS), dim=1), along(x, np.array(BETAS), 1))
    each = torch.tensor([1.0, 0.0, INF, -1.0])
    assert_close("mex", ops.mex(x, each[:, None], dim=1), along(x, each.numpy()[:, None], 1))
    assert_close(
        "mex", ops.mex(x, each[:, None, None], dim=1, keepdim=True), along(x, each.numpy()[:, None], 1)[:, None]
    )


@pytest.mark.without_kernels
@pytest.mark.parametrize("beta", [1e-12, 1e-8, 1e-4, 0.01, 1.0])
def test_mex_under_a_large_mean(beta: float) -> None:
    x = 1000 + normal(8, 30)
    assert_close("mex", ops.mex(x, beta, dim=1), along(x, beta, 1))


@pytest.mark.without_kernels
@pytest.mark.parametrize("beta", [0.0, 1e-40, 1e-12, 1e-5, -0.02, 0.3, -1.0, 20.0, 1e3, INF, -INF])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_gradients_of_mex(beta: float, dtype: torch.dtype) -> None:
    x = (3 * normal(6, 9, dtype=dtype)).requires_grad_()
    learned = torch.tensor(beta, dtype=dtype, requires_grad=True)
    dx, dbeta = torch.autograd.grad(ops.mex(x, learned, dim=1).sum(), (x, learned))
    exact_dx, exact_dbeta = exact_gradients(x, beta)
    assert_close("mex.gradient", dx, exact_dx)
    assert_close("mex.gradient", dbeta, exact_dbeta)


@pytest.mark.without_kernels
def test_ties_share_the_gradient_at_the_limits() -> None:
    x = torch.tensor([[2.0, 2.0, 1.0, 1.0]], requires_grad=True)
    for beta, expected in ((INF, [[0.5, 0.5, 0.0, 0.0]]), (-INF, [[0.0, 0.0, 0.5, 0.5]])):
        for form in (beta, torch.tensor(beta, requires_grad=True)):
            (dx,) = torch.autograd.grad(ops.mex(x, form, dim=1).sum(), x)
            assert dx.tolist() == expected


@pytest.mark.without_kernels
@pytest.mark.parametrize("beta", [0.0, 1e-3, 0.2, -0.7, 2.0, -5.0])
def test_mex_derivatives(beta: float) -> None:
    x = normal(3, 4, dtype=torch.float64).requires_grad_()
    learned = torch.tensor([beta, 1.0, beta], dtype=torch.float64, requires_grad=True)
    function = lambda x, b: ops.mex(x, b, dim=1)  # noqa: E731
    assert gradcheck(function, (x, learned))
    assert gradgradcheck(function, (x, learned))


@pytest.mark.without_kernels
@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(-300, 300, width=32), min_size=1, max_size=6),
    beta=st.one_of(st.floats(-1e6, 1e6, width=32), st.sampled_from([INF, -INF, 1e-38, 3e38, -3e38, 1e-45])),
)
def test_mex_is_finite_and_between_the_extremes(values: list[float], beta: float) -> None:
    x = torch.tensor([values], requires_grad=True)
    learned = torch.tensor(beta, requires_grad=True)
    y = ops.mex(x, learned, dim=1)
    assert min(values) - 1e-4 <= y.item() <= max(values) + 1e-4
    assert_close("mex", y, along(x, float(learned.detach()), 1), max(1.0, max(map(abs, values))))
    dx, dbeta = torch.autograd.grad(y.sum(), (x, learned))
    assert dx.isfinite().all()
    assert dx.sum().item() == pytest.approx(1, abs=1e-5)
    assert dbeta.isfinite()


@pytest.mark.without_kernels
def test_collapsing() -> None:
    x = normal(2, 3, 5, 4, dtype=torch.float64)
    for beta in (0.0, 1e-9, 0.3, -4.0, INF):
        nested = ops.mex(ops.mex(x, beta, dim=3), beta, dim=2)
        assert_close("mex", nested, ops.mex(x, beta, dim=(2, 3)))


def test_numbers_beyond_the_range_of_the_dtype_are_limits() -> None:
    x = normal(3, 4)
    assert torch.equal(ops.mex(x, 1e300, dim=1), x.amax(1))
    assert torch.equal(ops.mex_dense(x, torch.zeros(1, 4), -1e300)[:, 0], x.amin(1))


# mex_dense

SPREADS = {"like": (1.0, 1.0), "offsets": (1.0, 300.0), "inputs": (300.0, 1.0), "both": (40.0, 200.0)}


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_mex_dense(dtype: torch.dtype, spread: str, beta: float) -> None:
    first, second = SPREADS[spread]
    x, offsets = first * normal(8, 12, dtype=dtype), second * (normal(5, 12, seed=1, dtype=dtype)).clamp(-1, 1)
    scale = x.double().abs().max() + offsets.double().abs().max()
    y = ops.mex_dense(x, offsets, beta)
    assert_close("mex_dense", y, dense(x, offsets, beta), scale)
    assert torch.equal(ops.mex_dense(x, offsets, torch.tensor([beta], dtype=dtype)), y)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_gradients_of_mex_dense(dtype: torch.dtype, spread: str, beta: float) -> None:
    first, second = SPREADS[spread]
    x = (first * normal(8, 12, dtype=dtype)).requires_grad_()
    offsets = (second * normal(5, 12, seed=1, dtype=dtype).clamp(-1, 1)).requires_grad_()
    learned = torch.tensor(beta, dtype=dtype, requires_grad=True)
    y = ops.mex_dense(x, offsets, learned)
    dx, doffsets, dbeta = torch.autograd.grad(y.sum(), (x, offsets, learned))
    probabilities, exact_dbeta = exact_gradients(x.detach().double()[:, None] + offsets.detach().double(), beta)
    assert_close("mex_dense.gradient", dx, probabilities.sum(1))
    assert_close("mex_dense.gradient", doffsets, probabilities.sum(0))
    assert_close("mex_dense.gradient", dbeta, exact_dbeta)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mex_dense_in_half_precision(dtype: torch.dtype) -> None:
    x, offsets = normal(6, 4, dtype=dtype), 100 * normal(3, 4, dtype=dtype)
    y = ops.mex_dense(x, offsets, 2.0)
    assert y.dtype == dtype
    assert_close("mex_dense", y, dense(x, offsets, 2.0))


def test_mex_dense_of_images() -> None:
    x, offsets = normal(2, 4, 3, 5), normal(6, 4)
    expected = dense(x.permute(0, 2, 3, 1).flatten(0, 2), offsets, 1.5).reshape(2, 3, 5, 6).transpose(0, 3, 1, 2)
    for same in (x, x.contiguous(memory_format=torch.channels_last), x.transpose(0, 1).contiguous().transpose(0, 1)):
        assert_close("mex_dense", ops.mex_dense(same, offsets, 1.5), expected)


@pytest.mark.without_kernels
@pytest.mark.parametrize("beta", [0.0, 1e-3, 0.1, 1.0, -2.0])
def test_mex_dense_derivatives(beta: float) -> None:
    tensors = (normal(3, 4, dtype=torch.float64), 2 * normal(2, 4, seed=1, dtype=torch.float64))
    learned = torch.tensor(beta, dtype=torch.float64)
    inputs = tuple(tensor.requires_grad_() for tensor in (*tensors, learned))
    assert gradcheck(ops.mex_dense, inputs)
    assert gradgradcheck(ops.mex_dense, inputs)


def test_mex_dense_shares_ties() -> None:
    x, offsets = torch.zeros(1, 4, requires_grad=True), torch.zeros(1, 4, requires_grad=True)
    for gradient in torch.autograd.grad(ops.mex_dense(x, offsets, INF).sum(), (x, offsets)):
        assert gradient.tolist() == [[0.25] * 4]


def test_a_training_far_apart_stays_finite() -> None:
    """Peaks of inputs and offsets at different channels: every product of exponentials underflows."""
    x = torch.tensor([[0.0, -400.0, -500.0]], requires_grad=True)
    offsets = torch.tensor([[-900.0, -300.0, 0.0]], requires_grad=True)
    beta = torch.tensor(1.0, requires_grad=True)
    y = ops.mex_dense(x, offsets, beta)
    assert y.item() == pytest.approx(-500 - math.log(3))
    dx, doffsets, dbeta = torch.autograd.grad(y.sum(), (x, offsets, beta))
    assert dx.tolist() == doffsets.tolist() == [[0.0, 0.0, 1.0]]
    assert dbeta.item() == pytest.approx(math.log(3))


# Both


def test_empty_batches() -> None:
    x, offsets = torch.zeros(0, 4, requires_grad=True), normal(3, 4).requires_grad_()
    beta = torch.tensor(1.0, requires_grad=True)
    assert ops.mex(x, beta, dim=1).shape == (0,)
    for b in (beta, INF, 0.0):
        assert ops.mex_dense(x, offsets, b).shape == (0, 3)
    y = ops.mex_dense(torch.zeros(0, 4, 2, 2), offsets, beta)
    assert y.shape == (0, 3, 2, 2)
    for gradient in torch.autograd.grad(y.sum(), (offsets, beta)):
        assert not gradient.any()


CALLS: dict[str, Callable[[Tensor], Tensor]] = {
    "mex": lambda x: ops.mex(x, 1.5, dim=1),
    "mex_dense": lambda x: ops.mex_dense(x, normal(3, 4).to(x), 1.5),
}


@pytest.mark.parametrize("name", CALLS)
def test_autocast_computes_in_float32(name: str) -> None:
    x = (normal(6, 4) + 100).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = CALLS[name](x)
        y.sum().backward()
    assert y.dtype == torch.float32
    assert_close(name, y, CALLS[name](x.detach().double()))
    assert x.grad is not None
    assert x.grad.dtype == torch.float32


@pytest.mark.parametrize("name", CALLS)
def test_other_uses(name: str) -> None:
    x = normal(6, 4)
    expected = CALLS[name](x)
    module = torch.nn.Module()
    module.forward = CALLS[name]
    assert_close(name, torch.export.export(module, (x,)).module()(x), expected)
    assert CALLS[name](x.to("meta")).shape == expected.shape


@pytest.mark.without_kernels
def test_exported_dense_with_channels_of_different_means() -> None:
    """As in trained networks: the offsets take back the means of the channels, which differ by hundreds."""
    means = torch.linspace(-400, 400, 8)
    x, offsets = normal(6, 8) + means, normal(3, 8) - means
    module = torch.nn.Module()
    module.forward = lambda x: ops.mex_dense(x, offsets, 0.2)
    sums = (x.double().unsqueeze(1) + offsets.double()).numpy()
    expected = np.log(np.exp(0.2 * sums).mean(-1)) / 0.2
    assert_close("mex_dense", torch.export.export(module, (x,)).module()(x), expected, 400.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.mex(torch.zeros(2, 3), 1.0, dim=2), "dim is 2"),
        (lambda: ops.mex(torch.zeros(2, 3), 1.0, dim=()), "dim is"),
        (lambda: ops.mex(torch.zeros(2, 0), 1.0, dim=1), "empty axis"),
        (lambda: ops.mex(torch.zeros(2, 3), torch.zeros(3), dim=1), "does not broadcast"),
        (lambda: ops.mex(torch.zeros(2, 3).long(), 1.0, dim=1), "floating point"),
        (lambda: ops.mex_dense(torch.zeros(3), torch.zeros(2, 3), 1.0), "x is"),
        (lambda: ops.mex_dense(torch.zeros(2, 3), torch.zeros(2, 4), 1.0), r"expected \(R, 3\)"),
        (lambda: ops.mex_dense(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2)), "beta has shape"),
    ],
)
def test_errors_say_what_is_wrong(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call()
