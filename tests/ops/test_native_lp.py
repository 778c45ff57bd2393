"""The l_p similarity in float32 with each kind of kernels: values and all gradients against the formula in float64."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from simroot import ops
from simroot.errors import ConfigError
from tolerances import assert_close, error

NAN, INF = float("nan"), float("inf")
ORDERS = [1.0, 2.0, 0.5, 1.5, 3.0, 1.37, 0.3, 4.2]


@pytest.fixture
def native(kernels: str) -> str:
    if kernels == "reference":
        pytest.skip("for native kernels only")
    return kernels


class Case(NamedTuple):
    """Sizes of a similarity."""

    n: int
    c: int
    h: int
    w: int
    r: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    groups: int = 1


CASES = {
    "one by one": Case(2, 16, 5, 7, 32),
    "tails": Case(3, 19, 5, 3, 37),
    "single": Case(1, 1, 1, 1, 1),
    "27 long": Case(2, 3, 6, 5, 5, (3, 3)),
    "groups": Case(2, 6, 7, 6, 9, (2, 3), (2, 1), 3),
    "strided": Case(2, 8, 7, 6, 20, (1, 1), (3, 2)),
    "long": Case(1, 70, 3, 4, 6, (2, 2)),
}


def tensors(case: Case, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, templates, weights of either sign, and bias."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(case.n, case.c, case.h, case.w, generator=generator)
    z, u = (torch.randn(case.r, case.c // case.groups, *case.kernel, generator=generator) for _ in range(2))
    return x, z, u, torch.randn(case.r, generator=generator)


class Slow(NamedTuple):
    """What the formula gives in float64; `scale` is the sum of the terms' absolute values."""

    out: np.ndarray
    scale: np.ndarray
    dx: np.ndarray
    dz: np.ndarray
    du: np.ndarray
    dorder: float


