"""The operators under torch.func and in forward mode, against their definitions in float64."""

import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacrev, jvp, vmap
from torch.nn import functional as F

from simroot import create_model, ops
from tolerances import assert_close

# PyTorch's own formulas of forward mode are scripted, which it warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
DTYPES = [torch.float32, torch.float64]
Function = Callable[..., Tensor]


class Case(NamedTuple):
    operator: str  # of the table of tolerances
    call: Function
    definition: Function
    shapes: tuple[tuple[int, ...], ...]  # of the tensors that both take


def lp(x: Tensor, z: Tensor, u: Tensor, p: float | Tensor) -> Tensor:
    """3x3 receptive fields of an image with a border of zeros."""
    patches = F.unfold(x, 3, padding=1)[:, None]
    differences = (patches - z.flatten(1)[:, :, None]).abs()
    return -(u.flatten(1)[:, :, None] * differences.pow(p)).sum(2).view(len(x), len(z), *x.shape[2:])


def log_mean_exp(x: Tensor, beta: Tensor | float, dims: tuple[int, ...]) -> Tensor:
    count = math.prod(x.shape[dim] for dim in dims)
    return ((beta * x).logsumexp(dims, keepdim=True) - math.log(count)) / beta


def pooled(x: Tensor, beta: Tensor) -> Tensor:
    windows = x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
    return log_mean_exp(windows, beta[:, None, None, None, None], (3, 5)).squeeze((3, 5))


