"""The counter: attribution to layers, what is free, what it leaves untouched, and its errors."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.flop_counter import FlopCounterMode

from measure.modules import Lambda
from simroot import ops
from simroot.errors import ConfigError, UnknownOperatorError
from simroot.layers import FoldedNorm2d
from simroot.measure import Cost, LayerCost, count, formulas, register_cost
from simroot.ops.cost import OpCost


class Residual(nn.Module):
    """A container with an operator and a parameter of its own: relu(scale * block(x) + x)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Conv2d(channels, channels, 3, padding=1)
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.scale * self.block(x) + x)


@pytest.fixture
def scratch_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formulas, "_FORMULAS", dict(formulas._FORMULAS))


def flops_of(function: Any, *shape: int) -> int:
    return count(Lambda(function), shape).flops


def test_a_small_network_by_hand() -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(6 * 4 * 4, 5, bias=False),
    )
    convolution = 6 * 2 * 9 * 64
    linear = 96 * 5
    assert count(model, (4, 16, 16)) == Cost(
        parameters=114 + 480,
        macs=convolution + linear,
        flops=2 * convolution + 384 + 384 + 96 * 3 + 2 * linear,
        layers=(
            LayerCost("0", "Conv2d", (6, 8, 8), 114, convolution, 2 * convolution + 384),
            LayerCost("1", "ReLU", (6, 8, 8), 0, 0, 384),
            LayerCost("2", "MaxPool2d", (6, 4, 4), 0, 0, 96 * 3),
            LayerCost("3", "Flatten", (96,), 0, 0, 0),
            LayerCost("4", "Linear", (5,), 480, linear, 2 * linear),
        ),
    )


def test_a_network_that_is_one_layer_and_takes_vectors() -> None:
    assert count(nn.Linear(7, 3), (7,)).layers == (LayerCost("", "Linear", (3,), 24, 21, 45),)


def test_operators_of_a_container_are_rows_of_their_own() -> None:
    layers = count(nn.Sequential(Residual(2)), (2, 5, 5)).layers
    assert [(layer.name, layer.kind) for layer in layers] == [
        ("0.block", "Conv2d"),
        ("0", "mul"),
        ("0", "add"),
        ("0", "relu"),
    ]
    assert [layer.parameters for layer in layers] == [38, 2, 0, 0]
    assert [layer.flops for layer in layers[1:]] == [50, 50, 50]


def test_a_module_called_twice_is_two_rows_with_its_parameters_once() -> None:
    shared = nn.Linear(4, 4)
    cost = count(nn.Sequential(shared, nn.ReLU(), shared), (4,))
    assert [(layer.name, layer.kind, layer.parameters) for layer in cost.layers] == [
        ("0", "Linear", 20),
        ("1", "ReLU", 0),
        ("0", "Linear", 0),
    ]
    assert (cost.parameters, cost.macs) == (20, 32)


def test_a_parameter_of_two_modules_counts_once() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    cost = count(nn.Sequential(first, second), (4,))
    assert [layer.parameters for layer in cost.layers] == [20, 4]
    assert cost.parameters == 24


def test_parameters_that_evaluation_does_not_use_are_in_the_total_only() -> None:
    with torch.device("meta"):
        model = torchvision.models.googlenet(weights=None, aux_logits=True, init_weights=False)
    cost = count(model, (3, 64, 64))
    assert cost.parameters == 13_004_888
    assert sum(layer.parameters for layer in cost.layers) == 6_624_904


def test_what_depends_on_parameters_alone_is_free() -> None:
    plain, parametrised = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
    parametrize.register_parametrization(parametrised, "weight", Lambda(lambda w: torch.special.entr(w.exp())))
    assert count(parametrised, (3, 8, 8)) == count(plain, (3, 8, 8))
    frequencies = torch.arange(4.0)
    assert flops_of(lambda x: x * torch.sin(frequencies).cumprod(0), 4) == 4


def test_folded_normalisation_is_free() -> None:
    cost = count(nn.Sequential(FoldedNorm2d(3), nn.Sequential(FoldedNorm2d(3), nn.ReLU())), (3, 4, 4))
    assert (cost.flops, [layer.kind for layer in cost.layers]) == (48, ["ReLU"])


def test_an_identity_has_no_row() -> None:
    assert [layer.kind for layer in count(nn.Sequential(nn.Identity(), nn.ReLU()), (4,)).layers] == ["ReLU"]


def test_dependence_follows_writes_into_a_new_tensor() -> None:
    def padded(x: Tensor) -> Tensor:
        out = torch.zeros(1, 10)
        out[:, 3:7] = x
        return out.exp()

    assert flops_of(padded, 4) == 100


def test_work_after_a_layer_that_leaves_torch_is_still_counted() -> None:
    model = nn.Sequential(Lambda(lambda x: torch.tensor(x.tolist())), nn.ReLU())
    assert count(model, (4,)).flops == 4


@pytest.mark.parametrize("kind", ["lp", "linear"])
@pytest.mark.parametrize("order", [1.0, 2.0, 1.5, torch.tensor(1.5)])
def test_a_similarity_is_one_call_with_its_own_formula(kind: Literal["lp", "linear"], order: float | Tensor) -> None:
    templates, bias = torch.rand(6, 2, 3, 3), torch.rand(6)
    model = Lambda(
        lambda x: ops.similarity(x, templates, templates, order=order, kind=kind, bias=bias, stride=2, groups=2)
    )
    macs = 6 * 9 * 18
    per_coordinate = 2 if kind == "linear" else 4 if order in (1, 2) else 24
    cost = count(model, (4, 7, 7))
    assert (cost.macs, cost.flops) == (macs, macs * per_coordinate + 54)


