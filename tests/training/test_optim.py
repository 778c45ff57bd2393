from collections.abc import Mapping
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from simroot.errors import ConfigError
from simroot.training import RECIPES, Recipe, build_optimizer, parameter_groups, recipe, schedule_factor
from simroot.training.optim import build_schedule


class Exponential(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.exp()

    def right_inverse(self, x: Tensor) -> Tensor:
        return x.log()


class Pair(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x * y

    def right_inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, torch.ones_like(x)


class Hinted(nn.Module):
    training_hints: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "beta": {"lr": 0.1, "weight_decay": 0.0},
        "scale": {"weight_decay": 2.0},
        "order": {"lr": 0.25},
    }

    def __init__(self) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.ones(2, 2))
        self.scale = nn.Parameter(torch.ones(3))
        self.order = nn.Parameter(torch.ones(2, 3))
        self.templates = nn.Parameter(torch.ones(4, 2))
        self.bias = nn.Parameter(torch.ones(4))
        self.fixed = nn.Parameter(torch.ones(2, 2), requires_grad=False)
        self.inner = nn.Linear(2, 3)
        parametrize.register_parametrization(self, "scale", Exponential())
        parametrize.register_parametrization(self, "order", Pair())


def test_parameter_groups_follow_the_hints() -> None:
    model = nn.Sequential(Hinted(), nn.Linear(3, 2))
    groups = parameter_groups(model, recipe(learning_rate=0.5, weight_decay=0.01))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {names[id(p)]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert found == {
        "0.beta": (0.05, 0.0),
        "0.parametrizations.scale.original": (0.5, 0.02),
        "0.parametrizations.order.original0": (0.125, 0.01),
        "0.parametrizations.order.original1": (0.125, 0.01),
        "0.templates": (0.5, 0.01),
        "0.bias": (0.5, 0.0),
        "0.inner.weight": (0.5, 0.01),
        "0.inner.bias": (0.5, 0.0),
        "1.weight": (0.5, 0.01),
        "1.bias": (0.5, 0.0),
    }
    assert sum(len(group["params"]) for group in groups) == len(found)
    assert len(groups) == len(set(found.values()))


def test_wrong_hint() -> None:
    model = Hinted()
    model.training_hints = {"bias": {"rate": 2.0}}  # type: ignore[misc]
    with pytest.raises(ConfigError, match=r"Hinted\.bias names rate; expected lr or weight_decay"):
        parameter_groups(model, Recipe())


def test_nothing_to_train() -> None:
    with pytest.raises(ConfigError, match="no parameter to train"):
        build_optimizer(nn.ReLU(), Recipe())


def test_sgd_is_nesterovs_formula() -> None:
    chosen = recipe(learning_rate=0.1, momentum=0.8, weight_decay=0.01)
    layer = nn.Linear(3, 2, bias=False)
    optimizer = build_optimizer(layer, chosen)
    weight = layer.weight.detach().double().clone()
    velocity = torch.zeros_like(weight)
    for _ in range(4):
        gradient = torch.randn(2, 3, generator=torch.Generator().manual_seed(3))
        layer.weight.grad = gradient.clone()
        optimizer.step()
        step = gradient.double() + 0.01 * weight
        velocity = 0.8 * velocity + step
        weight -= 0.1 * (step + 0.8 * velocity)
    torch.testing.assert_close(layer.weight.detach().double(), weight, rtol=1e-5, atol=1e-6)


def test_adamw_takes_momentum_as_its_first_beta() -> None:
    optimizer = build_optimizer(nn.Linear(2, 2), recipe(optimizer="adamw", momentum=0.8))
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.defaults["betas"] == (0.8, 0.999)


def test_muon_is_its_formula() -> None:
    """Against the orthogonal matrix of a decomposition: the iteration leaves singular values between 0.6 and 1.3."""
    layer = nn.Conv2d(2, 6, 1)
    optimizer = build_optimizer(layer, recipe(optimizer="muon", learning_rate=0.1, momentum=0.8, weight_decay=0.01))
    weight, bias = layer.weight.detach().flatten(1).clone(), layer.bias.detach().clone()  # type: ignore[union-attr]
    buffers = torch.zeros(6, 2), torch.zeros(6)
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        gradients = torch.randn(6, 2, generator=generator), torch.randn(6, generator=generator)
        layer.weight.grad, layer.bias.grad = gradients[0].view(6, 2, 1, 1).clone(), gradients[1].clone()  # type: ignore[union-attr]
        before = layer.weight.detach().flatten(1).clone()
        optimizer.step()
        buffers = (0.8 * buffers[0] + gradients[0], 0.8 * buffers[1] + gradients[1])
        bias = bias - 0.1 * (gradients[1] + 0.8 * buffers[1])  # no decay below two dimensions
        step = (before * (1 - 0.1 * 0.01) - layer.weight.detach().flatten(1)) / (0.1 * 3**0.5)
        left, _, right = torch.linalg.svd(gradients[0] + 0.8 * buffers[0], full_matrices=False)
        values = left.T @ step @ right.T
        assert (values - values.diagonal().diag()).abs().max() < 1e-4
        assert ((values.diagonal() > 0.6) & (values.diagonal() < 1.3)).all()
    assert not torch.equal(weight, layer.weight.detach().flatten(1))
    torch.testing.assert_close(layer.bias.detach(), bias)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_fused_where_torch_can(name: str) -> None:
    chosen = recipe(optimizer=name)
    assert all(group["fused"] for group in build_optimizer(Hinted(), chosen).param_groups)
    with torch.device("meta"):
        elsewhere = nn.Linear(2, 2)
    assert not any(group["fused"] for group in build_optimizer(elsewhere, chosen).param_groups)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_fused_takes_the_same_steps(name: str) -> None:
    def trained(fused: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        layer = nn.Linear(7, 3)
        optimizer = build_optimizer(layer, recipe(optimizer=name, weight_decay=0.1))
        for group in optimizer.param_groups:
            group["fused"] = fused
        for _ in range(5):
            optimizer.zero_grad()
            layer(torch.randn(4, 7)).square().sum().backward()
            optimizer.step()
        return [parameter.detach() for parameter in layer.parameters()]

    torch.testing.assert_close(trained(fused=True), trained(fused=False), rtol=1e-5, atol=1e-6)


def factors(chosen: Recipe, steps_per_epoch: int) -> list[float]:
    return [schedule_factor(chosen, step, steps_per_epoch) for step in range(chosen.epochs * steps_per_epoch)]


@pytest.mark.parametrize("warmup", [0.1, 0.25, 0.5])
def test_onecycle_is_that_of_torch(warmup: float) -> None:
    chosen = recipe(epochs=4, warmup=warmup, learning_rate=0.3)
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=40, pct_start=warmup, cycle_momentum=False)
    expected = []
    for _ in range(40):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        cycle.step() if len(expected) < 40 else None
    assert factors(chosen, 10) == pytest.approx(expected, rel=1e-6)


def test_paper_lowers_the_rate_after_200_and_250_epochs() -> None:
    rates = factors(RECIPES["paper"], 7)
    assert rates[: 200 * 7] == [1.0] * 1400
    assert rates[200 * 7 : 250 * 7] == pytest.approx([0.1] * 350)
    assert rates[250 * 7 :] == pytest.approx([0.01] * 350)


def test_milestones_in_epochs() -> None:
    rates = factors(recipe(epochs=6, schedule="step", milestones=(2, 5), gamma=0.5, warmup=0.0), 1)
    assert rates == [1, 1, 0.5, 0.5, 0.5, 0.25]


def test_cosine_rises_then_falls_to_zero() -> None:
    rates = factors(recipe(epochs=10, schedule="cosine", warmup=0.4), 1)
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[7] == pytest.approx(0.5)
    assert schedule_factor(recipe(epochs=1000, schedule="cosine"), 999, 1) < 1e-5


def test_constant_and_shortest() -> None:
    assert factors(recipe(epochs=3, schedule="constant", warmup=0.0), 2) == [1.0] * 6
    for name in ("onecycle", "cosine", "constant"):
        for warmup in (0.0, 0.3):
            assert all(0 < factor <= 1 for factor in factors(recipe(epochs=1, schedule=name, warmup=warmup), 1))
    # Beyond the end counts as the last step.
    assert schedule_factor(Recipe(epochs=2), 99, 5) == schedule_factor(Recipe(epochs=2), 9, 5)


def test_schedule_scales_every_group_alike() -> None:
    chosen = recipe(epochs=2, learning_rate=0.5)
    optimizer = build_optimizer(nn.Sequential(Hinted()), chosen)
    first = [group["lr"] for group in optimizer.param_groups]
    schedule = build_schedule(optimizer, chosen, 3)
    for step in range(6):
        expected = [rate * schedule_factor(chosen, step, 3) for rate in first]
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(expected)
        optimizer.step()
        schedule.step()