X, Z = (2, 3, 4, 6), (4, 3, 3, 3)
CASES = {
    **{
        f"similarity, order {p}": Case(
            "similarity",
            lambda x, z, u, p=p: ops.similarity(x, z, u, order=p, padding=1),
            lambda x, z, u, p=p: lp(x, z, u, p),
            (X, Z, Z),
        )
        for p in (1.0, 1.5, 2.0)
    },
    "similarity, learned order": Case(
        "similarity",
        lambda x, z, u, p: ops.similarity(x, z, u, order=1 + p.square(), padding=1),
        lambda x, z, u, p: lp(x, z, u, 1 + p.square()),
        (X, Z, Z, ()),
    ),
    "grouped_conv2d": Case(
        "grouped_conv2d",
        lambda x, weight: ops.grouped_conv2d(x, weight, padding=1, groups=2),
        lambda x, weight: F.conv2d(x, weight, padding=1, groups=2),
        ((2, 4, 3, 32), (4, 2, 3, 3)),
    ),
    "linear similarity": Case(
        "similarity",
        lambda x, z, u: ops.similarity(x, z, u, kind="linear", padding=1),
        lambda x, z, u: F.conv2d(x, z * u, padding=1),
        (X, Z, Z),
    ),
    "mex": Case(
        "mex",
        lambda x, beta: ops.mex(x, beta, dim=(1, 3)),
        lambda x, beta: log_mean_exp(x, beta, (1, 3)).squeeze((1, 3)),
        (X, ()),
    ),
    "mex_dense": Case(
        "mex_dense",
        ops.mex_dense,
        lambda x, offsets, beta: log_mean_exp(x[:, None] + offsets, beta, (2,)).squeeze(2),
        ((5, 3), (4, 3), ()),
    ),
    "mex_pool2d": Case("mex", lambda x, beta: ops.mex_pool2d(x, beta, 2), pooled, (X, (3,))),
    "global_mex_pool2d": Case(
        "mex", ops.global_mex_pool2d, lambda x, beta: log_mean_exp(x, beta, (2, 3)).squeeze((2, 3)), (X, ())
    ),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def drawn(case: Case, dtype: torch.dtype, seed: int = 0, count: tuple[int, ...] = ()) -> list[Tensor]:
    """Arguments, with as many axes in front as `count` has; beta and the order's root are between 0.5 and 1.5."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(count + shape, generator=generator, dtype=torch.float64).to(dtype)
        if len(shape) > 1
        else torch.rand(count + shape, generator=generator, dtype=torch.float64).add(0.5).to(dtype)
        for shape in case.shapes
    ]


def doubles(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.double() for tensor in tensors]


def total(function: Function) -> Function:
    """A scalar whose gradient is not the same everywhere."""
    return lambda *arguments: function(*arguments).tanh().sum()


@pytest.mark.parametrize("dtype", DTYPES)
def test_forward_mode(case: Case, dtype: torch.dtype) -> None:
    arguments, tangents = drawn(case, dtype), drawn(case, dtype, seed=1)
    expected = jvp(case.definition, tuple(doubles(arguments)), tuple(doubles(tangents)))[1]
    value, found = jvp(case.call, tuple(arguments), tuple(tangents))[:2]
    assert_close(case.operator, value, case.definition(*doubles(arguments)))
    assert_close(f"{case.operator}.gradient", found, expected)
    with forward_ad.dual_level():
        out = case.call(*map(forward_ad.make_dual, arguments, tangents))
        assert_close(f"{case.operator}.gradient", forward_ad.unpack_dual(out).tangent, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_of_every_sample(case: Case, dtype: torch.dtype) -> None:
    samples, every = drawn(case, dtype, count=(3,)), tuple(range(len(case.shapes)))
    assert_close(
        case.operator,
        vmap(case.call)(*samples),
        torch.stack([case.definition(*one) for one in zip(*doubles(samples), strict=True)]),
    )
    found = vmap(grad(total(case.call), every))(*samples)
    expected = [grad(total(case.definition), every)(*one) for one in zip(*doubles(samples), strict=True)]
    for part, parts in zip(found, zip(*expected, strict=True), strict=True):
        assert_close(f"{case.operator}.gradient", part, torch.stack(parts))


@pytest.mark.parametrize("dtype", DTYPES)
def test_second_derivatives(case: Case, dtype: torch.dtype) -> None:
    arguments = drawn(case, dtype)
    last = len(arguments) - 1
    found = hessian(total(case.call), last)(*arguments)
    assert_close(f"{case.operator}.gradient", found, hessian(total(case.definition), last)(*doubles(arguments)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_batched_backward_pass(case: Case, dtype: torch.dtype) -> None:
    x, *rest = drawn(case, dtype)
    out = case.call(x.requires_grad_(), *rest)
    directions = torch.eye(out.numel(), dtype=dtype).view(-1, *out.shape)
    (found,) = vmap(lambda g: torch.autograd.grad(out, x, g, retain_graph=True))(directions)
    assert not found.requires_grad
    expected = jacrev(case.definition)(*doubles([x.detach(), *rest])).flatten(0, out.ndim - 1)
    assert_close(f"{case.operator}.gradient", found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_beta(dtype: torch.dtype) -> None:
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=dtype)
    betas = torch.tensor([math.inf, 0.0, -math.inf, 1e-30], dtype=dtype)
    expected = torch.stack([x.amax(1), x.mean(1), x.amin(1), x.mean(1)])
    slopes = torch.stack(
        [
            (x == top[:, None]).to(dtype) if b.isinf() else torch.full_like(x, 0.25)
            for b, top in zip(betas, expected, strict=True)
        ]
    )
    for function in (
        lambda x, beta: ops.mex(x, beta, dim=1),
        lambda x, beta: ops.mex_dense(x, torch.zeros_like(x[:1]), beta)[:, 0],
        lambda x, beta: ops.global_mex_pool2d(x[:, None, :, None], beta)[:, 0],
    ):
        assert_close("mex", vmap(function, (None, 0))(x, betas), expected.double())
        found = vmap(grad(lambda x, beta, f=function: f(x, beta).sum()), (None, 0))(x, betas)
        assert_close("mex.gradient", found, slopes.double())


def test_missing_coordinates() -> None:
    x, z = torch.tensor([[1.0, math.nan]]), torch.tensor([[3.0, 5.0]])
    for order in (2.0, 1.0):
        found = jvp(lambda z, order=order: ops.similarity(x, z, order=order), (z,), (torch.ones_like(z),))[1]
        assert_close("similarity.gradient", found, [[-order * 2 ** (order - 1)]])


def test_gradients_of_every_image_in_a_network() -> None:
    torch.manual_seed(0)
    network = create_model("simnet3_compact").eval()
    images, labels = torch.randn(3, 3, 32, 32), torch.tensor([0, 1, 2])
    parameters = {name: parameter.detach() for name, parameter in network.named_parameters()}

    def loss(parameters: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        scores: Tensor = torch.func.functional_call(network, parameters, image[None])
        return F.cross_entropy(scores, label[None])

    found = vmap(grad(loss), (None, 0, 0))(parameters, images, labels)
    learned = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    for i in range(3):
        alone = F.cross_entropy(network(images[i : i + 1]), labels[i : i + 1])
        for name, expected in zip(learned, torch.autograd.grad(alone, list(learned.values())), strict=True):
            # Three layers, in each of which rounding is as large as the table says of one.
            torch.testing.assert_close(found[name][i], expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
