"""SimNets of linear and l_p similarities: shape and size by hand, folding against a slow reference, the twin."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.simnets.reference import simnet_reference, trained
from simroot.errors import ConfigError
from simroot.layers import GroupedConv2d, MexPool2d
from simroot.layers.blocks.inverted_residual import InvertedResidual
from simroot.layers.blocks.scaled import ScaledConv2d
from simroot.layers.norm import PatchWhitening
from simroot.models import create_model, deploy, relu_twin
from simroot.models.simnets.architecture import SimNet, Stage
from simroot.training import Recipe
from simroot.training.optim import parameter_groups

CASES = [{}, {"depth": 1}, {"depth": 3}, {"degree": 4}, {"order": 1.0}]


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def reference(model: nn.Sequential, x: Tensor) -> Tensor:
    """A deployed network in float64, each operator from its formula."""
    *below, simnet = model
    assert isinstance(simnet, SimNet)
    x = x.double()
    for layer in below:
        if isinstance(layer, nn.Conv2d):
            assert layer.bias is not None
            x = F.conv2d(x, layer.weight.double(), layer.bias.double(), padding=1, groups=layer.groups)
        elif isinstance(layer, MexPool2d):
            windows = x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
            x = windows.amax((3, 5)) if layer.beta == math.inf else windows.mean((3, 5))
        else:
            x = torch.maximum(x, torch.zeros_like(x))  # MEX of x and 0 at beta = inf
    return simnet_reference(simnet, x)


def test_size_by_hand() -> None:
    """c, 2c and 4c channels, two layers on each grid; half as many templates, their weights, beta of either MEX."""
    c, d, e, n = 5, 10, 20, 10
    filters = 9 * (3 * c + c * c + c * d + d * d + d * e + e * n) + 2 * c + 2 * d + e + n
    assert parameters(deploy(create_model("simnet_mixed", channels=5))) == filters + 2 * n * n + 10 * n + 2


@pytest.mark.parametrize("overrides", CASES)
@torch.no_grad()
def test_deployed_network_is_the_formula(overrides: dict[str, Any]) -> None:
    model = trained("simnet_mixed", **overrides)
    deployed = deploy(model)
    assert isinstance(deployed, nn.Sequential)
    x = torch.randn(3, 3, 32, 32)
    expected = reference(deployed, x)
    torch.testing.assert_close(model(x).double(), expected, rtol=1e-4, atol=1e-4)  # sums of some hundred in float32
    torch.testing.assert_close(deployed(x).double(), expected, rtol=1e-4, atol=1e-4)


def test_root_schedule_of_the_convolutions() -> None:
    model = create_model("simnet_mixed", channels=8, depth=2, degree=4)
    groups = [module.groups for module in model.modules() if isinstance(module, GroupedConv2d)]
    assert groups == [1, 4, 4, 4, 2, 2]


def test_size_of_the_mobile_one_by_hand() -> None:
    """A block of c to d channels has 4c between, which see c / 4; behind all a 1x1 convolution and templates for it."""

    def block(c: int, d: int, kernel: int, squeezed: int) -> int:
        hidden = 4 * c
        squeeze = squeezed * (2 * hidden + 1) + hidden if squeezed else 0
        return hidden * (c // 4 + 1) + hidden * (kernel**2 + 1) + squeeze + d * (hidden + 1)

    body = 4 * (27 + 1) + block(4, 4, 3, 0) + block(4, 8, 5, 1) + block(8, 16, 5, 2)
    head = 24 * (16 + 1) + 2 * 24 * 24 + 10 * 24 + 2
    assert parameters(deploy(create_model("simnet_mobile", channels=4, depth=1))) == body + head


def test_each_block_of_the_mobile_one_is_a_root_module() -> None:
    model = create_model("simnet_mobile", channels=8, depth=2)
    blocks = [module for module in model.modules() if isinstance(module, InvertedResidual)]
    groups = [[layer.groups for layer in block.layers if isinstance(layer, ScaledConv2d)] for block in blocks]
    assert groups == [[4, 4 * inputs, 1] for inputs in (8, 8, 8, 16, 16, 32)]


def test_offsets_of_the_mobile_one_move_at_a_ninth_of_the_rate() -> None:
    model = create_model("simnet_mobile")
    offsets = dict(model.named_parameters())["simnet.classifier.parametrizations.offsets.original"]
    groups = parameter_groups(model, Recipe(learning_rate=0.9, weight_decay=0.5))
    (group,) = [group for group in groups if any(each is offsets for each in group["params"])]
    assert (group["lr"], group["weight_decay"], len(group["params"])) == (pytest.approx(0.1), 0, 1)


@pytest.mark.parametrize("overrides", [{}, {"depth": 1}, {"groups": 1}, {"order": 1.0}])
@torch.no_grad()
def test_mobile_one_is_the_formula_behind_its_blocks(overrides: dict[str, Any]) -> None:
    model = trained("simnet_mobile", **overrides)
    deployed = deploy(model)
    assert isinstance(deployed, nn.Sequential)
    x = torch.randn(3, 3, 32, 32)
    *below, simnet = deployed.double()
    assert isinstance(simnet, SimNet)
    expected = simnet_reference(simnet, nn.Sequential(*below)(x.double()))
    torch.testing.assert_close(model(x).double(), expected, rtol=1e-4, atol=1e-4)  # float32 in some ten layers


@torch.no_grad()
def test_twin_has_the_same_layers_below_and_relus_above() -> None:
    model, twin = trained("simnet_mixed", degree=2), trained("simnet_mixed_twin", degree=2)
    below = list(model.named_children())[:-1]
    assert [name for name, _ in list(twin.named_children())[: len(below)]] == [name for name, _ in below]
    shapes = [m.weight.shape for m in deploy(model).modules() if isinstance(m, nn.Conv2d)]
    found = [m.weight.shape for m in deploy(twin).modules() if isinstance(m, nn.Conv2d)]
    assert found == [*shapes, (8, 8, 1, 1)]
    x = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(deploy(twin)(x), twin(x), rtol=1e-4, atol=1e-5)


def test_twin_whitens_the_patches_of_images_only() -> None:
    twin = relu_twin("simnet_mixed", whiten=True, channels=4)
    assert [name for name, module in twin.named_modules() if isinstance(module, PatchWhitening)] == ["conv1_1.patches"]


def test_features_must_not_be_padded() -> None:
    with pytest.raises(ConfigError, match="the first stage pads features by 1; expected a padding of 0"):
        SimNet((Stage(4, 4, 3, padding=1),), 10, 8, features=True)


@pytest.mark.parametrize("groups", [0, 2.0])
def test_groups_of_the_mobile_one_are_checked(groups: object) -> None:
    with pytest.raises(ConfigError, match="groups of simnet_mobile is"):
        create_model("simnet_mobile", groups=groups)


def test_too_small_images_are_refused() -> None:
    create_model("simnet_mixed", image_size=12)(torch.randn(2, 3, 12, 12))
    with pytest.raises(ConfigError, match="image_size of simnet_mixed is 11; the smallest that works is 12"):
        create_model("simnet_mixed", image_size=11)
