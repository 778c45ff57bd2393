"""Compact networks: sizes by hand, blocks as their papers describe them, folding, refused arguments."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simroot.errors import ConfigError
from simroot.layers.blocks.basic_block import BasicBlock
from simroot.layers.blocks.inverted_residual import InvertedResidual, MobileStage
from simroot.layers.blocks.scaled import ScaledConv2d
from simroot.layers.blocks.squeeze_excitation import SqueezeExcitation
from simroot.models import create_model, deploy
from simroot.models.baselines.stages import stage_channels
from simroot.models.simnets.architecture import SimNet

CONVNETS = ["resnet20", "mobilenet_v2_compact", "mobilenet_v3_compact", "convnet_plain"]
SIMNETS = ["simnet_pyramid", "simnet_pyramid_twin", "simnet_mixed", "simnet_mixed_twin", "simnet_mobile"]
FAMILIES = [*CONVNETS, *SIMNETS, "simnet_residual", "simnet_residual_twin"]


def parameters(name: str, **overrides: Any) -> int:
    return sum(p.numel() for p in deploy(create_model(name, **overrides)).parameters())


@torch.no_grad()
def shaken(model: nn.Module) -> nn.Module:
    """The network with parameters and statistics away from their first values, in evaluation."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name.endswith(("gain", "bias", "mean", "var")):
            tensor.add_(0.5 * torch.rand(tensor.shape, generator=generator))
    return model.eval()


@torch.no_grad()
def outputs(model: nn.Module, x: Tensor) -> Tensor:
    scores: Tensor = model(x)
    return scores


def test_resnet20_has_the_papers_size() -> None:
    """0.27 M parameters (He et al., table 6): filters of 19 convolutions and a linear layer, a bias per channel."""
    filters = 9 * (3 * 16 + 6 * 16**2 + (16 * 32 + 5 * 32**2) + (32 * 64 + 5 * 64**2))
    biases = 16 + 6 * (16 + 32 + 64)
    assert parameters("resnet20") == filters + biases + 65 * 10
    assert parameters("resnet20", depth=1) == parameters("resnet20") - 4 * 9 * (16**2 + 32**2 + 64**2) - 4 * 112


def test_plain_convnet_by_hand() -> None:
    c, d, e = 5, 10, 20
    weights = 9 * (3 * c + c * c + c * d + d * d + d * e + e * e) + 10 * e
    assert parameters("convnet_plain", channels=5) == weights + 2 * (c + d + e) + 10