def test_an_unweighted_similarity_of_vectors() -> None:
    templates = torch.rand(5, 4)
    cost = count(Lambda(lambda x: ops.similarity(x, templates)), (4,))
    assert (cost.macs, cost.flops) == (20, 60)


def test_mex_operators_by_hand() -> None:
    def dense(x: Tensor) -> Tensor:
        return ops.mex_dense(x, torch.zeros(3, 4), 1.5)

    assert flops_of(lambda x: ops.mex(x, 1.5, dim=1), 4, 5) == 5 * (4 * 11 + 10)
    assert flops_of(dense, 4, 2, 2) == 2 * 4 * 3 * 4 + 4 * (4 + 3) * 10
    assert flops_of(lambda x: ops.mex_pool2d(x, 1.5, 3, 2), 4, 7, 7) == 36 * (9 * 11 + 10)
    assert flops_of(lambda x: ops.mex_pool2d(x, torch.tensor([0.0, 1.5]), (1, 2)), 2, 2, 2) == 4 * (2 * 11 + 10)
    assert flops_of(lambda x: ops.mex_pool2d(x, float("inf"), 3, 2), 4, 7, 7) == 36 * 9
    assert flops_of(lambda x: ops.global_mex_pool2d(x, 1.5), 4, 5, 5) == 4 * (25 * 11 + 10)


def test_noise_is_free_because_it_is_for_training_only() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return ops.multiplicative_noise(x, 0.5, training=self.training)

    assert count(Noisy(), (4,)).flops == 0


@pytest.mark.parametrize("size", [(3, 8, 8), (5, 8, 8)], ids=["success", "failure"])
def test_the_network_is_left_as_it_was(size: tuple[int, int, int]) -> None:
    noisy = Lambda(lambda x: x + torch.rand(1))
    model = nn.Sequential(noisy, nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), FoldedNorm2d(4), nn.Conv2d(4, 2, 1))
    model.train()
    model[2].eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    if size[0] == 3:
        count(model, size)
    else:
        with pytest.raises(ConfigError):
            count(model, size)
    assert [module.training for module in model.modules()] == [True, True, True, False, True, True]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random_state)
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_example_has_the_networks_type() -> None:
    assert count(nn.Linear(3, 2).double(), (3,)).macs == 6
    assert count(nn.Linear(3, 2).to(torch.bfloat16), (3,)).macs == 6


@pytest.mark.usefixtures("scratch_formulas")
def test_an_unknown_operator_is_an_error_that_says_what_to_do() -> None:
    model = nn.Sequential(nn.ReLU(), Lambda(lambda x: x.cumprod(1)))
    with pytest.raises(
        UnknownOperatorError,
        match=r"no cost formula for torch\.ops\.aten\.cumprod, called by layer '1' \(Lambda\); .*register_cost",
    ):
        count(model, (4,))

    @register_cost(torch.ops.aten.cumprod)
    def cumprod(output: Tensor, x: Tensor, dim: int) -> OpCost:
        return OpCost(0, x.numel())

    assert count(model, (4,)).flops == 8


@pytest.mark.usefixtures("scratch_formulas")
def test_a_python_function_can_have_a_formula_of_its_own() -> None:
    @register_cost(nn.functional.normalize)
    def normalize(output: Tensor, x: Tensor, **kwargs: Any) -> OpCost:
        return OpCost(1, 1000)

    layers = count(nn.Sequential(Lambda(lambda x: nn.functional.normalize(x, dim=1)), nn.ReLU()), (4,)).layers
    assert [(layer.macs, layer.flops) for layer in layers] == [(1, 1000), (0, 4)]


@pytest.mark.parametrize("size", [(), 3, (3, 0, 8), (3, 8.0, 8), (-1,), "abc", None])
def test_an_input_size_that_is_no_shape(size: Any) -> None:
    with pytest.raises(ConfigError, match="expected positive integers"):
        count(nn.Identity(), size)


@pytest.mark.parametrize("size", [(4, 8, 8), (3, 2, 2), (3,)])
def test_an_input_size_that_the_network_cannot_process(size: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"Conv2d cannot process an example of shape \(.*\): "):
        count(nn.Conv2d(3, 4, 3), size)


@pytest.mark.parametrize("forward", [lambda x: x["a"], lambda x: x.nothing, lambda x: {"b": x}["a"], lambda: None])
def test_whatever_the_network_raises_names_it(forward: Any) -> None:
    with pytest.raises(ConfigError, match=r"Lambda cannot process an example of shape \(3,\): ."):
        count(Lambda(forward), (3,))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "image_size", "macs"),
    [
        ("resnet50", 224, 4_089_184_256),
        ("vgg11_bn", 64, None),
        ("densenet121", 64, None),
        ("mobilenet_v3_small", 64, None),
        ("efficientnet_b0", 64, None),
        ("convnext_tiny", 64, None),
        ("regnet_y_400mf", 64, None),
        ("shufflenet_v2_x0_5", 64, None),
        ("swin_t", 64, None),
    ],
)
def test_torchvision_networks_agree_with_pytorchs_counter(name: str, image_size: int, macs: int | None) -> None:
    """PyTorch's counter knows convolutions and matrix products, and counts two per multiply-accumulate."""
    # Shapes are all that counts; RegNet computes its widths with tensors.
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        model = torchvision.models.get_model(name, weights=None).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as reference:
            model(torch.zeros(1, 3, image_size, image_size))
    cost = count(model, (3, image_size, image_size))
    assert 2 * cost.macs == reference.get_total_flops()
    assert macs in (None, cost.macs)
    assert 2 * cost.macs < cost.flops < 2.6 * cost.macs
    assert cost.parameters == sum(p.numel() for p in model.parameters())
    assert cost.parameters == sum(layer.parameters for layer in cost.layers)
