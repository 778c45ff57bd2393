"""Deployment of networks whose modules have several names, or are not simroot's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from simroot.layers import NormalisedConv2d
from simroot.models import deploy


class Named(nn.Module):
    """One convolution under three names, two of them of the same module."""

    def __init__(self) -> None:
        super().__init__()
        self.first = NormalisedConv2d(3, 4, 3)
        self.second = self.first
        self.body = nn.Sequential(nn.ReLU(), self.first)
        self.nothing = None
        self.register_module("none", None)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.first(x), self.second(2 * x), self.body(x)])


def test_a_module_with_several_names_is_folded_once_under_all() -> None:
    torch.manual_seed(0)
    model = Named()
    x = torch.randn(4, 3, 5, 5)
    for _ in range(3):
        model(3 * x + 1)
    model.eval()
    deployed = deploy(model)
    assert type(deployed.first) is nn.Conv2d
    assert deployed.second is deployed.first
    assert deployed.get_submodule("body.1") is deployed.first
    with torch.no_grad():
        torch.testing.assert_close(deployed(x), model(x))
    assert isinstance(model.second, NormalisedConv2d)


def test_what_others_call_fold_is_left_alone() -> None:
    class Foreign(nn.Module):
        def fold(self, x: Tensor) -> Tensor:
            return x.flatten(1)

        def forward(self, x: Tensor) -> Tensor:
            return self.fold(x)

    assert deploy(Foreign())(torch.zeros(2, 3, 4)).shape == (2, 12)


def test_layers_of_a_class_of_ones_own_are_folded() -> None:
    class Own(NormalisedConv2d):
        pass

    model = nn.Sequential(Own(3, 4, 3), nn.Sequential())
    assert type(deploy(model)[0]) is nn.Conv2d  # type: ignore[index]
