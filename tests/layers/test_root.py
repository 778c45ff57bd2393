"""Filter groups: root modules, unequal groups and the initialisation of composite layers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from simroot.errors import ConfigError
from simroot.layers import NormalisedConv2d, RootModule2d, UnevenConv2d
from simroot.layers.root import conv2d_in_groups, group_sizes, he_composite_, he_grouped_
from simroot.models import deploy


def dense_filters(parts: list[Tensor]) -> Tensor:
    """Filters of an ungrouped convolution with zeros where groups are not connected."""
    outputs, inputs = sum(len(part) for part in parts), sum(part.shape[1] for part in parts)
    weight = torch.zeros(outputs, inputs, *parts[0].shape[2:], dtype=parts[0].dtype)
    row = column = 0
    for part in parts:
        weight[row : row + len(part), column : column + part.shape[1]] = part
        row, column = row + len(part), column + part.shape[1]
    return weight


@pytest.mark.parametrize(
    ("groups", "channels", "sizes"),
    [(1, 5, [5]), (3, 12, [4, 4, 4]), ([2, 1, 1], 8, [4, 2, 2]), ([6, 2], 4, [3, 1]), (5, 12, None), (0, 4, None),
     ([], 4, None), ([1, 0], 4, None), ([1.0, 1.0], 4, None), ([2, 1], 4, None), (2.0, 4, None)],
)  # fmt: skip
def test_group_sizes(groups: int, channels: int, sizes: list[int] | None) -> None:
    assert group_sizes(groups, channels) == sizes


@pytest.mark.parametrize("groups", [1, 4, [2, 1, 1]])
def test_root_module_is_a_block_diagonal_convolution_and_a_dense_one(groups: int) -> None:
    torch.manual_seed(0)
    module = RootModule2d(8, 12, 3, groups=groups, filters=16, stride=2).double()
    x = torch.randn(3, 8, 7, 7, dtype=torch.float64)
    for _ in range(3):
        module(x)
    deployed = deploy(module.eval())
    spatial = deployed.get_submodule("spatial")
    convs = [m for m in spatial.modules() if isinstance(m, nn.Conv2d)]
    parts = [part for conv in convs for part in conv.weight.chunk(conv.groups)]
    bias = torch.cat([conv.bias for conv in convs if conv.bias is not None])
    embedding = deployed.get_submodule("embedding")
    assert isinstance(embedding, nn.Conv2d)
    hidden = conv2d(x, dense_filters(parts), bias, stride=2, padding=1).clamp(min=0)
    torch.testing.assert_close(deployed(x), conv2d(hidden, embedding.weight, embedding.bias))
    assert sum(part.numel() for part in parts) < 8 * 16 * 9 or groups == 1


def test_root_module_in_evaluation_is_its_deployed_form() -> None:
    torch.manual_seed(0)
    module = RootModule2d(8, 8, 3, groups=[3, 1]).double()
    x = torch.randn(4, 8, 5, 5, dtype=torch.float64) * 3 + 1
    module(x)
    module.eval()
    torch.testing.assert_close(deploy(module)(x), module(x))


def test_unequal_groups_have_their_own_channels() -> None:
    torch.manual_seed(0)
    conv = conv2d_in_groups(nn.Conv2d, 8, 4, 3, groups=[2, 1, 1], padding=1)
    assert isinstance(conv, UnevenConv2d)
    x = torch.randn(1, 8, 4, 4)
    changed = x.clone()
    changed[:, 4:6] += 1
    difference = (conv(changed) - conv(x)).abs().amax((0, 2, 3))
    assert (difference > 0).tolist() == [False, False, True, False]


def test_groups_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"8 input and 6 output channels cannot be split into groups 4"):
        conv2d_in_groups(nn.Conv2d, 8, 6, 3, groups=4)


def test_composite_layers_keep_the_variance_of_the_gradient() -> None:
    """Filters of all parts share sigma = sqrt(2 / sum w h d), d filters a group; biases are zero."""
    torch.manual_seed(0)
    parts = [nn.Conv2d(64, 96, 1), nn.Conv2d(64, 128, 3, groups=4), nn.Conv2d(64, 32, (1, 5), bias=False)]
    he_composite_(*parts)
    sigma = math.sqrt(2 / (96 + 9 * 128 / 4 + 5 * 32))
    for part in parts:
        # thousands of draws: their deviation is known to a percent or two
        assert part.weight.std().item() == pytest.approx(sigma, rel=0.04)
        assert part.bias is None or not part.bias.any()


def test_unequal_groups_are_layers_of_their_own() -> None:
    torch.manual_seed(0)
    conv = conv2d_in_groups(NormalisedConv2d, 64, 64, 3, groups=[3, 1])
    assert isinstance(conv, UnevenConv2d)
    he_grouped_(conv)
    for part, outputs in zip(conv.parts, (48, 16), strict=True):
        assert isinstance(part, nn.Conv2d)
        assert part.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * outputs)), rel=0.05)
