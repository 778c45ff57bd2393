"""ResNets, GoogLeNet and AlexNet: torchvision's as the reference, groups where the paper has them, folding."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from simroot.errors import ConfigError
from simroot.layers import FoldedNorm2d, UnevenConv2d
from simroot.models import create_model, deploy
from simroot.models.baselines.googlenet import AuxiliaryScores, googlenet_from_torchvision

torchvision = pytest.importorskip("torchvision")


def settle(model: nn.Module) -> nn.Module:
    """Statistics, gains and offsets that differ from their first values."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                assert tensor is not None
                tensor.data += 0.3 * torch.randn(tensor.shape, generator=generator)
            assert module.running_var is not None
            module.running_var *= 1 + torch.rand(module.running_var.shape, generator=generator)
    return model.eval()


def images(size: int = 64, count: int = 1) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(2))


def groups_of(model: nn.Module) -> dict[str, int]:
    """Groups of the spatial convolutions."""
    convs = ((name, m) for name, m in model.named_modules() if isinstance(m, nn.Conv2d))
    return {name: conv.groups for name, conv in convs if conv.kernel_size != (1, 1)}


def meta(name: str, **overrides: Any) -> nn.Module:
    with torch.device("meta"):
        return create_model(name, **overrides)


@torch.no_grad()
def test_resnet50_is_torchvisions() -> None:
    reference = settle(torchvision.models.resnet50(num_classes=7))
    ours = create_model("resnet50", 7, stride_on="3x3").eval()
    ours.load_state_dict(reference.state_dict())
    torch.testing.assert_close(ours(images()), reference(images()))


def test_resnet50_takes_its_steps_on_the_first_1x1() -> None:
    strides = {name: m.stride for name, m in meta("resnet50").named_modules() if isinstance(m, nn.Conv2d)}
    assert {strides[f"layer{i}.0.conv1"] for i in (2, 3, 4)} == {(2, 2)}
    assert {strides[f"layer{i}.0.conv2"] for i in (2, 3, 4)} == {(1, 1)}


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:The default weight initialization of GoogleNet:FutureWarning")
@pytest.mark.parametrize("auxiliary", [True, False])
def test_googlenet_is_torchvisions(auxiliary: bool) -> None:
    reference = torchvision.models.googlenet(weights=None, num_classes=7, aux_logits=auxiliary, init_weights=False)
    settle(reference.double())
    ours = create_model("googlenet", 7, layout="torchvision", auxiliary=auxiliary).double().eval()
    ours.load_state_dict(googlenet_from_torchvision(reference.state_dict()))
    x = images().double()
    torch.testing.assert_close(ours(x), reference(x))
    torch.testing.assert_close(deploy(ours)(x), reference(x))


