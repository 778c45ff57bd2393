"""Schedules of filter groups, and networks turned into root networks."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.networks import Awkward, bottleneck, pyramid
from simroot.errors import ConfigError
from simroot.layers import UnevenConv2d
from simroot.models import create_model, deploy, root_schedule, rootify, rootify_with_report
from simroot.roots.slicing import balanced_blocks

IMAGE = torch.zeros(1, 3, 8, 8)


def images(count: int = 4, size: int = 8) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(3))


def settle(model: nn.Module) -> nn.Module:
    """Move batch statistics and gains away from their first values."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias, 0, 0.3)
    for _ in range(3):
        model(images() * 2 + 1)
    return model.eval()


@pytest.mark.parametrize(
    ("degree", "stages", "topology", "expected"),
    [
        (8, 2, "root", (8, 4)),
        (2, 4, "root", (2, 1, 1, 1)),
        (64, 4, "root", (64, 32, 16, 8)),
        (6, 3, "root", (6, 3, 1)),
        (4, 3, "column", (4, 4, 4)),
        (4, 3, "tree", (4, 8, 16)),
    ],
)
def test_schedule(degree: int, stages: int, topology: Any, expected: tuple[int, ...]) -> None:
    assert root_schedule(degree, stages, topology) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 2), "degree is 0"),
        ((2.0, 2), "degree is 2.0"),
        ((True, 2), "degree is True"),
        ((2, -1), "stages is -1"),
        ((2, 2, "bush"), "topology is 'bush'; expected 'root' or 'column' or 'tree'"),
    ],
)
def test_schedule_refuses(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        root_schedule(*arguments)


@pytest.mark.parametrize(
    ("topology", "groups"), [("root", [1, 4, 4, 2, 1]), ("column", [1, 4, 4, 4, 4]), ("tree", [1, 4, 4, 8, 16])]
)
def test_stages_follow_the_resolution(topology: Any, groups: list[int]) -> None:
    model = pyramid()
    root = rootify(model, 4, topology=topology, example_input=IMAGE)
    found = [m.groups for m in root.modules() if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)]
    assert found == groups
    assert root(images()).shape == model(images()).shape
    assert all(m.groups == 1 for m in model.modules() if isinstance(m, nn.Conv2d))


def test_the_caller_may_assign_stages() -> None:
    root = rootify(pyramid(), 4, example_input=IMAGE, stages={"a2": 1, "c": 0})
    assert [getattr(root, name).groups for name in ("a1", "a2", "b", "c")] == [1, 2, 1, 4]


