"""Where formulas have their edges: ties, missing and broken values, outliers, graphs recorded for any beta."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ops.test_mex import INF, dense, normal
from ops.test_similarity import NAN
from ops.test_similarity import reference as formula
from simroot import ops
from simroot.layers import GlobalMexPool2d
from simroot.ops.similarity import Kind
from tolerances import assert_close


def recorded(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """What the function gives as an exported graph."""
    module = function
    if not isinstance(module, torch.nn.Module):
        module = torch.nn.Module()
        module.forward = function
    found: Tensor = torch.export.export(module, (x,)).module()(x)
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_second_derivatives_of_the_square_at_ties(dtype: torch.dtype) -> None:
    x, z = torch.tensor([[0.0, 0.0, 2.0]], dtype=dtype), torch.zeros(1, 3, dtype=dtype)
    hessian = torch.autograd.functional.hessian(lambda x: ops.similarity(x, z).sum(), x)
    assert torch.equal(hessian.view(3, 3), -2 * torch.eye(3, dtype=dtype))


def test_second_derivatives_where_only_the_bias_is_learned() -> None:
    x, z, bias = torch.ones(2, 3), torch.zeros(4, 3), torch.zeros(4, requires_grad=True)
    (found,) = torch.autograd.grad(ops.similarity(x, z, bias=bias).sum(), bias, create_graph=True)
    assert found.tolist() == [2.0] * 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("p", [1.0, 1.37])
def test_a_template_that_is_nan_is_not_hidden(p: float, dtype: torch.dtype) -> None:
    x, z = torch.ones(2, 3, dtype=dtype, requires_grad=True), torch.zeros(2, 3, dtype=dtype)
    z[0, 0] = NAN
    with torch.no_grad():
        assert ops.similarity(torch.full_like(x, NAN), z, order=p).tolist() == [[0.0] * 2] * 2
    for again in (False, True):
        out = ops.similarity(x, z, order=p)
        (gradient,) = torch.autograd.grad(out.sum(), x, create_graph=again)
        assert out[:, 0].isnan().all()
        assert out[:, 1].isfinite().all()
        assert p == 1 or gradient[:, 0].isnan().all()  # NaN has no sign


@pytest.mark.without_kernels
@pytest.mark.parametrize(("kind", "p"), [("lp", 1.0), ("lp", 2.0), ("lp", 1.37), ("linear", 2.0)])
def test_missing_coordinates_of_a_recorded_graph(kind: Kind, p: float) -> None:
    x, z = normal(2, 3, 5, 5), normal(4, 3, 2, 2, seed=1)
    x[0, 0, 1, 1] = NAN
    found = recorded(lambda x: ops.similarity(x, z, kind=kind, order=p), x)
    assert_close("similarity", found, *formula(x, z, kind=kind, p=p))


@pytest.mark.parametrize("where", ["row", "output"])
@pytest.mark.parametrize(("beta", "outlier"), [(1e-5, 1e6), (-1e-4, 1e5), (1e-3, 1e4)])
def test_an_outlier_does_not_spoil_the_others(beta: float, outlier: float, where: str) -> None:
    x, offsets = normal(5, 8), normal(3, 8, seed=1)
    (x[3] if where == "row" else offsets[1])[0] = outlier
    found: list[Tensor] = []
    expected: list[Tensor] = []
    for dtype, results in ((torch.float32, found), (torch.float64, expected)):
        tensors = [
            tensor.to(dtype).requires_grad_() for tensor in (x, offsets, torch.tensor(beta, dtype=torch.float64))
        ]
        out = ops.mex_dense(*tensors)
        others = out[:3] if where == "row" else out[:, ::2]
        results += [others, *torch.autograd.grad(others.sum(), tensors)]
    exact = torch.from_numpy(dense(x, offsets, beta))
    assert_close("mex_dense", expected[0], exact[:3] if where == "row" else exact[:, ::2])
    for one, other in zip(found, expected, strict=True):
        assert_close("mex_dense", one, other)


@pytest.mark.slow
@pytest.mark.without_kernels
@pytest.mark.parametrize("beta", [0.0, INF, -INF, 1e-8, -1e-4, 0.3, -5.0])
def test_recorded_graphs_take_any_beta(beta: float) -> None:
    x, offsets = normal(2, 5, 6, 6), normal(4, 5, seed=1)
    calls: list[Callable[[Tensor], Tensor]] = [
        lambda x: ops.mex(x, beta, dim=1),
        lambda x: ops.mex_dense(x, offsets.to(x), beta),
        lambda x: ops.mex_pool2d(x, beta, 2),
        lambda x: ops.global_mex_pool2d(x, beta),
    ]
    for call in calls:
        assert_close("mex_dense", recorded(call, x), call(x.double()))


@pytest.mark.without_kernels
@pytest.mark.parametrize("beta", [0.0, 1e-6, 2.0])
def test_recorded_layers_with_a_learned_beta(beta: float) -> None:
    x = normal(2, 5, 6, 6)
    pool = GlobalMexPool2d(beta=beta).eval()
    with torch.no_grad():
        assert_close("mex_dense", recorded(pool, x), pool(x).double())
