"""The similarity operator against loops over its formula."""

import itertools
import math
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from simroot import ops
from simroot.errors import ConfigError
from simroot.ops.similarity import Kind, tiled
from tolerances import assert_close, error

NAN = float("nan")


def reference(
    x: Tensor,
    z: Tensor,
    u: Tensor | None = None,
    *,
    p: float = 2.0,
    kind: str = "lp",
    bias: Tensor | None = None,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    groups: int = 1,
    padding_value: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """The result and the sum of its terms' absolute values, one output at a time in float64."""
    image, templates = x.detach().double().numpy(), z.detach().double().numpy()
    weights = np.ones_like(templates) if u is None else u.detach().double().numpy()
    (ph, pw), (sh, sw) = padding, stride
    image = np.pad(image, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=padding_value)
    count, channels, kh, kw = templates.shape
    height, width = (image.shape[2] - kh) // sh + 1, (image.shape[3] - kw) // sw + 1
    out, scale = (np.zeros((len(image), count, height, width)) for _ in range(2))
    for n, r, i, j in itertools.product(*map(range, out.shape)):
        first = r // (count // groups) * channels
        patch = image[n, first : first + channels, i * sh : i * sh + kh, j * sw : j * sw + kw]
        if kind == "linear":
            terms = weights[r] * patch * templates[r]
        else:
            terms = -weights[r] * np.abs(patch - templates[r]) ** p
        terms = terms[~np.isnan(patch)]
        out[n, r, i, j] = terms.sum() + (0 if bias is None else float(bias[r]))
        scale[n, r, i, j] = np.abs(terms).sum() + (0 if bias is None else abs(float(bias[r])))
    return out, scale


def images(
    seed: int = 0, *, n: int = 2, c: int = 4, h: int = 7, w: int = 6, dtype: torch.dtype = torch.float32
) -> Tensor:
    return torch.randn(n, c, h, w, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def parameters(
    r: int = 6, c: int = 4, kh: int = 1, kw: int = 1, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    z, u = (torch.randn(r, c, kh, kw, generator=generator, dtype=torch.float64) for _ in range(2))
    return z.to(dtype), u.exp().to(dtype), torch.randn(r, generator=generator, dtype=torch.float64).to(dtype)


ORDERS = [2.0, 1.0, 0.5, 1.37, 3.0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("p", ORDERS)
def test_one_by_one(p: float, dtype: torch.dtype) -> None:
    x, (z, u, b) = images(dtype=dtype), parameters(dtype=dtype)
    y = ops.similarity(x, z, u, order=p, bias=b)
    assert y.dtype == dtype
    assert_close("similarity", y, *reference(x, z, u, p=p, bias=b))


@pytest.mark.parametrize("padding_value", [0.0, NAN, 1.5])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("p", ORDERS)
def test_receptive_fields(p: float, groups: int, padding_value: float) -> None:
    x, (z, u, _) = images() + 3, parameters(c=4 // groups, kh=3, kw=2)
    geometry: dict[str, Any] = {"stride": (2, 1), "padding": (1, 2), "groups": groups, "padding_value": padding_value}
    y = ops.similarity(x, z + 3, u, order=p, **geometry)
    assert_close("similarity", y, *reference(x, z + 3, u, p=p, **geometry))


@pytest.mark.without_kernels
@pytest.mark.parametrize("padding_value", [0.0, NAN])
def test_linear(padding_value: float) -> None:
    x, (z, u, b) = images(), parameters(c=2, kh=3, kw=3)
    geometry: dict[str, Any] = {"stride": (1, 2), "padding": (1, 1), "groups": 2, "padding_value": padding_value}
    y = ops.similarity(x, z, u, kind="linear", bias=b, **geometry)
    assert_close("similarity", y, *reference(x, z, u, kind="linear", bias=b, **geometry))
    assert_close("similarity", ops.similarity(x, z, kind="linear", groups=2), *reference(x, z, kind="linear", groups=2))


@pytest.mark.parametrize("kind", ["lp", "linear"])
@pytest.mark.parametrize("p", [2.0, 1.0, 1.37])
def test_vectors(p: float, kind: Kind) -> None:
    x, (z, u, b) = images(h=1, w=1, n=9), parameters()
    y = ops.similarity(x[..., 0, 0], z[..., 0, 0], u[..., 0, 0], order=p, kind=kind, bias=b)
    expected, scale = reference(x, z, u, p=p, kind=kind, bias=b)
    assert_close("similarity", y, expected[..., 0, 0], scale[..., 0, 0])


@pytest.mark.parametrize("p", [2.0, 1.0, 1.37])
def test_layouts_give_the_same(p: float) -> None:
    x, (z, u, _) = images(), parameters(kh=3, kw=3)
    expected = ops.similarity(x, z, u, order=p)
    for same in (x.contiguous(memory_format=torch.channels_last), x.transpose(2, 3).contiguous().transpose(2, 3)):
        assert error(ops.similarity(same, z, u, order=p), expected.double()) < 1e-6


@pytest.mark.parametrize("p", [2.0, 1.0, 1.37])
@pytest.mark.parametrize("vectors", [False, True])
def test_empty_batch_has_zero_gradients(p: float, vectors: bool) -> None:
    x, (z, u, b) = images(n=0), parameters()
    if vectors:
        x, z, u = x[..., 0, 0], z[..., 0, 0], u[..., 0, 0]
    tensors = [tensor.clone().requires_grad_() for tensor in (x, z, u, b)]
    y = ops.similarity(*tensors[:3], order=p, bias=tensors[3])
    assert y.shape == ((0, 6) if vectors else (0, 6, 7, 6))
    for tensor, gradient in zip(tensors, torch.autograd.grad(y.sum(), tensors), strict=True):
        assert gradient.shape == tensor.shape
        assert not gradient.any()


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("p", [1.0, 2.0])
def test_large_common_mean(p: float, padding: int) -> None:
    x, (z, u, _) = images(c=8, n=3) + 1000, parameters(c=8, kh=3, kw=3)
    z = z + 1000
    y = ops.similarity(x, z, u, order=p, padding=padding)
    assert_close("similarity", y, *reference(x, z, u, p=p, padding=(padding, padding)))


def test_cancelling_entries_are_recomputed() -> None:
    """A few templates equal to rows, then clusters so far apart that most of the expansion cancels."""
    x = images(c=8, n=4)
    few = torch.cat([x[1, :, 2:5, 2:5][None], x[3, :, 0:3, 1:4][None] + 1e-3, parameters(30, 8, 3, 3)[0]])
    assert_close("similarity", ops.similarity(x, few), *reference(x, few))
    sign = torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None, None, None]
    clusters, z = x + 1000 * sign, parameters(4, 8, 3, 3)[0] + 1000 * sign
    clusters.requires_grad_()
    y = ops.similarity(clusters, z)
    assert_close("similarity", y, *reference(clusters, z))
    # The gradient is that of the differences too.
    (near,) = torch.autograd.grad(y[0, 0].sum(), clusters)
    doubles = clusters.detach().double().requires_grad_()
    (exact,) = torch.autograd.grad(ops.similarity(doubles, z.double())[0, 0].sum(), doubles)
    assert_close("similarity.gradient", near, exact)


@pytest.mark.parametrize("p", [2.0, 1.0, 1.37, 0.5])
def test_missing_coordinates_have_no_gradient(p: float) -> None:
    x, (z, u, _) = images(), parameters(kh=3, kw=3)
    x[0, 1, 2, 3] = x[1, :, 0, 0] = NAN
    tensors = [tensor.requires_grad_() for tensor in (x, z, u)]
    y = ops.similarity(*tensors, order=p)
    assert_close("similarity", y, *reference(x, z, u, p=p))
    dx, dz, du = torch.autograd.grad(y.sum(), tensors)
    assert torch.equal(dx == 0, x.isnan())
    assert dz.isfinite().all()
    assert du.isfinite().all()
    all_missing = torch.full((1, 4, 3, 3), NAN)
    assert not ops.similarity(all_missing, z, u, order=p).any()


def gradients(function: Callable[..., Tensor], tensors: list[Tensor]) -> list[Tensor]:
    y = function(*tensors)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64).to(y.dtype)
    return list(torch.autograd.grad(y, tensors, weights))


@pytest.mark.parametrize("shift", [0.0, 1000.0])
@pytest.mark.parametrize("p", ORDERS)
def test_float32_gradients_are_those_of_float64(p: float, shift: float) -> None:
    x, (z, u, _) = images(n=8, h=9, w=9) + shift, parameters(kh=3, kw=3)

    def function(x: Tensor, z: Tensor, u: Tensor, order: Tensor) -> Tensor:
        return ops.similarity(x, z, u, order=order if p != 2 else 2.0, padding=int(shift == 0)) + 0 * order.log()

    tensors = [t.requires_grad_() for t in (x, z + shift, u, torch.tensor(p))]
    doubles = [t.detach().double().requires_grad_() for t in tensors]
    for single, double in zip(gradients(function, tensors), gradients(function, doubles), strict=True):
        assert_close("similarity.gradient", single, double)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 1.0, 1.37, 2.0])
def test_ties_have_gradient_zero(p: float) -> None:
    x = torch.tensor([[0.0, 1.0, -2.0]], requires_grad=True)
    z = torch.tensor([[0.0, 1.0, -2.0], [0.0, 3.0, 1e-44]], requires_grad=True)
    u = torch.ones(2, 3, requires_grad=True)
    order = torch.tensor(p, requires_grad=True)
    y = ops.similarity(x, z, u, order=order)
    assert y[0, 0] == 0
    dx, dz, du, dp = torch.autograd.grad(y[0, 0], (x, z, u, order), create_graph=True)
    for gradient in (dx, dz, du, dp):
        assert not gradient.any()
    for gradient in torch.autograd.grad(y.sum(), (x, z, u, order)):
        assert gradient.isfinite().all()
    second = torch.autograd.grad(dx.sum() + dz.square().sum(), (x, z, order), allow_unused=True)
    assert all(gradient is None or gradient.isfinite().all() for gradient in second)


@pytest.mark.without_kernels
def test_tiles_cover_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles so small that images, rows and groups are all divided give the same results."""
    x, (z, u, _) = images(n=3, dtype=torch.float64), parameters(c=2, kh=3, kw=2, dtype=torch.float64)
    tensors = [t.requires_grad_() for t in (x, z, u, torch.tensor(1.5, dtype=torch.float64))]

    def function(x: Tensor, z: Tensor, u: Tensor, order: Tensor) -> Tensor:
        return ops.similarity(x, z, u, order=order, groups=2, stride=(2, 1), padding=1)

    whole = [function(*tensors), *gradients(function, tensors)]
    for budget in (1, 20, 50):
        monkeypatch.setattr(tiled, "tile_elements", lambda device, budget=budget: budget)
        for one, other in zip(whole, [function(*tensors), *gradients(function, tensors)], strict=True):
            assert_close("similarity.gradient", other, one)


@pytest.mark.parametrize("p", [2.0, 1.0])
def test_autocast_computes_in_float32(p: float) -> None:
    x, (z, u, _) = images() + 100, parameters(kh=3, kw=3)
    z = (z + 100).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = ops.similarity(x, z, u, order=p)
        assert y.dtype == torch.float32
        y.sum().backward()
    assert_close("similarity", y, *reference(x, z, u, p=p))
    assert z.grad is not None
    assert z.grad.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert ops.similarity(x.bfloat16(), z, u, order=p).dtype == torch.float32


@pytest.mark.without_kernels
@pytest.mark.parametrize("p", [2.0, 1.0, 1.37])
def test_recorded_graphs(p: float) -> None:
    class Net(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return ops.similarity(x, z, u, order=p, padding=1)

    x, (z, u, _) = images() + 50, parameters(kh=3, kw=3)
    z = z + 50
    exported = torch.export.export(Net(), (x,)).module()(x)
    assert_close("similarity", exported, *reference(x, z, u, p=p, padding=(1, 1)))


@pytest.mark.without_kernels
@pytest.mark.parametrize("p", [2.0, 1.37])
def test_meta_tensors_have_the_shape(p: float) -> None:
    x, (z, u, _) = images().to("meta"), (t.to("meta") for t in parameters(kh=3, kw=3))
    assert ops.similarity(x, z, u, order=p, stride=2).shape == (2, 6, 3, 2)


def test_is_one_call_for_a_function_mode() -> None:
    seen = []

    class Spy(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            seen.append(function)
            return function(*args, **(kwargs or {}))

    x, (z, u, b) = images(), parameters()
    with Spy():
        ops.similarity(x, z, u, order=1.0, bias=b, padding=1)
    assert seen == [ops.similarity]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(4)}, "x is"),
        ({"templates": torch.zeros(6, 4)}, "templates are"),
        ({"templates": torch.zeros(6, 3, 1, 1)}, "4 channels"),
        ({"weights": torch.zeros(6, 4, 1, 2)}, "weights are"),
        ({"bias": torch.zeros(5)}, "bias is"),
        ({"order": 0.0}, "order is 0.0"),
        ({"order": -1.0}, "order is -1.0"),
        ({"order": NAN}, "order is nan"),
        ({"order": math.inf}, "order is inf"),
        ({"order": torch.ones(2)}, "order has shape"),
        ({"order": torch.tensor(-1.0)}, "order is -1.0"),
        ({"kind": "cosine"}, "kind is 'cosine'"),
        ({"groups": 3}, "groups is 3"),
        ({"groups": 0}, "groups is 0"),
        ({"stride": 0}, "stride is 0"),
        ({"padding": -1}, "padding is -1"),
        ({"padding": (1, 2, 3)}, "padding is"),
        ({"templates": torch.zeros(6, 4, 9, 9), "weights": None}, "do not fit"),
        ({"x": torch.zeros(2, 4, 7, 6, dtype=torch.int64), "templates": torch.zeros(6, 4, 1, 1).long()}, "floating"),
        ({"x": torch.zeros(2, 4), "templates": torch.zeros(6, 4), "weights": None, "padding": 1}, "need images"),
    ],
)
def test_errors_say_what_is_wrong(change: dict[str, Any], message: str) -> None:
    z, u, b = parameters()
    arguments: dict[str, Any] = {"x": images(), "templates": z, "weights": u, "bias": b} | change
    if message == "floating":
        arguments |= {"weights": None, "bias": None}
    with pytest.raises(ConfigError, match=message):
        ops.similarity(**arguments)


MEMORY_SCRIPT = """
import resource, torch; torch.set_num_threads(1)
from simroot import ops
def used(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def step(x, order):
    y = ops.similarity(x, z, u, order=order)
    y.backward(torch.ones_like(y))
x = torch.randn(128, 32, 32, 32, requires_grad=True)
z, u = (torch.rand(32, 32, 1, 1, requires_grad=True) for _ in range(2))
orders = [2.0, torch.tensor(1.0, requires_grad=True)]
for order in orders:
    step(x[:1], order)
before = used()
for order in orders:
    x.grad = None
    step(x, order)
print(used() - before)
"""


@pytest.mark.slow
def test_memory_is_bounded() -> None:
    """A tensor of rows x templates x coordinates would take 512 MiB; those that must exist take 16 MiB each."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", MEMORY_SCRIPT]
    assert float(subprocess.run(command, capture_output=True, check=True, env=environment).stdout) < 256


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the compiler's own
@pytest.mark.parametrize("p", [2.0, 1.37])
def test_compiles(p: float) -> None:
    x, (z, u, _) = images(), parameters(kh=3, kw=3)
    z.requires_grad_()

    def function(x: Tensor) -> Tensor:
        return 2 * ops.similarity(x + 1, z, u, order=p)

    (expected,) = torch.autograd.grad(function(x).sum(), z)
    (found,) = torch.autograd.grad(torch.compile(function, backend="aot_eager")(x).sum(), z)
    assert_close("similarity.gradient", found, expected)
