"""Similarity layers: constraints, what is learned and what is fixed, and folding."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch

from simroot import ops
from simroot.errors import ConfigError
from simroot.layers import GroupedConv2d, Similarity2d, WhitenedSimilarity2d
from simroot.layers.parametrizations import SoftPositive


def seeded(layer: type[torch.nn.Module], *args: int, **options: Any) -> Any:
    torch.manual_seed(0)
    return layer(*args, **options)


@pytest.mark.parametrize("order", [0.5, 1.0, 2.0, 3.0])
def test_layer_is_the_operator_on_its_parameters(order: float) -> None:
    layer = seeded(Similarity2d, 4, 6, 3, order=order, padding=1, stride=2, groups=2, bias=True)
    x = torch.randn(2, 4, 7, 7)
    expected = ops.similarity(
        x, layer.templates, layer.weights, order=order, bias=layer.bias, stride=2, padding=1, groups=2
    )
    assert torch.equal(layer(x), expected)
    assert layer(x).shape == (2, 6, 4, 4)


def test_weights_and_order_stay_positive_whatever_the_optimiser_does() -> None:
    layer = seeded(Similarity2d, 3, 4, learn_order=True)
    optimiser = torch.optim.SGD(layer.parameters(), lr=5.0)
    for _ in range(5):
        layer(torch.randn(4, 3, 2, 2)).sum().neg().clamp(max=10).backward()
        optimiser.step()
        for parameter in layer.parameters():
            parameter.data.clamp_(-20, 20)
    assert (layer.weights > 0).all()
    assert layer.order > 0


def test_parameters_can_be_assigned_and_read_back() -> None:
    layer = seeded(Similarity2d, 3, 4, learn_order=True)
    weights, templates = torch.rand(4, 3, 1, 1) + 0.1, torch.randn(4, 3, 1, 1)
    with torch.no_grad():
        layer.weights, layer.templates, layer.order = weights, templates, torch.tensor(1.3)
    torch.testing.assert_close(layer.weights, weights)
    torch.testing.assert_close(layer.templates, templates)
    torch.testing.assert_close(layer.order, torch.tensor(1.3))


@pytest.mark.parametrize("fixed", ["templates", "weights", "order"])
def test_each_parameter_can_be_fixed(fixed: str) -> None:
    options = {f"learn_{name}": name != fixed for name in ("templates", "weights", "order")}
    layer = seeded(Similarity2d, 3, 4, order=1.5, **options)
    layer(torch.randn(2, 3, 4, 4)).square().sum().backward()
    trained = {
        name.split(".")[1] if "." in name else name for name, p in layer.named_parameters() if p.grad is not None
    }
    assert trained == {"templates", "weights", "order"} - {fixed}


def test_every_learned_parameter_gets_a_gradient_that_is_finite_and_not_zero() -> None:
    layer = seeded(Similarity2d, 3, 4, order=1.2, learn_order=True, bias=True)
    layer(torch.randn(2, 3, 4, 4)).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().max() > 0


def test_unweighted_layer_holds_templates_only() -> None:
    layer = seeded(Similarity2d, 3, 4, weighted=False)
    assert sum(p.numel() for p in layer.parameters()) == 12
    x = torch.randn(1, 3, 2, 2)
    expected = -(x[:, None] - layer.templates[:, :, 0, 0][None, :, :, None, None]).square().sum(2)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize(("kind", "weighted"), [("lp", True), ("lp", False), ("linear", True), ("linear", False)])
def test_folding_keeps_the_output_and_takes_up_a_scale(kind: Any, weighted: bool) -> None:
    layer = seeded(Similarity2d, 3, 4, 2, kind=kind, weighted=weighted, bias=True)
    torch.nn.init.normal_(layer.bias)
    x, scale = torch.randn(2, 3, 5, 5), torch.tensor([0.5, 1.0, 2.0, 7.0])
    untouched = copy.deepcopy(layer)
    folded = layer.folded(scale)
    assert not hasattr(folded, "parametrizations")
    torch.testing.assert_close(folded(x), layer(x) * scale[:, None, None], rtol=1e-4, atol=1e-4)  # templates are large
    assert torch.equal(untouched(x), layer(x)), "folding one copy must leave the others alone"


def test_layer_survives_copy_and_state_dict() -> None:
    layer = seeded(Similarity2d, 3, 4, learn_order=True)
    x = torch.randn(2, 3, 4, 4)
    other = Similarity2d(3, 4, learn_order=True)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer(x))
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        layer.weights = layer.weights * 2
    assert torch.equal(twin(x), other(x)), "a copy must read its own weights"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": 2}, "3 channels and 4 templates cannot be split into 2 groups"),
        ({"groups": 0}, "cannot be split into 0 groups"),
        ({"kind": "cosine"}, "kind is 'cosine'; expected 'lp' or 'linear'"),
        ({"order": 0.0}, "needs a finite p > 0"),
        ({"order": float("nan")}, "needs a finite p > 0"),
        ({"order": float("inf")}, "needs a finite p > 0"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Similarity2d(3, 4, **arguments)


@pytest.mark.parametrize("learned", [False, True])
def test_folding_leaves_fixed_parameters_fixed(learned: bool) -> None:
    layer = Similarity2d(3, 4, 2, learn_weights=learned, learn_templates=learned)
    folded = layer.folded()
    assert {name: one.requires_grad for name, one in folded.named_parameters()} == {
        "templates": learned,
        "weights": learned,
    }


def test_whitened_similarity_is_convolution_then_similarity_and_folds() -> None:
    layer = seeded(WhitenedSimilarity2d, 4, 6, 8, 3, noise=0.5, groups=2, similarity_groups=2, learn_order=True)
    x = torch.randn(8, 4, 9, 9)
    for _ in range(20):
        layer.train()(x)
    layer.eval()
    assert torch.equal(layer(x), layer.similarity(layer.conv(x)))
    folded = layer.folded()
    assert type(folded.conv) is GroupedConv2d
    torch.testing.assert_close(folded(x), layer(x), rtol=1e-4, atol=1e-4)  # float32 rounding of the folded filters


def test_noise_acts_in_training_only() -> None:
    layer = seeded(WhitenedSimilarity2d, 3, 4, 5, 3, noise=0.5)
    x = torch.randn(2, 3, 6, 6)
    layer.train()
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


@pytest.mark.parametrize("rate", [0.3, 1.0])
@pytest.mark.parametrize("value", [2e-3, 0.04, 1.0, 50.0, 1e6])
def test_soft_positive_gives_back_what_it_was_given(value: float, rate: float) -> None:
    soft, given = SoftPositive(0.05, rate), torch.tensor([value])
    torch.testing.assert_close(soft(soft.right_inverse(given)), given)  # float32 rounding


def test_soft_positive_has_a_smallest_value_and_a_gradient() -> None:
    soft = SoftPositive(0.05, 0.3)
    assert soft(soft.right_inverse(torch.tensor([0.0, 1e-9]))).tolist() == pytest.approx([5e-5, 5e-5])
    raw = torch.tensor([-100.0, 0.0, 100.0], requires_grad=True)
    values = soft(raw)
    assert values.tolist() == pytest.approx([5e-5, 0.05 * (math.log(2) + 1e-3), 30 + 5e-5])
    values.sum().backward()
    assert raw.grad is not None
    assert raw.grad.tolist() == pytest.approx([0.0, 0.15, 0.3])  # of softplus: a logistic function


def test_weights_are_learned_at_a_quarter_of_the_slopes_rate() -> None:
    """Both as coefficients of a polynomial in x, of which the rate of SoftPositive, 0.5, leaves a quarter."""
    layer = seeded(Similarity2d, 32, 4, from_origin=True).double()
    layer.weights = torch.full_like(layer.weights, 1.0)
    before = {name: getattr(layer, name).detach().clone() for name in ("templates", "weights")}
    x = torch.randn(500, 32, 1, 1, dtype=torch.float64)
    layer(x).square().mean().backward()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter -= 1e-6 * parameter.grad
    weights = layer.weights - before["weights"]
    slopes = 2 * (layer.weights * layer.templates - before["weights"] * before["templates"])
    y = x.flatten(1)
    s = y @ (2 * before["weights"] * before["templates"]).flatten(1).T - y.square() @ before["weights"].flatten(1).T
    torch.testing.assert_close(weights.flatten(1), 0.25e-6 * 2 * (s.T @ y.square()) / s.numel(), rtol=1e-4, atol=0)
    torch.testing.assert_close(slopes.flatten(1), -1e-6 * 2 * (s.T @ y) / s.numel(), rtol=1e-4, atol=0)