def test_mobilenets_by_hand() -> None:
    """Expansion t: t c^2 + t c k^2 + t c d weights and 2 t c + d biases; squeeze-excitation t c (t c / 4) twice."""
    c, d, e = 4, 8, 16

    def block(inputs: int, outputs: int, t: int, k: int, squeeze: bool) -> int:
        hidden = t * inputs
        gate = 2 * hidden * (hidden // 4) + hidden + hidden // 4
        return hidden * (inputs + k * k + outputs) + 2 * hidden + outputs + squeeze * gate

    stem = 27 * c + c
    v2 = sum(block(*widths, 6, 3, False) for widths in ((c, c), (c, d), (d, e)))
    v2_head = e * 4 * e + 4 * e + 4 * e * 10 + 10
    assert parameters("mobilenet_v2_compact", channels=4, depth=1) == stem + v2 + v2_head
    v3 = block(c, c, 4, 3, False) + block(c, d, 4, 5, True) + block(d, e, 4, 5, True)
    assert parameters("mobilenet_v3_compact", channels=4, depth=1) == stem + v3 + v2_head


def test_simnet_pyramid_is_the_l_layer_simnet() -> None:
    model = create_model("simnet_pyramid", channels=8, depth=2, degree=4, kernel_size=5)
    assert isinstance(model, SimNet)
    assert [stage.templates for stage in model.stage_specs] == [8, 8, 16, 16, 32, 32]
    assert [stage.groups for stage in model.stage_specs] == [1, 4, 4, 4, 2, 2]
    assert [stage.pool for stage in model.stage_specs] == [None, float("inf"), None, 0.0, None, None]
    assert model.features(torch.zeros(1, 3, 32, 32)).shape == (1, 32, 8, 8)
    twin = create_model("simnet_pyramid_twin", channels=8, depth=2, degree=4, kernel_size=5)
    shapes = [m.weight.shape for m in deploy(twin).modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (5, 5)]
    assert shapes == [m.weight.shape for m in model.modules() if isinstance(m, nn.Conv2d)]


@pytest.mark.parametrize("name", CONVNETS)
def test_folding_changes_nothing(name: str) -> None:
    torch.manual_seed(0)
    model = shaken(create_model(name, channels=4, depth=2))
    deployed = deploy(model)
    assert not any(isinstance(module, ScaledConv2d) for module in deployed.modules())
    x = torch.randn(3, 3, 16, 16)
    torch.testing.assert_close(outputs(deployed, x), outputs(model, x), rtol=1e-4, atol=1e-4)


def test_scaled_convolution_is_convolution_and_batch_normalisation() -> None:
    torch.manual_seed(0)
    layer = ScaledConv2d(4, 6, 3, stride=2, groups=2)
    with torch.no_grad():
        layer.gain.copy_(torch.rand(6))
        assert layer.bias is not None
        layer.bias.copy_(torch.randn(6))
    x = torch.randn(5, 4, 8, 8)
    convolved = F.conv2d(x, layer.weight, stride=2, padding=1, groups=2).double()
    mean, var = convolved.mean((0, 2, 3), keepdim=True), convolved.var((0, 2, 3), keepdim=True, unbiased=False)
    normalised = (convolved - mean) / (var + 1e-5).sqrt()
    expected = layer.gain.double()[:, None, None] * normalised + layer.bias.double()[:, None, None]
    torch.testing.assert_close(layer(x).double(), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_residual_shortcut_takes_every_other_pixel_and_adds_channels_of_zeros() -> None:
    block = BasicBlock(2, 4, 2).eval()
    block.conv2.gain.zero_()
    x = torch.rand(1, 2, 6, 6)
    y = block(x)
    assert torch.equal(y[:, :2], x[:, :, ::2, ::2])
    assert not y[:, 2:].any()


@torch.no_grad()
def test_inverted_residual_adds_only_where_shapes_agree() -> None:
    stage = MobileStage(3, nn.ReLU6)
    x = torch.rand(1, 4, 6, 6)
    for outputs_, stride, expected in ((4, 1, x), (5, 1, torch.zeros(1, 5, 6, 6)), (4, 2, torch.zeros(1, 4, 3, 3))):
        block = InvertedResidual(4, outputs_, stride, 6, stage).eval()
        project = block.layers.project
        assert isinstance(project, ScaledConv2d)
        project.gain.zero_()
        assert torch.equal(block(x), expected)


@torch.no_grad()
def test_squeeze_excitation_by_hand() -> None:
    torch.manual_seed(0)
    layer = SqueezeExcitation(8, squeeze=4)
    first, second = (m for m in layer.modules() if isinstance(m, nn.Conv2d))
    x = torch.randn(2, 8, 3, 3)
    hidden = (x.double().mean((2, 3)) @ first.weight[:, :, 0, 0].double().T).clamp_min(0)
    gate = ((hidden @ second.weight[:, :, 0, 0].double().T + 3) / 6).clamp(0, 1)
    torch.testing.assert_close(layer(x).double(), x.double() * gate[:, :, None, None], rtol=1e-5, atol=1e-5)


def test_stage_channels_are_rounded() -> None:
    assert stage_channels("net", 7.75) == (8, 16, 31)
    assert stage_channels("net", 10, multiple=4) == (8, 20, 40)


@pytest.mark.parametrize("channels", [0, -1, 0.3, "8", True, float("inf"), float("nan"), None])
def test_wrong_channels_are_refused(channels: Any) -> None:
    with pytest.raises(ConfigError, match="channels of net is"):
        stage_channels("net", channels)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("overrides", [{"depth": 0}, {"image_size": 0}, {"channels": 0.2}])
def test_wrong_arguments_are_refused(name: str, overrides: dict[str, Any]) -> None:
    model = name.removesuffix("_twin")
    with pytest.raises(ConfigError, match=f"{next(iter(overrides))} of {model}"):
        create_model(name, **overrides)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_image_size_works_or_is_refused(name: str) -> None:
    smallest = 1
    for size in range(1, 20):
        try:
            model = create_model(name, image_size=size).eval()
        except ConfigError as error:
            smallest = int(str(error).rpartition("the smallest that works is ")[2])
            assert size < smallest
        else:
            assert size >= smallest
            assert outputs(model, torch.zeros(1, 3, size, size)).shape == (1, 10)
    assert smallest < 20


def test_even_kernels_are_refused() -> None:
    with pytest.raises(ConfigError, match="kernel_size of simnet_pyramid is 4; expected an odd number"):
        create_model("simnet_pyramid", kernel_size=4)