@pytest.mark.parametrize("degree", [2, 64])
@pytest.mark.parametrize("name", ["resnet50", "resnet200"])
def test_resnets_group_their_3x3_by_stage(name: str, degree: int) -> None:
    groups = groups_of(meta(f"{name}_root{degree}"))
    assert groups.pop("conv1") == 1
    for stage in range(4):
        found = {number for layer, number in groups.items() if layer.startswith(f"layer{stage + 1}.")}
        assert found == {max(1, degree // 2**stage)}
    assert len(groups) == {"resnet50": 16, "resnet200": 66}[name]


def test_googlenet_groups_its_spatial_filters_by_stage() -> None:
    groups = groups_of(meta("googlenet_root8"))
    expected = {"conv1": 1, "conv3": 8, "inception3": 4, "inception4": 2, "inception5": 1}
    assert all(number == expected[layer.split(".")[0].rstrip("abcde")] for layer, number in groups.items())
    assert len(groups) == 20


@pytest.mark.parametrize(
    ("name", "groups"),
    [("alexnet", [1, 1, 1, 1, 1]), ("alexnet_root4", [1, 4, 2, 2, 2]), ("alexnet_groups2", [1, 2, 1, 2, 2])],
)
def test_alexnet_groups(name: str, groups: list[int]) -> None:
    assert list(groups_of(meta(name)).values()) == groups


def test_a_preactivation_block_is_identity_plus_branch() -> None:
    torch.manual_seed(0)
    block = create_model("resnet200").get_submodule("layer2.1").double().eval()
    x = torch.randn(1, 512, 4, 4, dtype=torch.float64)
    weight = dict(block.named_parameters())

    def active(y: Tensor) -> Tensor:
        return (y / math.sqrt(1 + 1e-5)).clamp(min=0)

    branch = nn.functional.conv2d(active(x), weight["conv1.weight"])
    branch = nn.functional.conv2d(active(branch), weight["conv2.weight"], padding=1)
    branch = nn.functional.conv2d(active(branch), weight["conv3.weight"])
    torch.testing.assert_close(block(x), x + branch)


def test_googlenet_returns_auxiliary_scores_only_while_it_trains() -> None:
    torch.manual_seed(0)
    model = create_model("googlenet", 5, groups=(4, 2, 1, 1))
    output = model(images(count=2))
    assert isinstance(output, AuxiliaryScores)
    assert [scores.shape for scores in (output.scores, *output.auxiliary)] == [(2, 5)] * 3
    assert output.weight == 0.3
    loss = sum(scores.square().sum() for scores in (output.scores, *output.auxiliary))
    assert isinstance(loss, Tensor)
    loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())
    model.eval()
    deployed = deploy(model)
    assert not any(isinstance(m, FoldedNorm2d) for m in deployed.modules())
    assert sum(p.numel() for p in deployed.parameters()) == sum(
        p.numel() for name, p in model.named_parameters() if not name.startswith("aux")
    )
    with torch.no_grad():
        torch.testing.assert_close(deployed(images()), model(images()), rtol=1e-4, atol=1e-4)


def test_padded_googlenet_has_the_papers_grids() -> None:
    shapes: dict[str, Tensor] = {}
    with torch.device("meta"):
        model = create_model("googlenet", 1000, layout="padded")
        for name, module in model.named_modules():
            module.register_forward_hook(lambda m, i, output, name=name: shapes.setdefault(name, output))
        model(torch.empty(2, 3, 224, 224))
    grids = [shapes[name].shape[-1] for name in ("conv3", "inception3a", "inception4a", "inception5a", "aux1.conv")]
    assert grids == [56, 28, 15, 8, 5]
    assert model.get_submodule("fc").in_features == 4096
    assert model.get_submodule("aux2.fc1").in_features == 3200


@pytest.mark.parametrize(("name", "groups"), [("nin", ([2, 1, 1], 4)), ("resnet50", (4, [3, 1], 1, 1))])
def test_groups_may_be_unequal(name: str, groups: Any) -> None:
    model = meta(name, groups=groups)
    assert any(isinstance(module, UnevenConv2d) for module in model.modules())


def test_filters_start_with_hes_deviation_over_the_group() -> None:
    torch.manual_seed(0)
    model = create_model("resnet50_root64")
    for layer, connections in (("layer3.0.conv2", 9 * 256 / 16), ("layer3.0.conv3", 1024), ("conv1", 49 * 64)):
        weight = model.get_parameter(f"{layer}.weight")
        # nine thousand draws or more: their deviation is known to a percent
        assert weight.std().item() == pytest.approx(math.sqrt(2 / connections), rel=0.04)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("resnet50", {"groups": (3, 1, 1, 1)}, "3 groups for the 3x3 convolutions of layer1 .* are 2 and 4"),
        ("resnet50", {"groups": (2, 1)}, "expected 4 numbers"),
        ("resnet50", {"stride_on": "5x5"}, "stride_on of resnet50 is '5x5'"),
        ("resnet200", {"image_size": 31}, "image_size of resnet200 is 31; the smallest that works is 32"),
        ("googlenet", {"groups": (32, 16, 16, 4)}, "16 groups for inception4b.branch3 .* that do are 8$"),
        ("googlenet", {"groups": (1, 1)}, "expected 4 numbers"),
        ("googlenet", {"layout": "flat"}, "layout of googlenet is 'flat'; expected original, torchvision, padded"),
        ("googlenet", {"layout": "padded", "image_size": 128}, "works with 224 alone"),
        ("alexnet", {"groups": (5, 1, 1, 1)}, "5 groups for conv2 of alexnet .* are 4 and 8"),
        ("alexnet", {"dropout": 1.0}, "dropout of alexnet is 1.0"),
        ("alexnet", {"groups": (1,)}, "expected 4 numbers"),
        ("alexnet", {"image_size": 62}, "the smallest that works is 63"),
    ],
)
def test_arguments_out_of_range(name: str, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        meta(name, **overrides)


@torch.no_grad()
@pytest.mark.parametrize(("name", "size"), [("resnet50", 32), ("googlenet", 32), ("alexnet", 63)])
def test_the_smallest_image_works(name: str, size: int) -> None:
    assert meta(name, num_classes=4, image_size=size).eval()(images(size).to("meta")).shape == (1, 4)
