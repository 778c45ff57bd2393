"""Deployment of networks whose modules have several names, or are not simroot's."""

from __future__ import annotations

import copy
import importlib
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import simroot.models
from simroot.errors import ConfigError
from simroot.export import to_onnx
from simroot.layers import (
    GlobalMexPool2d,
    MexDense,
    MexPool2d,
    NormalisedConv2d,
    Similarity2d,
    WhitenedSimilarity2d,
)
from simroot.layers.blocks.scaled import ScaledConv2d
from simroot.measure import count
from simroot.models import Foldable, create_model, deploy


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


class Centred(nn.Linear):
    """Somebody's layer: less the running mean of its input, which folds into the bias."""

    def __init__(self) -> None:
        super().__init__(4, 3)
        self.register_buffer("mean", torch.arange(4.0))

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.mean, Tensor)
        return super().forward(x - self.mean)

    def folded(self) -> nn.Linear:
        assert isinstance(self.mean, Tensor)
        plain = nn.Linear(4, 3).train()
        plain.load_state_dict({"weight": self.weight, "bias": self.bias - self.weight @ self.mean})
        return plain


def test_a_layer_of_ones_own_folds() -> None:
    layer = Centred()
    assert isinstance(layer, Foldable)
    model, x = nn.Sequential(nn.Flatten(), layer, nn.ReLU()), torch.randn(5, 4, 1, 1)
    deployed = deploy(model)
    assert [type(part) for part in deployed] == [nn.Flatten, nn.Linear, nn.ReLU]  # type: ignore[attr-defined]
    assert not any(part.training for part in deployed.modules())
    assert model[1] is layer
    torch.testing.assert_close(deployed(x), model(x))
    assert count(deployed, (4, 1, 1)).macs == 12


@pytest.mark.slow
def test_a_layer_of_ones_own_is_exported_folded(tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    model = nn.Sequential(nn.Flatten(), Centred())
    to_onnx(model, tmp_path / "a.onnx", (4, 1, 1))
    operators = {node.op_type for node in pytest.importorskip("onnx").load(tmp_path / "a.onnx").graph.node}
    assert "Gemm" in operators
    assert "Sub" not in operators


def test_what_others_call_fold_is_left_alone() -> None:
    class Foreign(nn.Module):
        def fold(self, x: Tensor) -> Tensor:
            return x.flatten(1)

        def forward(self, x: Tensor) -> Tensor:
            return self.fold(x)

    assert not isinstance(Foreign(), Foldable)
    assert deploy(Foreign())(torch.zeros(2, 3, 4)).shape == (2, 12)


def test_folding_into_something_else_is_an_error() -> None:
    class InPlace(nn.Identity):
        def folded(self) -> None: ...

    with pytest.raises(ConfigError, match=r"folded\(\) of InPlace gives a NoneType; expected a module"):
        deploy(nn.Sequential(InPlace()))


@pytest.mark.parametrize(
    "layer",
    [
        NormalisedConv2d(3, 4, 3),
        Similarity2d(3, 4, bias=True, from_origin=True, learn_order=True),
        WhitenedSimilarity2d(3, 4, 5, 3, noise=0.1),
        MexDense(3, 4),
        MexPool2d(2, beta=1.0, learn_beta=True),
        GlobalMexPool2d(),
        create_model("simnet2_small"),
        create_model("simnet_mlp", image_size=8),
        ScaledConv2d(3, 4, 3),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_folding_changes_nothing_but_what_it_gives(layer: nn.Module) -> None:
    x = torch.rand(2, 3, 8, 8)
    layer.train()(x)
    before, expected = copy.deepcopy(layer.state_dict()), layer.eval()(x)
    assert isinstance(layer, Foldable)
    folded = layer.folded().eval()
    with torch.no_grad():
        for parameter in folded.parameters():
            parameter.fill_(7)
    assert not {*map(id, folded.parameters())} & {*map(id, layer.parameters())}
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())
    assert torch.equal(layer(x), expected)
    torch.testing.assert_close(layer.folded().eval()(x), expected, rtol=1e-3, atol=1e-3)  # float32 rounding


def test_its_first_address_gives_the_function() -> None:
    assert importlib.import_module("simroot.models.deploy").deploy is deploy is simroot.models.deploy


def test_layers_of_a_class_of_ones_own_are_folded() -> None:
    class Own(NormalisedConv2d):
        pass

    model = nn.Sequential(Own(3, 4, 3), nn.Sequential())
    assert type(deploy(model)[0]) is nn.Conv2d  # type: ignore[index]
