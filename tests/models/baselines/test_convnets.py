"""The papers' convolutional baselines: printed sizes, and the layers as the papers describe them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from simroot.errors import ConfigError
from simroot.layers import FoldedNorm2d, NormalisedConv2d
from simroot.measure import Cost, count
from simroot.models import create_model

SMALLEST = {"convnet_coates": 6, "convnet_caffe": 8, "convnet_caffe_bn": 8, "nin": 4, "nin_compact": 4}


def cost(name: str, num_classes: int = 10, **overrides: Any) -> Cost:
    return count(create_model(name, num_classes, **overrides), (3, 32, 32))


def flops_without_pooling(measured: Cost) -> int:
    return sum(layer.flops for layer in measured.layers if "Pool" not in layer.kind)


@pytest.mark.parametrize(("num_classes", "parameters"), [(10, 145_578), (100, 151_428)])
@pytest.mark.parametrize("name", ["convnet_caffe", "convnet_caffe_bn"])
def test_caffe_convnet_has_the_printed_size(name: str, num_classes: int, parameters: int) -> None:
    """Table 1 of Deep SimNets: 145.6K and 151.4K parameters, 24.8M FLOPs, which leave out the pools."""
    measured = cost(name, num_classes)
    assert measured.parameters == parameters
    assert f"{flops_without_pooling(measured) / 1e6:.1f}" == "24.8"


def test_caffe_convnet_flops_by_hand() -> None:
    macs = 75 * 32 * 32**2 + 800 * 32 * 16**2 + 800 * 64 * 8**2 + 1024 * 64 + 64 * 10
    outputs = 32 * 32**2 + 32 * 16**2 + 64 * 8**2 + 64 + 10
    relus = 32 * 16**2 + 32 * 16**2 + 64 * 8**2 + 64
    pools = 32 * 16**2 * 8 + 32 * 8**2 * 9 + 64 * 4**2 * 9
    measured = cost("convnet_caffe")
    assert (measured.macs, measured.flops) == (macs, 2 * macs + outputs + relus + pools)


def test_compact_nin_has_the_printed_size() -> None:
    """Section 6.4 of Deep SimNets: 5K parameters and 3.5M FLOPs, which leave out the pools."""
    measured = cost("nin_compact")
    assert measured.parameters == 4_840
    assert f"{flops_without_pooling(measured) / 1e6:.1f}" == "3.5"


@pytest.mark.parametrize(
    ("groups", "parameters", "printed_parameters", "printed_macs"),
    [
        ((1, 1), 966_986, "9.67", "2.22"),
        ((2, 1), 736_586, "7.37", "1.64"),
        ((4, 2), 455_498, "4.55", "1.23"),
        ((8, 4), 314_954, "3.15", "1.03"),
        ((16, 8), 244_682, "2.45", "0.93"),
    ],
)
def test_nin_matches_table_2_of_deep_roots(
    groups: tuple[int, int], parameters: int, printed_parameters: str, printed_macs: str
) -> None:
    """The table's count of operations has each weight once for every output position, and each bias once."""
    model = create_model("nin", groups=groups)
    measured = count(model, (3, 32, 32))
    biases = sum(p.numel() for name, p in model.named_parameters() if name.endswith("bias"))
    assert measured.parameters == parameters
    assert f"{parameters / 1e5:.2f}" == printed_parameters
    assert f"{(measured.macs + biases) / 1e8:.2f}" == printed_macs


@pytest.mark.parametrize("name", ["convnet_coates", "convnet_caffe", "nin", "nin_compact"])
def test_batch_normalisation_leaves_the_cost_as_it_is(name: str) -> None:
    plain, normalised = (create_model(name, batch_norm=flag) for flag in (False, True))
    assert not any(isinstance(module, FoldedNorm2d) for module in plain.modules())
    assert any(isinstance(module, FoldedNorm2d) for module in normalised.modules())
    assert count(plain, (3, 32, 32)) == count(normalised, (3, 32, 32))


@pytest.mark.parametrize(("channels", "parameters"), [(50, 5_810), (3200, 371_210)])
def test_coates_convnet_takes_the_papers_channels(channels: int, parameters: int) -> None:
    measured = cost("convnet_coates", channels=channels)
    assert measured.parameters == parameters
    assert measured.macs == 28**2 * 75 * channels + 40 * channels


