"""The layer of grouped convolutions beside PyTorch's."""

from typing import Any

import pytest
import torch
from torch import nn

from simroot.layers import GroupedConv2d, NormalisedConv2d
from simroot.layers.root import conv2d_in_groups
from simroot.models import create_model, deploy
from simroot.ops import use_kernels
from simroot.roots.regroup import rootify
from tolerances import assert_close


@pytest.mark.parametrize(
    "options",
    [
        {"padding": 1},
        {"stride": 2, "bias": False},
        {"padding": "same"},
        {"padding": 1, "padding_mode": "reflect"},
        {"dilation": 2},
        {"padding": (1, 0), "stride": (1, 2)},
    ],
)
def test_it_is_pytorchs_layer(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    theirs, ours = nn.Conv2d(8, 12, 3, groups=2, **options), GroupedConv2d(8, 12, 3, groups=2, **options)
    ours.load_state_dict(theirs.state_dict())
    assert repr(ours) == f"Grouped{theirs!r}"
    x = torch.randn(2, 8, 28, 29)
    y, expected = ours(x), theirs.double()(x.double())
    assert_close("grouped_conv2d", y, expected)
    grad = torch.randn_like(y)
    found = torch.autograd.grad(y, list(ours.parameters()), grad)
    exact = torch.autograd.grad(expected, list(theirs.parameters()), grad.double())
    for one, other in zip(found, exact, strict=True):
        assert_close("grouped_conv2d.gradient", one, other)


def test_who_uses_it() -> None:
    assert type(conv2d_in_groups(nn.Conv2d, 8, 8, 3, groups=2)) is GroupedConv2d
    assert type(conv2d_in_groups(nn.Conv2d, 8, 8, 3)) is nn.Conv2d
    assert issubclass(NormalisedConv2d, GroupedConv2d)
    nin = deploy(create_model("nin_root2"))
    assert [name for name, m in nin.named_modules() if type(m) is GroupedConv2d] == ["conv2a"]
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 1))
    root = rootify(plain, 4, example_input=torch.zeros(1, 3, 9, 9))
    assert [type(m) for m in root.children()] == [nn.Conv2d, GroupedConv2d, nn.Conv2d]
    assert type(plain[1]) is nn.Conv2d


def test_a_whole_network_is_the_same_with_and_without_kernels() -> None:
    torch.manual_seed(0)
    model = create_model("nin_tree16", image_size=16)
    x, labels = torch.randn(4, 3, 16, 16), torch.arange(4)

    def gradients() -> list[torch.Tensor]:
        loss = nn.functional.cross_entropy(model(x), labels)
        return [loss, *torch.autograd.grad(loss, list(model.parameters()))]

    found = gradients()
    with use_kernels("reference"):
        expected = gradients()
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)  # batch normalisation magnifies rounding
