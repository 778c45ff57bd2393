"""Derivatives of the similarity operator in double precision, against differences of its values."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from ops.test_similarity import images, parameters, reference
from simroot import ops
from tolerances import assert_close

pytestmark = pytest.mark.without_kernels


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("p", [2.0, 1.0, 0.5, 1.37, 3.0])
def test_gradcheck(p: float, weighted: bool) -> None:
    x, (z, u, b) = images(n=1, c=2, h=3, w=3, dtype=torch.float64), parameters(2, 1, 2, 2, torch.float64)
    tensors = tuple(t.requires_grad_() for t in (x, z, b, *([u] if weighted else [])))

    def function(x: Tensor, z: Tensor, b: Tensor, u: Tensor | None = None) -> Tensor:
        return ops.similarity(x, z, u, order=p, bias=b, stride=(1, 2), padding=1, groups=2)

    assert gradcheck(function, tensors)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("p", "learned"), [(2.0, False), (1.0, False), (3.0, False), (1.5, False), (1.37, True), (3.0, True)]
)
def test_gradgradcheck(p: float, learned: bool) -> None:
    x, (z, u, _) = images(n=1, c=2, h=3, w=2, dtype=torch.float64), parameters(2, 2, 2, 1, torch.float64)
    order = torch.tensor(p, dtype=torch.float64, requires_grad=learned)
    tensors = tuple(t.requires_grad_() for t in (x, z, u)) + ((order,) if learned else ())

    def function(x: Tensor, z: Tensor, u: Tensor, q: Tensor = order) -> Tensor:
        return ops.similarity(x, z, u, order=q)

    assert gradcheck(function, tensors)
    assert gradgradcheck(function, tensors)


def test_second_derivative_does_not_follow_inputs_computed_from_each_other() -> None:
    x = images(n=1, c=2, h=1, w=1, dtype=torch.float64).requires_grad_()
    assert gradgradcheck(lambda x: ops.similarity(x, x**2 + 0.3, order=3.0), (x,))


def test_a_learned_order_of_two_has_a_gradient() -> None:
    x, (z, u, _) = images(n=1, h=3, w=3, dtype=torch.float64), parameters(dtype=torch.float64)
    order = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda q: ops.similarity(x, z, u, order=q), (order,))
    with torch.no_grad():
        assert_close("similarity", ops.similarity(x, z, u, order=order), *reference(x, z, u))


def test_functional_gradient() -> None:
    x, (z, u, _) = images(dtype=torch.float64), parameters(dtype=torch.float64)
    for p in (2.0, 1.0, 1.37):
        found = torch.func.grad(lambda z, p=p: ops.similarity(x, z, u, order=p).sum())(z)
        leaf = z.clone().requires_grad_()
        (expected,) = torch.autograd.grad(ops.similarity(x, leaf, u, order=p).sum(), leaf)
        assert_close("similarity.gradient", found, expected)