def test_report_counts_layers_and_network() -> None:
    root, report = rootify_with_report(pyramid(), 4, example_input=IMAGE)
    layers = {layer.name: layer for layer in report.layers}
    assert list(layers) == ["stem", "a1", "a2", "b", "c"]
    assert layers["stem"].note == "the first convolution is never grouped"
    a2 = layers["a2"]
    assert (a2.grid, a2.groups_before, a2.groups) == ((8, 8), 1, 4)
    assert (a2.parameters_before, a2.parameters) == (16 * 32 * 9, 16 * 32 * 9 // 4)
    assert (a2.macs_before, a2.macs) == (64 * 16 * 32 * 9, 64 * 16 * 32 * 9 // 4)
    assert report.parameters == sum(p.numel() for p in root.parameters())
    weights = 3 * 16 * 9 + 16 * 16 * 9, 16 * 32 * 9, 32 * 32 * 9
    assert report.macs_before == 64 * (weights[0] + weights[1]) + (16 + 4) * weights[2] + 4 * 32 * 5
    saved = 64 * (16 * 16 * 9 + weights[1]) * 3 // 4 + 16 * weights[2] // 2
    assert report.macs == report.macs_before - saved


def test_what_cannot_be_grouped_is_reported_and_left() -> None:
    model = Awkward()
    root, report = rootify_with_report(model, 2, example_input=IMAGE, weights="slice")
    notes = {layer.name: layer.note for layer in report.layers}
    assert notes == {
        "stem": "the first convolution is never grouped",
        "good": "",
        "depthwise": "depthwise already",
        "grouped": "in 2 groups already",
        "twice": "its weights are shared: it is called 2 times",
        "one": "its weights are shared by 2 layers",
        "other": "its weights are shared by 2 layers",
        "normed": "ParametrizedConv2d computes its filters instead of learning them as they are",
        "functional": "a functional convolution",
        "transposed": "ConvTranspose2d is not a convolution that can be regrouped",
        "unused": "not used for this example",
    }
    changed = [layer.name for layer in report.layers if layer.groups != layer.groups_before]
    assert changed == ["good"]
    assert root(images()).shape == model(images()).shape
    # The report's multiply-accumulates: what is left of one of the eleven convolutions' 8 x 8 x 9 weights.
    assert report.macs_before - report.macs == 64 * 8 * 8 * 9 // 2


def test_deformable_convolutions_are_reported() -> None:
    ops = pytest.importorskip("torchvision.ops")

    class Deformed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.offsets = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 18, 3, padding=1)
            self.deformed = ops.DeformConv2d(8, 8, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return self.deformed(x, self.offsets(x))

    _, report = rootify_with_report(Deformed(), 2, example_input=IMAGE, weights="slice")
    layers = {layer.name: layer for layer in report.layers}
    assert layers["deformed"].note.startswith("DeformConv2d is not")
    # The deformable convolution reads the same channels: they must not be permuted.
    assert (layers["offsets"].groups, layers["offsets"].permuted) == (2, "")


def test_all_that_read_the_image_count_as_first() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.narrow = nn.Conv2d(3, 8, 5, padding=2), nn.Conv2d(3, 8, 3, padding=1)
            self.behind = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")

        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(self.behind(self.wide(x) + self.narrow(x)))

    _, report = rootify_with_report(Branches(), 4, example_input=IMAGE)
    assert [layer.groups for layer in report.layers] == [1, 1, 4]
    assert {layer.note for layer in report.layers[:2]} == {"the first convolution is never grouped"}


def test_channels_without_a_common_divisor_are_left_and_reported() -> None:
    """As in spatial attention: one output channel, which no number of groups divides."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 1, 3))
    _, report = rootify_with_report(model, 4, topology="column", example_input=IMAGE)
    assert [layer.groups for layer in report.layers] == [1, 4, 1]
    assert report.layers[2].note == "its 8 input and 1 output channels have no common divisor"
    with pytest.raises(ConfigError, match="layer '2' of Sequential cannot be grouped: its 8 input"):
        rootify(model, {"2": 2}, example_input=IMAGE)


def test_indivisible_channels_name_the_layer_and_the_nearest_degrees() -> None:
    message = "8 groups for wide of Sequential do not divide its 12 input and 24 output .* are 6 and 12"
    model = nn.Sequential()
    model.add_module("stem", nn.Conv2d(3, 12, 3))
    model.add_module("wide", nn.Conv2d(12, 24, 3))
    with pytest.raises(ConfigError, match=message):
        rootify(model, 8, example_input=IMAGE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"degree": 0}, "degree is 0"),
        ({"degree": 2, "topology": "bush"}, "topology is 'bush'"),
        ({"degree": 2, "weights": "old"}, "weights is 'old'; expected 'random' or 'slice'"),
        ({"degree": 2, "stages": {"stem": 0}}, "layer 'stem' of Sequential cannot be grouped: the first convolution"),
        ({"degree": {"nothing": 2}}, "layer 'nothing' .* no spatial convolution .*; these can: a1, a2, b, c"),
        ({"degree": {"a1": 3}}, "3 groups for a1 of Sequential .* are 2 and 4"),
        ({"degree": 2, "stages": {"a1": 0, "b": -1}}, "stage of layer 'b' is -1; expected an integer of at least 0"),
        ({"degree": 2, "stages": {"a1": 0.5}}, "stage of layer 'a1' is 0.5"),
        ({"degree": 2, "example_input": None}, r"example_input is None; expected a tensor \(N, C, H, W\)"),
        ({"degree": 2, "example_input": torch.zeros(1, 5, 8, 8)}, r"cannot process an example of shape \(1, 5, 8, 8\)"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        rootify(pyramid(), **{"example_input": IMAGE, **arguments})


def test_unequal_groups_by_layer() -> None:
    torch.manual_seed(0)
    model = settle(bottleneck())
    root, report = rootify_with_report(model, {"spatial": [2, 1, 1]}, example_input=IMAGE, weights="slice")
    spatial = root.get_submodule("spatial")
    assert isinstance(spatial, UnevenConv2d)
    assert [part.out_channels for part in spatial.parts] == [8, 4, 4]
    layer = report.layers[1]
    assert layer.parameters == 9 * (8 * 8 + 4 * 4 + 4 * 4) == layer.parameters_before * 3 // 8
    assert report.parameters == sum(p.numel() for p in root.parameters())
    assert root(images()).shape == (4, 12, 8, 8)


@pytest.mark.parametrize("groups", [4, [1, 2, 1]])
def test_slicing_finds_hidden_groups_and_the_neighbours_take_up_the_permutation(groups: Any) -> None:
    """Filters that are block-diagonal in some unknown order of the channels lose nothing: the outputs stay."""
    generator = torch.Generator().manual_seed(5)
    model = settle(bottleneck())
    shares = [1] * groups if isinstance(groups, int) else groups
    label = torch.arange(len(shares)).repeat_interleave(torch.tensor([16 * s // sum(shares) for s in shares]))
    rows, columns = (label[torch.randperm(16, generator=generator)] for _ in range(2))
    model.get_parameter("spatial.weight").data *= (rows[:, None] == columns)[:, :, None, None]
    root, report = rootify_with_report(model, {"spatial": groups}, example_input=IMAGE, weights="slice")
    layer = report.layers[1]
    assert layer.permuted == "inputs and outputs"
    assert layer.kept == pytest.approx(1)
    with torch.no_grad():
        torch.testing.assert_close(root(images()), model(images()), rtol=1e-4, atol=1e-5)  # sums in another order


def test_no_permutation_where_the_neighbours_cannot_take_it_up() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.conv = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return x + self.conv(x)

    model = Residual()
    root, report = rootify_with_report(model, 2, example_input=IMAGE, weights="slice")
    assert report.layers[1].permuted == ""
    weight = model.conv.weight.detach()
    blocks = torch.cat([weight[:4, :4], weight[4:, 4:]])
    assert torch.equal(root.get_parameter("conv.weight"), blocks)
    assert report.layers[1].kept == pytest.approx(float(blocks.square().sum() / weight.square().sum()))


def test_a_convolution_with_two_names_is_replaced_under_both() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = pyramid()
            self.late = self.body.get_submodule("c")

        def forward(self, x: Tensor) -> Tensor:
            for layer in list(self.body)[:4]:
                x = layer(x)
            y: Tensor = self.late(x)
            return y

    root, report = rootify_with_report(Named(), {"body.c": [2, 1, 1]}, example_input=IMAGE)
    assert isinstance(root.late, UnevenConv2d)
    assert root.late is root.get_submodule("body.c")
    assert report.parameters == sum(p.numel() for p in root.parameters())


def test_transposed_convolutions_are_reported() -> None:
    transposed = nn.ConvTranspose2d(8, 4, 2, 2, groups=2)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), transposed)
    layer = rootify_with_report(model, 2, example_input=IMAGE)[1].layers[1]
    assert (layer.in_channels, layer.out_channels, layer.groups_before) == (8, 4, 2)
    assert layer.parameters_before == transposed.weight.numel()
    assert (layer.grid, layer.macs_before) == (None, 0)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), groups=st.sampled_from([2, 3, 4]), sides=st.sampled_from(["both", "in", "out"]))
def test_permutation_never_keeps_less(seed: int, groups: int, sides: str) -> None:
    strength = torch.rand(12, 24, generator=torch.Generator().manual_seed(seed)) ** 4
    inputs, outputs = [24 // groups] * groups, [12 // groups] * groups
    rows, columns = balanced_blocks(strength, inputs, outputs, move_inputs=sides != "out", move_outputs=sides != "in")
    assert torch.equal(rows.sort().values, torch.arange(12))
    assert torch.equal(columns.sort().values, torch.arange(24))
    if sides == "in":
        assert torch.equal(rows, torch.arange(12))

    def kept(matrix: Tensor) -> float:
        return float(sum(row.chunk(groups, 1)[i].sum() for i, row in enumerate(matrix.chunk(groups))))

    assert kept(strength[rows][:, columns]) >= kept(strength) * (1 - 1e-6)


def test_random_weights_follow_the_generator() -> None:
    first, second, third = (
        rootify(pyramid(), 4, example_input=IMAGE, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    weights = [net.get_parameter("a2.weight") for net in (first, second, third)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_given_network_and_the_random_state_stay() -> None:
    model = settle(bottleneck())
    model.train()
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    root = rootify(model, 4, example_input=images(), weights="slice")
    assert torch.equal(torch.get_rng_state(), state)
    assert root.training
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_our_networks_fold_away_their_normalisation_after_it() -> None:
    model = create_model("nin", image_size=8)
    settle(model)
    root = rootify(model, {"conv2a": 8, "conv3a": [2, 1, 1]}, example_input=IMAGE, weights="slice").eval()
    with torch.no_grad():
        torch.testing.assert_close(deploy(root)(images()), root(images()), rtol=1e-4, atol=1e-4)


# What rootify must cope with: (torchvision's name, degree, layers grouped, spatial convolutions)
TORCHVISION = [
    ("resnet18", 8, 12, 17),
    ("resnet50", 16, 16, 17),
    ("googlenet", 8, 15, 20),
    ("vgg16_bn", 16, 9, 13),
    ("densenet121", 8, 42, 59),
    ("regnet_y_400mf", 8, 0, 17),
    ("convnext_tiny", 8, 3, 22),
    ("mobilenet_v3_small", 8, 0, 12),
    ("efficientnet_b0", 8, 0, 17),
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(("name", "degree", "grouped", "spatial"), TORCHVISION)
def test_torchvision(name: str, degree: int, grouped: int, spatial: int) -> None:
    torchvision = pytest.importorskip("torchvision")
    check_foreign(torchvision.models.get_model(name, weights=None).eval(), degree, grouped, spatial)


def check_foreign(model: nn.Module, degree: int, grouped: int, spatial: int) -> None:
    x = torch.zeros(1, 3, 64, 64)
    root, report = rootify_with_report(model, degree, example_input=x)
    changed = [layer for layer in report.layers if layer.groups != layer.groups_before]
    assert (len(changed), len(report.layers)) == (grouped, spatial)
    assert all(layer.note for layer in report.layers if layer.groups_before > 1)
    assert report.parameters == sum(p.numel() for p in root.parameters())
    with torch.no_grad():
        assert root(x).shape == model(x).shape


TIMM = [
    ("resnet26", 4, 4, 9),
    ("resnetv2_50", 4, 7, 17),
    ("regnety_002", 4, 0, 14),
    ("efficientnet_b0", 4, 0, 17),
    ("mobilenetv3_small_100", 4, 0, 12),
    ("convnext_atto", 4, 2, 16),
    ("dla34", 2, 1, 27),
    ("nf_resnet26", 4, 0, 9),
    ("hrnet_w18_small", 2, 16, 65),
    ("ese_vovnet19b_slim", 2, 1, 15),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "degree", "grouped", "spatial"), TIMM)
def test_timm(name: str, degree: int, grouped: int, spatial: int) -> None:
    timm = pytest.importorskip("timm")
    check_foreign(timm.create_model(name, pretrained=False).eval(), degree, grouped, spatial)
