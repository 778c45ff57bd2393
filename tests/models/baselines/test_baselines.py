"""Rivals: sizes that their authors print, blocks as they are described, folding, refused arguments."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simroot.errors import ConfigError
from simroot.layers.blocks.preactivation import PreActivationBlock, subspace, unconstrained
from simroot.models import create_model, deploy
from simroot.models.baselines.mlperf import ProjectedBlock
from simroot.models.baselines.tiniest import ChannelNorm2d, GatedBlock

NAMES = ["bsconv_wrn_s", "bsconv_wrn_u", "mlperf_resnet8", "tiniest"]

# Batch normalisation of the image, with which the authors of BSConv count and which is the data's here.
IMAGE_NORM = 2 * 3


@pytest.mark.parametrize(
    ("name", "overrides", "printed"),
    [
        ("bsconv_wrn_s", {}, 18_663 - IMAGE_NORM),
        ("bsconv_wrn_s", {"channels": 32}, 60_647 - IMAGE_NORM),
        ("bsconv_wrn_s", {"channels": 48, "depth": 4}, 240_455 - IMAGE_NORM),
        ("bsconv_wrn_u", {"depth": 4}, 53_744 - IMAGE_NORM),
        ("tiniest", {}, 97_530),
    ],
)
def test_parameters_in_training_are_those_printed(name: str, overrides: dict[str, Any], printed: int) -> None:
    assert sum(p.numel() for p in create_model(name, **overrides).parameters()) == printed


def test_mlperf_resnet8_by_hand() -> None:
    """Keras prints 78,666 with four numbers for each normalised channel, of which folding leaves one."""
    stem, blocks = 27 * 16, 9 * (2 * 16**2 + (16 * 32 + 32**2) + (32 * 64 + 64**2))
    biases, shortcuts = 3 * 16 + 2 * 32 + 2 * 64, (16 * 32 + 32) + (32 * 64 + 64)
    deployed = stem + blocks + biases + shortcuts + 65 * 10
    assert sum(p.numel() for p in deploy(create_model("mlperf_resnet8")).parameters()) == deployed
    # Keras: a bias for each convolution, and gain, offset, mean and variance for each normalised channel.
    assert deployed + 4 * biases == 78_666


@torch.no_grad()
def shaken(model: nn.Module) -> nn.Module:
    """The network with normalisations away from their first values, in evaluation."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point() and name.rpartition(".")[2] in {"gain", "bias", "mean", "var", "running_var"}:
            tensor.add_(0.5 * torch.rand(tensor.shape, generator=generator))
    return model.eval()


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_folding_changes_nothing(name: str) -> None:
    torch.manual_seed(0)
    model = shaken(create_model(name, channels=4))
    x = torch.randn(3, 3, 12, 12)
    torch.testing.assert_close(deploy(model)(x), model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("embedding", [subspace, unconstrained])
@torch.no_grad()
def test_blueprint_separable_filters_are_one_spatial_filter_for_all_inputs(embedding: Any) -> None:
    """A separable convolution is a 3x3 convolution whose filters W[n, m] are B[n] times a weight for each input m."""
    torch.manual_seed(0)
    block = PreActivationBlock(6, 6, 1, embedding).eval()
    *pointwise, depthwise = (layer for layer in deploy(block.conv2).modules() if isinstance(layer, nn.Conv2d))
    mixing = torch.eye(6)
    for layer in pointwise:
        mixing = layer.weight[:, :, 0, 0] @ mixing
    spatial = depthwise.weight[:, 0]
    x = torch.randn(2, 6, 5, 5)
    expected = F.conv2d(x, mixing[:, :, None, None] * spatial[:, None], padding=1)
    torch.testing.assert_close(block.conv2(x), expected, rtol=1e-4, atol=1e-5)


def test_subspace_has_a_quarter_of_the_channels_and_at_least_four() -> None:
    middles = [subspace(inputs, 8)["pointwise1"].out_channels for inputs in (3, 4, 16, 17, 64)]
    assert middles == [3, 4, 4, 5, 16]


@torch.no_grad()
def test_pre_activation_block_keeps_what_it_adds_to() -> None:
    block = PreActivationBlock(4, 4, 1, unconstrained).eval()
    block.conv2[-1].weight.zero_()  # type: ignore[operator]
    x = torch.randn(1, 4, 5, 5)
    assert torch.equal(block(x), x)
    halving = PreActivationBlock(4, 8, 2, unconstrained)
    assert halving(x).shape == (1, 8, 3, 3)


@torch.no_grad()
def test_projected_block_adds_its_shortcut() -> None:
    torch.manual_seed(0)
    block = ProjectedBlock(3, 6, 2).eval()
    block.conv2.gain.zero_()
    x = torch.randn(1, 3, 6, 6)
    assert block.shortcut is not None
    torch.testing.assert_close(block(x), F.relu(block.shortcut(x[:, :, ::2, ::2])))
    assert ProjectedBlock(4, 4, 1).shortcut is None


def gated_by_hand(block: GatedBlock, x: Tensor) -> Tensor:
    same, near, far, farthest = x.split(x.shape[1] // 4, dim=1)
    near = F.conv2d(near, block.near.weight, block.near.bias, padding=1, groups=2)
    far = F.conv2d(far, block.far.weight, block.far.bias, padding=3, groups=2)
    dilated = block.farthest[1]
    assert isinstance(dilated, nn.Conv2d)
    farthest = F.conv2d(F.avg_pool2d(farthest, 3, 1, 1), dilated.weight, dilated.bias, padding=9, dilation=3, groups=2)
    y = torch.cat((same, near, far, farthest), dim=1)
    mean, variance = y.mean(1, keepdim=True), y.var(1, keepdim=True, unbiased=False)
    y = (y - mean) / (variance + 1e-5).sqrt() * block.norm.weight[:, None, None] + block.norm.bias[:, None, None]
    hidden = F.conv2d(y, block.expand.weight, block.expand.bias)
    a, b = hidden[:, :8], hidden[:, 8:]
    gated = torch.tanh(torch.exp(a)) * a * b
    return F.conv2d(gated, block.project.weight, block.project.bias) + block.scale[:, None, None] * x


@torch.no_grad()
def test_gated_block_by_hand() -> None:
    torch.manual_seed(0)
    block = GatedBlock(8)
    for parameter in (block.norm.weight, block.norm.bias, block.scale):
        parameter.add_(torch.rand(8))
    x = torch.randn(2, 8, 9, 9)
    torch.testing.assert_close(block(x), gated_by_hand(block, x), rtol=1e-4, atol=1e-5)
    assert ChannelNorm2d(8)(x).shape == x.shape


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("tiniest", {"channels": 10}, "channels of tiniest is 10; expected a multiple of 4"),
        ("tiniest", {"depth": 0}, "depth of tiniest is 0"),
        ("tiniest", {"image_size": 3}, "image_size of tiniest is 3; the smallest that works is 4"),
        ("bsconv_wrn_s", {"channels": 0}, "channels of bsconv_wrn_s is 0; expected a number above 0"),
        ("bsconv_wrn_u", {"depth": 0}, "depth of bsconv_wrn_u is 0"),
        ("mlperf_resnet8", {"channels": float("nan")}, "channels of mlperf_resnet8 is nan"),
    ],
)
def test_unusable_arguments(name: str, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_model(name, **overrides)