def slow(case: Case, x: Tensor, z: Tensor, u: Tensor | None, p: float, grad: Tensor | None = None) -> Slow:
    """One receptive field and one group at a time."""
    image, templates = x.detach().double().numpy(), z.detach().double().numpy()
    weights = np.ones_like(templates) if u is None else u.detach().double().numpy()
    (kh, kw), (sh, sw) = case.kernel, case.stride
    size = ((case.h - kh) // sh + 1, (case.w - kw) // sw + 1)
    out, scale = (np.zeros((case.n, case.r, *size)) for _ in range(2))
    g = np.zeros_like(out) if grad is None else grad.double().numpy()
    dx, dz, du, dorder = np.zeros_like(image), np.zeros_like(templates), np.zeros_like(templates), 0.0
    channels, count = case.c // case.groups, case.r // case.groups
    for n, i, j, group in itertools.product(range(case.n), *map(range, size), range(case.groups)):
        part = slice(group * count, (group + 1) * count)
        field = (
            n,
            slice(group * channels, (group + 1) * channels),
            slice(i * sh, i * sh + kh),
            slice(j * sw, j * sw + kw),
        )
        d = np.where(np.isnan(image[field]), 0.0, image[field] - templates[part])
        distance = np.where(d == 0, 1.0, np.abs(d))
        power, slope = (np.where(d == 0, 0.0, distance**e) for e in (p, p - 1))
        out[n, part, i, j] = -(weights[part] * power).sum((1, 2, 3))
        scale[n, part, i, j] = (np.abs(weights[part]) * power).sum((1, 2, 3))
        part_grad = g[n, part, i, j][:, None, None, None]
        s = part_grad * weights[part] * slope * np.sign(d) * p
        dx[field] -= s.sum(0)
        dz[part] += s
        du[part] -= part_grad * power
        dorder -= float((part_grad * weights[part] * power * np.log(distance)).sum())
    return Slow(out, scale, dx, dz, du, dorder)


def output_grad(y: Tensor) -> Tensor:
    return torch.randn(y.shape, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("p", ORDERS)
def test_values_and_gradients(p: float, name: str, weighted: bool) -> None:
    case = CASES[name]
    x, z, u, b = (tensor.requires_grad_() for tensor in tensors(case))
    leaves = [x, z, b, u] if weighted else [x, z, b]
    y = ops.similarity(x, z, u if weighted else None, order=p, bias=b, stride=case.stride, groups=case.groups)
    grad = output_grad(y)
    expected = slow(case, x, z, u if weighted else None, p, grad)
    shift = b.detach().double().numpy()[:, None, None]
    assert_close("similarity", y, expected.out + shift, expected.scale + np.abs(shift))
    dx, dz, db, *du = torch.autograd.grad(y, leaves, grad)
    assert_close("similarity.gradient", dx, expected.dx)
    assert_close("similarity.gradient", dz, expected.dz)
    assert_close("similarity.gradient", db, grad.double().sum((0, 2, 3)))
    if weighted:
        assert_close("similarity.gradient", du[0], expected.du)


@pytest.mark.parametrize("p", [1.0, 2.0, 1.37])
def test_many_rows_and_coordinates(p: float) -> None:
    """Several blocks and chunks of rows, coordinates in several passes."""
    for rows, c, r in ((5003, 9, 11), (150, 600, 5)):
        generator = torch.Generator().manual_seed(0)
        x, z, u = (torch.randn(n, c, generator=generator).requires_grad_() for n in (rows, r, r))
        y = ops.similarity(x, z, u, order=p)
        grad = output_grad(y)
        d = (x[:, None] - z).detach().double()
        terms = u.detach().double() * d.abs() ** p
        assert_close("similarity", y, -terms.sum(2), terms.abs().sum(2))
        s = p * grad.double()[:, :, None] * u.detach().double() * d.sign() * d.abs() ** (p - 1)
        dx, dz, du = torch.autograd.grad(y, (x, z, u), grad)
        assert_close("similarity.gradient", dx, -s.sum(1))
        assert_close("similarity.gradient", dz, s.sum(0))
        assert_close("similarity.gradient", du, -(grad.double()[:, :, None] * d.abs() ** p).sum(0))


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("p", ORDERS)
def test_learned_order(p: float, weighted: bool) -> None:
    case = CASES["27 long"]
    x, z, u, _ = (tensor.requires_grad_() for tensor in tensors(case))
    order = torch.tensor([p], requires_grad=True)
    y = ops.similarity(x, z, u if weighted else None, order=order)
    grad = output_grad(y)
    expected = slow(case, x, z, u if weighted else None, p, grad)
    assert_close("similarity", y, expected.out, expected.scale)
    dx, dz, dorder = torch.autograd.grad(y, (x, z, order), grad)
    assert_close("similarity.gradient", dx, expected.dx)
    assert_close("similarity.gradient", dz, expected.dz)
    assert_close("similarity.gradient", dorder, [expected.dorder])


def test_learned_order_must_be_positive() -> None:
    x, z, u, _ = tensors(CASES["single"])
    with pytest.raises(ConfigError, match=r"order is -1\.0"):
        ops.similarity(x, z, u, order=torch.tensor(-1.0, requires_grad=True))


@pytest.mark.parametrize("p", ORDERS)
def test_missing_coordinates(p: float) -> None:
    """NaN changes nothing but its own fields, and has gradient 0."""
    case = CASES["groups"]
    x, z, u, _ = tensors(case)
    whole = ops.similarity(x, z, u, order=p, stride=case.stride, groups=case.groups)
    x[1, 2, 4, 3] = x[0, 5, 0, 0] = NAN
    x.requires_grad_()
    z.requires_grad_()
    u.requires_grad_()
    y = ops.similarity(x, z, u, order=p, stride=case.stride, groups=case.groups)
    grad = output_grad(y)
    expected = slow(case, x, z, u, p, grad)
    assert_close("similarity", y, expected.out, expected.scale)
    assert error(y[1, 6:], whole[1, 6:].double()) < 1e-5
    dx, dz, du = torch.autograd.grad(y, (x, z, u), grad)
    assert not dx[x.isnan()].any()
    for found, exact in ((dx, expected.dx), (dz, expected.dz), (du, expected.du)):
        assert_close("similarity.gradient", found, exact)


@pytest.mark.parametrize("p", ORDERS)
def test_ties(p: float) -> None:
    """No gradient where x = z, whichever zero that is, and the right one where it is not."""
    values = torch.tensor([0.0, -0.0, 1.5, -3.0, 1e-30, 2.0])
    case = Case(1, 6, 1, 3, 12)
    x = torch.stack([values, -values, values + 1], 1)[None, :, None].clone().requires_grad_()
    z = torch.cat([values.repeat(6, 1), values.roll(1).repeat(6, 1)])[..., None, None].clone().requires_grad_()
    u = tensors(case)[2].requires_grad_()
    order = torch.tensor(p, requires_grad=True)
    y = ops.similarity(x, z, u, order=order)
    grad = output_grad(y)
    expected = slow(case, x, z, u, p, grad)
    found = torch.autograd.grad(y, (x, z, u, order), grad)
    # Where differences of 1e-30 meet p < 1, these slopes are all that counts.
    for gradient, exact in zip(found, (expected.dx, expected.dz, expected.du, expected.dorder), strict=True):
        assert_close("similarity.gradient", gradient, exact)
    y = ops.similarity(x, z, u, order=p)
    (alone,) = torch.autograd.grad(y[0, :6, 0, 0].sum(), x)
    assert not alone.any()


@pytest.mark.parametrize("p", ORDERS)
def test_infinite_coordinates(p: float) -> None:
    x, z, u, _ = tensors(CASES["one by one"])
    finite = ops.similarity(x, z, u.abs(), order=p)
    x[0, 3, 2, 2] = INF
    x[1, 0, 0, 0] = -INF
    y = ops.similarity(x, z, u.abs(), order=p)
    assert (y[0, :, 2, 2] == -INF).all()
    assert (y[1, :, 0, 0] == -INF).all()
    assert y[0, :, 0].equal(finite[0, :, 0]) or error(y[0, :, 0], finite[0, :, 0].double()) < 1e-5
    assert y.isinf().sum() == 2 * y.shape[1]


@pytest.mark.parametrize("p", [1.0, 2.0, 1.37])
def test_a_broken_template_is_not_hidden(p: float, native: str) -> None:
    x, z, u, _ = tensors(CASES["one by one"])
    z[3, 2] = NAN
    y = ops.similarity(x, z, u, order=p)
    assert y[:, 3].isnan().all()
    assert y.isnan().sum() == y[:, 3].numel()


@pytest.mark.parametrize("p", [0.01, 0.3, 1.37, 4.2, 40.0, 300.0])
def test_large_and_small_differences(p: float) -> None:
    """From where the power underflows to where it overflows."""
    x = torch.cat([torch.tensor([0.0]), torch.logspace(-37, 38, 151)])[:, None]
    z = torch.zeros(1, 1)
    exact = -(x.double() ** p)
    inside = (exact.abs() > 3e-38) & (exact.abs() < 1e38)
    for extra in (1.0, 1e30):  # the second makes all rows take the way that allows for overflow
        y = ops.similarity(torch.cat([x, torch.full((1, 1), extra)]), z, order=p)[:-1]
        assert_close("similarity", y[inside], exact[inside], exact[inside].abs() * max(1.0, p * 30))
        assert (y[exact.abs() >= 1e39] == -INF).all()
        assert not y[exact.abs() < 1e-46].any()


def test_layouts(native: str) -> None:
    """Channels-last out whatever comes in; neither layout nor an expanded gradient changes a bit."""
    case = CASES["27 long"]
    x, z, u, _ = tensors(case)
    results = []
    for layout in (x, x.contiguous(memory_format=torch.channels_last), x.transpose(2, 3).contiguous().transpose(2, 3)):
        leaf = layout.detach().requires_grad_()
        wide = torch.stack([z, z], -1)[..., 0].requires_grad_()
        y = ops.similarity(leaf, wide, u, order=1.0)
        assert y.is_contiguous(memory_format=torch.channels_last)
        results.append((y, *torch.autograd.grad(y.sum(), (leaf, wide))))
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


def test_gradients_of_some_inputs_only() -> None:
    case = CASES["groups"]
    names = ("x", "templates", "weights", "bias", "order")
    values = dict(zip(names, (*tensors(case), torch.tensor(1.5)), strict=True))

    def gradients(wanted: tuple[str, ...]) -> dict[str, Tensor]:
        given = {name: value.clone().requires_grad_(name in wanted) for name, value in values.items()}
        x, templates = given.pop("x"), given.pop("templates")
        y = ops.similarity(x, templates, stride=case.stride, groups=case.groups, **given)  # type: ignore[arg-type]
        leaves = {"x": x, "templates": templates, **given}
        return dict(zip(wanted, torch.autograd.grad(y.square().sum(), [leaves[n] for n in wanted]), strict=True))

    together = gradients(names)
    for count in (1, 2):
        for wanted in itertools.combinations(names, count):
            for name, gradient in gradients(wanted).items():
                assert_close("similarity.gradient", gradient, together[name].double())


@pytest.mark.parametrize("p", [1.0, 2.0, 1.37])
@pytest.mark.parametrize("case", [Case(40, 12, 8, 8, 10), Case(9, 4, 12, 12, 6, (3, 3), (1, 1), 2)])
def test_same_bits_at_any_number_of_threads(
    case: Case, p: float, native: str, assert_same_bits: Callable[..., None]
) -> None:
    def call() -> tuple[Tensor, ...]:
        leaves = [*tensors(case), torch.tensor(p)]
        for leaf in leaves:
            leaf.requires_grad_()
        x, z, u, b, order = leaves
        y = ops.similarity(x, z, u, bias=b, order=order, stride=case.stride, groups=case.groups)
        return y, *torch.autograd.grad(y, leaves, output_grad(y))

    assert_same_bits(call)


@pytest.mark.slow
@pytest.mark.filterwarnings("default:The .grad attribute")  # the check's own
@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("name", ["groups", "one by one"])
def test_operator_is_well_formed(name: str, learned: bool, native: str) -> None:
    case = CASES[name]
    x, z, u, b = (tensor.requires_grad_() for tensor in tensors(case))
    order = torch.tensor(1.37, requires_grad=True) if learned else None
    settings = (order, 1.0, list(case.stride), case.groups)
    torch.library.opcheck(torch.ops.simroot.lp.default, (x, z, u, b, *settings))
    torch.library.opcheck(torch.ops.simroot.lp.default, (x, z, None, None, *settings))
    grad = output_grad(torch.ops.simroot.lp(x, z, u, b, *settings))
    plain = [tensor.detach() for tensor in (x, z, u)]
    for needed in ([True, True, True, True, learned], [False, True, False, False, False]):
        arguments = (grad, *plain, *(s.detach() if isinstance(s, Tensor) else s for s in settings), needed)
        torch.library.opcheck(torch.ops.simroot.lp_backward.default, arguments)


def test_native_kernels_are_used(native: str) -> None:
    seen: list[str] = []

    class Spy(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    x, z, u, b = tensors(CASES["one by one"])
    x = x.contiguous(memory_format=torch.channels_last)
    for p in ORDERS:
        seen.clear()
        with Spy():  # type: ignore[no-untyped-call]
            ops.similarity(x, z, u, order=p, bias=b)
        assert [name for name in seen if name.startswith("simroot")] == ["simroot.lp.default"]


def test_kernels_may_change_before_the_backward_pass(native: str) -> None:
    x, z, u, _ = (tensor.requires_grad_() for tensor in tensors(CASES["tails"]))
    y = ops.similarity(x, z, u, order=1.0)
    (expected,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
    with ops.use_kernels("reference"):
        (found,) = torch.autograd.grad(y.sum(), x)
    assert error(found, expected.double()) < 1e-6


@pytest.mark.parametrize("p", [1.0, 1.37])
def test_second_derivatives(p: float) -> None:
    case = CASES["groups"]

    def second(dtype: torch.dtype) -> tuple[Tensor, ...]:
        x, z, u, b = (tensor.to(dtype).requires_grad_() for tensor in tensors(case))
        y = ops.similarity(x, z, u, order=p, bias=b, stride=case.stride, groups=case.groups)
        dx, du, db = torch.autograd.grad(y.square().sum(), (x, u, b), create_graph=True)
        return torch.autograd.grad(dx.square().sum() + du.sum() + db.square().sum(), (x, z, u, b))

    for single, double in zip(second(torch.float32), second(torch.float64), strict=True):
        assert_close("similarity.gradient", single, double)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the compiler's own
@pytest.mark.parametrize("learned", [False, True])
def test_compiles_into_one_graph(learned: bool, native: str) -> None:
    x, z, u, b = (tensor.requires_grad_() for tensor in tensors(CASES["27 long"]))
    order = torch.tensor(1.37, requires_grad=True) if learned else 1.37
    leaves = [x, z, u, b, *([order] if isinstance(order, Tensor) else [])]

    def function(x: Tensor) -> Tensor:
        return 2 * ops.similarity(x + 1, z, u, order=order, bias=b, padding=1)

    torch._dynamo.reset()
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
    expected, found = (torch.autograd.grad(f(x).square().sum(), leaves) for f in (function, compiled))
    for one, other in zip(found, expected, strict=True):
        assert_close("similarity.gradient", one, other.double())
