"""MEX pooling against loops over windows, and against PyTorch's poolings at the limits."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from simroot import ops
from simroot.errors import ConfigError
from tolerances import assert_close

INF = float("inf")


def reference(
    x: Tensor, beta: np.ndarray, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], ceil: bool
) -> np.ndarray:
    """Each window from its definition, in long double, over the positions that exist."""
    image = x.detach().double().numpy().astype(np.longdouble)

    def starts(size: int, k: int, s: int, p: int) -> list[int]:
        found = [start for start in range(-p, size, s) if start + k <= size + p]
        following = found[-1] + s
        if ceil and found[-1] + k < size + p and following < size:
            found.append(following)
        return found

    rows, columns = (
        starts(size, k, s, p) for size, k, s, p in zip(image.shape[2:], kernel, stride, padding, strict=True)
    )
    out = np.empty((*image.shape[:2], len(rows), len(columns)))
    for (n, c), (i, top), (j, left) in itertools.product(
        np.ndindex(image.shape[:2]), enumerate(rows), enumerate(columns)
    ):
        window = image[n, c, max(top, 0) : top + kernel[0], max(left, 0) : left + kernel[1]].ravel()
        b = float(np.broadcast_to(beta, image.shape[1])[c])
        if b == 0 or math.isinf(b):
            out[n, c, i, j] = window.mean() if b == 0 else window.max() if b > 0 else window.min()
        else:
            mean = window.mean()
            out[n, c, i, j] = mean + np.log1p(np.expm1(b * (window - mean)).mean()) / b
    return out


def images(n: int = 2, c: int = 3, h: int = 7, w: int = 8, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return 3 * torch.randn(n, c, h, w, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [((3, 3), (2, 2), (0, 0)), ((3, 2), (2, 3), (1, 1)), ((2, 3), (3, 1), (1, 0)), ((5, 4), (5, 4), (2, 2))],
)
@pytest.mark.parametrize("beta", [0.0, 1e-8, -0.5, 2.0, 30.0, INF, -INF])
def test_windows(
    beta: float, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], ceil: bool
) -> None:
    x = images() + 5  # far from the zeros that padding must not bring in
    expected = reference(x, np.array(beta), kernel, stride, padding, ceil)
    for form in (beta, torch.tensor(beta), torch.tensor([beta] * 3, requires_grad=True)):
        assert_close("mex", ops.mex_pool2d(x, form, kernel, stride, padding, ceil), expected)


@pytest.mark.parametrize("size", [(4, 4), (5, 6), (7, 7)])
@pytest.mark.parametrize("settings", list(itertools.product((1, 2, 3), (1, 2, 3), (0, 1), (False, True))))
def test_sizes_and_limits_are_those_of_pytorch(settings: tuple[int, int, int, bool], size: tuple[int, int]) -> None:
    kernel, stride, padding, ceil = settings
    if 2 * padding > kernel:
        return
    x = images(h=size[0], w=size[1])
    largest = F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil)
    assert torch.equal(ops.mex_pool2d(x, INF, kernel, stride, padding, ceil), largest)
    average = F.avg_pool2d(x, kernel, stride, padding, ceil, count_include_pad=False)
    assert torch.equal(ops.mex_pool2d(x, 0.0, kernel, stride, padding, ceil), average)
    learned = torch.tensor([0.0, INF, -INF], requires_grad=True)
    y = ops.mex_pool2d(x, learned, kernel, stride, padding, ceil)
    assert_close("mex", y[:, 0], average[:, 0])
    assert torch.equal(y[:, 1], largest[:, 1])
    assert torch.equal(y[:, 2], -F.max_pool2d(-x, kernel, stride, padding, ceil_mode=ceil)[:, 2])
    assert ops.mex_pool2d(x.to("meta"), 1.0, kernel, stride, padding, ceil).shape == y.shape


@pytest.mark.parametrize("beta", [0.0, 1e-12, -0.5, 2.0, INF, -INF])
def test_global(beta: float) -> None:
    x = images()
    expected = reference(x, np.array(beta), (7, 8), (1, 1), (0, 0), False)[..., 0, 0]
    for form in (beta, torch.tensor(beta), torch.tensor([beta] * 3, requires_grad=True)):
        assert_close("mex", ops.global_mex_pool2d(x, form), expected)
    assert_close("mex", ops.global_mex_pool2d(x.contiguous(memory_format=torch.channels_last), beta), expected)


def test_one_beta_per_channel() -> None:
    x, beta = images(), torch.tensor([0.0, 3.0, -INF])
    expected = reference(x, beta.numpy(), (3, 3), (2, 2), (1, 1), True)
    assert_close("mex", ops.mex_pool2d(x, beta, 3, 2, 1, True), expected)
    everything = reference(x, beta.numpy(), (7, 8), (1, 1), (0, 0), False)[..., 0, 0]
    assert_close("mex", ops.global_mex_pool2d(x, beta), everything)


@pytest.mark.without_kernels
def test_collapsing() -> None:
    """Equal windows side by side, then all of their results: MEX of everything (Deep SimNets, section 2)."""
    x = images(h=6, w=8, dtype=torch.float64)
    for beta in (0.0, 1e-10, 0.2, -3.0, 40.0, INF):
        nested = ops.global_mex_pool2d(ops.mex_pool2d(x, beta, (3, 2)), beta)
        assert_close("mex", nested, ops.global_mex_pool2d(x, beta))


@pytest.mark.without_kernels
@pytest.mark.parametrize("beta", [0.0, 0.1, -1.0, 3.0])
def test_derivatives(beta: float) -> None:
    x = images(1, 2, 3, 4, torch.float64).requires_grad_()  # windows that end inside, at the border and outside
    learned = torch.tensor([beta, 0.7], dtype=torch.float64, requires_grad=True)
    local = lambda x, b: ops.mex_pool2d(x, b, 3, 2, 1, True)  # noqa: E731
    for function in (local, ops.global_mex_pool2d):
        assert gradcheck(function, (x, learned))
        assert gradgradcheck(function, (x, learned))


@pytest.mark.parametrize("beta", [1e-8, 1.0, -50.0, 1e4, INF])
def test_wide_inputs_stay_finite(beta: float) -> None:
    x = (100 * images()).requires_grad_()
    learned = torch.tensor([beta] * 3, requires_grad=True)
    for y in (ops.mex_pool2d(x, learned, 3, 2, 1, True), ops.global_mex_pool2d(x, learned)):
        gradients = torch.autograd.grad(y.sum(), (x, learned))
        for tensor in (y, *gradients):
            assert tensor.isfinite().all()
        assert_close("mex.gradient", gradients[0].sum(), y.numel())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_autocast(dtype: torch.dtype) -> None:
    x = images(dtype=dtype)
    y = ops.mex_pool2d(x, 1.5, 3, 2)
    assert y.dtype == dtype
    assert_close("mex", y, reference(x, np.array(1.5), (3, 3), (2, 2), (0, 0), False))
    with torch.autocast("cpu", torch.bfloat16):
        assert ops.mex_pool2d(x, 1.5, 3, 2).dtype == ops.global_mex_pool2d(x, 1.5).dtype == torch.float32


def test_empty_batch() -> None:
    x, beta = images(n=0), torch.ones(3, requires_grad=True)
    for b in (0.0, INF, 1.0, beta):
        assert ops.mex_pool2d(x, b, 3, 2).shape == (0, 3, 3, 3)
        assert ops.global_mex_pool2d(x, b).shape == (0, 3)
    (gradient,) = torch.autograd.grad(ops.mex_pool2d(x, beta, 3, 2).sum(), beta)
    assert not gradient.any()


@pytest.mark.without_kernels
def test_multiplicative_noise() -> None:
    x = images(n=64, h=32, w=32)
    y = ops.multiplicative_noise(x, 0.3, generator=torch.Generator().manual_seed(1))
    factor = (y / x).double()
    assert abs(factor.mean() - 1) < 3e-3
    assert abs(factor.std() - 0.3) < 3e-3
    assert torch.equal(y, ops.multiplicative_noise(x, 0.3, generator=torch.Generator().manual_seed(1)))
    assert not torch.equal(y, ops.multiplicative_noise(x, 0.3, generator=torch.Generator().manual_seed(2)))
    assert ops.multiplicative_noise(x, 0.3, training=False) is x
    assert ops.multiplicative_noise(x, 0.0) is x
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(
        ops.multiplicative_noise(leaf, 0.3, generator=torch.Generator().manual_seed(1)).sum(), leaf
    )
    assert_close("mex.gradient", gradient, factor)


CALLS: dict[Callable[..., Tensor], Callable[[Tensor], Tensor]] = {
    ops.mex: lambda x: ops.mex(x, 1.5, dim=1),
    ops.mex_dense: lambda x: ops.mex_dense(x, torch.zeros(2, 3), 1.5),
    ops.mex_pool2d: lambda x: ops.mex_pool2d(x, 1.5, 3, 2, 1, ceil_mode=True),
    ops.global_mex_pool2d: lambda x: ops.global_mex_pool2d(x, 1.5),
    ops.multiplicative_noise: lambda x: ops.multiplicative_noise(x, 0.5),
}


@pytest.mark.parametrize("operator", CALLS)
def test_is_one_call_for_a_function_mode(operator: Callable[..., Tensor]) -> None:
    seen = []

    class Spy(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            seen.append(function)
            return function(*args, **(kwargs or {}))

    x, zeros = images(), torch.zeros(2, 3)
    with Spy():
        ops.mex_dense(x, zeros, 1.5) if operator is ops.mex_dense else CALLS[operator](x)
    assert seen == [operator]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.mex_pool2d(torch.zeros(3, 4, 4), 1.0, 2), "x is"),
        (lambda: ops.mex_pool2d(images(), torch.zeros(2), 2), "beta has shape"),
        (lambda: ops.mex_pool2d(images(), 1.0, 0), "kernel_size is 0"),
        (lambda: ops.mex_pool2d(images(), 1.0, 2, 0), "stride is 0"),
        (lambda: ops.mex_pool2d(images(), 1.0, 3, 2, 2), "at most half"),
        (lambda: ops.mex_pool2d(images(), 1.0, 9), "do not fit"),
        (lambda: ops.global_mex_pool2d(torch.zeros(2, 3, 0, 4), 1.0), "nothing to pool"),
        (lambda: ops.global_mex_pool2d(images(), torch.zeros(4)), "beta has shape"),
        (lambda: ops.multiplicative_noise(images(), -0.1), "sigma is -0.1"),
    ],
)
def test_errors_say_what_is_wrong(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call()