@pytest.mark.parametrize("image_size", [32, 9])
def test_coates_convnet_takes_the_maximum_of_each_quadrant(image_size: int) -> None:
    torch.manual_seed(0)
    model = create_model("convnet_coates", image_size=image_size, channels=6).double()
    images = torch.randn(2, 3, image_size, image_size, dtype=torch.float64)
    conv, classifier = model.get_submodule("conv"), model.get_submodule("classifier")
    assert isinstance(conv, NormalisedConv2d)
    assert isinstance(classifier, nn.Linear)
    grid = conv2d(images, conv.weight, conv.bias).clamp(min=0)
    middle = math.ceil(grid.shape[-1] / 2)
    halves = (slice(0, middle), slice(middle, None))
    quadrants = torch.stack([grid[:, :, rows, columns].amax((2, 3)) for rows in halves for columns in halves], dim=2)
    expected = quadrants.flatten(1) @ classifier.weight.T + classifier.bias
    torch.testing.assert_close(model(images), expected)


def partial_windows(x: Tensor, reduce: str) -> Tensor:
    """3x3 windows with stride 2, over what exists of the last ones."""
    starts = range(0, x.shape[-1] - 1, 2)
    windows = [[x[:, :, i : i + 3, j : j + 3] for j in starts] for i in starts]
    return torch.stack([torch.stack([getattr(w, reduce)((2, 3)) for w in row], dim=2) for row in windows], dim=2)


def test_caffe_convnet_follows_caffes_layers() -> None:
    torch.manual_seed(0)
    model = create_model("convnet_caffe").double()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    weights = dict(model.named_parameters())

    def conv(x: Tensor, layer: str) -> Tensor:
        return conv2d(x, weights[f"{layer}.weight"], weights[f"{layer}.bias"], padding=2)

    def dense(x: Tensor, layer: str) -> Tensor:
        return x @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"]

    x = partial_windows(conv(images, "conv1"), "amax").clamp(min=0)
    x = partial_windows(conv(x, "conv2").clamp(min=0), "mean")
    x = partial_windows(conv(x, "conv3").clamp(min=0), "mean")
    assert x.shape == (2, 64, 4, 4)
    torch.testing.assert_close(model(images), dense(dense(x.flatten(1), "dense").clamp(min=0), "classifier"))


def test_nin_works_on_grids_of_32_16_and_8() -> None:
    shapes = {layer.name: layer.output_shape for layer in cost("nin").layers}
    assert shapes["conv1c"] == (96, 32, 32)
    assert shapes["conv2c"] == (192, 16, 16)
    assert shapes["conv3c"] == (10, 8, 8)


def test_nin_does_not_normalise_its_scores() -> None:
    layers = [module for module in create_model("nin").modules() if isinstance(module, NormalisedConv2d)]
    assert [layer.norm is None for layer in layers] == [False] * 8 + [True]


@pytest.mark.parametrize(("name", "smallest"), SMALLEST.items())
def test_the_smallest_image_works_and_a_smaller_one_is_refused(name: str, smallest: int) -> None:
    model = create_model(name, image_size=smallest).eval()
    assert model(torch.zeros(1, 3, smallest, smallest)).shape == (1, 10)
    with pytest.raises(ConfigError, match=f"image_size of {name.removesuffix('_bn')}.* smallest that works is"):
        create_model(name, image_size=smallest - 1)


@pytest.mark.parametrize("groups", [(5, 1), (1, 7), (0, 1), (2.0, 1)])
def test_groups_must_divide_the_channels(groups: tuple[int, int]) -> None:
    layer = "conv3a" if groups[0] == 1 else "conv2a"
    with pytest.raises(ConfigError, match=f"groups for {layer} of nin"):
        create_model("nin", groups=groups)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("nin", {"groups": (2, 2, 2)}, "expected 2 numbers"),
        ("nin", {"dropout": 1.0}, "dropout of nin is 1.0"),
        ("nin_compact", {"channels": 0}, "channels of nin_compact is 0"),
        ("convnet_coates", {"channels": -1}, "channels of convnet_coates is -1"),
    ],
)
def test_other_arguments_out_of_range(name: str, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_model(name, **overrides)


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 8, 8)
    model = create_model("nin", image_size=8, dropout=0.5, batch_norm=False)
    assert not torch.equal(model(images), model(images))
    model.eval()
    assert torch.equal(model(images), model(images))


def test_weights_are_drawn_as_he_says() -> None:
    torch.manual_seed(0)
    model = create_model("nin", groups=(2, 1))
    for name, fan_in in (("conv2a", 48 * 25), ("conv3a", 192 * 9), ("conv2b", 192)):
        layer = model.get_submodule(name)
        assert isinstance(layer, NormalisedConv2d)
        # tens of thousands of draws: the standard deviation's own is below half a percent
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.02)
        assert layer.bias is not None
        assert layer.bias.count_nonzero() == 0
