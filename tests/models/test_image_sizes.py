"""Networks for images of other sizes than 32: what changes, what does not, and what a run says about it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from simroot.errors import ConfigError
from simroot.measure import count
from simroot.models import create_model, deploy
from simroot.models.image_sizes import Plan, plan, read_back, recorded

FAMILIES = {
    "simnet_mixed": {"channels": 4, "depth": 1, "degree": 2},
    "simnet_mixed_twin": {"channels": 4, "depth": 1},
    "simnet_mobile": {"channels": 4, "depth": 1},
    "simnet_residual": {"channels": 4, "depth": 1},
    "resnet20": {"channels": 4, "depth": 1},
    "mobilenet_v2_compact": {"channels": 4, "depth": 1},
    "mobilenet_v3_compact": {"channels": 4, "depth": 1},
    "convnet_plain": {"channels": 4, "depth": 1},
}


def shapes(name: str, image_size: int, **overrides: Any) -> dict[str, torch.Size]:
    model = create_model(name, image_size=image_size, **{**FAMILIES[name], **overrides})
    return {key: tensor.shape for key, tensor in model.state_dict().items()}


@pytest.mark.parametrize(
    ("image_size", "stride", "grids"),
    [(16, 1, 3), (32, 1, 3), (47, 1, 3), (48, 2, 4), (111, 2, 4), (112, 4, 4), (224, 4, 4)],
)
def test_plan(image_size: int, stride: int, grids: int) -> None:
    assert plan(image_size) == Plan(stride, grids)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_follows_the_image_size(name: str) -> None:
    """Four times the pixels: less than twice the operations; the first grid has 24 to 56 pixels."""
    macs = {}
    for size in (16, 32, 64, 224):
        model = create_model(name, image_size=size, **FAMILIES[name]).train()
        assert model(torch.randn(2, 3, size, size)).shape == (2, 10)
        first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
        assert first.stride == (plan(size).stride,) * 2
        assert first.kernel_size[0] > first.stride[0] or first.stride == (1, 1)
        macs[size] = count(deploy(model), (3, size, size)).macs
    assert macs[64] < 2 * macs[32]
    assert macs[224] < 8 * macs[32]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_drawn_for_32_pixels_is_the_one_that_it_was(name: str) -> None:
    """So are those of runs that were started before networks followed the size, whatever the size of their images."""
    assert shapes(name, 64, drawn_for=32) == shapes(name, 32) == shapes(name, 16)
    assert shapes(name, 64, **read_back(name, {})) == shapes(name, 32)
    assert recorded(name, 32, {"depth": 2}) == {"depth": 2}
    assert recorded(name, 64, {"depth": 2}) == {"drawn_for": 64, "depth": 2}
    assert recorded(name, 64, {"drawn_for": 32}) == {"drawn_for": 32}
    assert shapes(name, 64, **read_back(name, recorded(name, 64, {}))) == shapes(name, 64) != shapes(name, 32)


def test_networks_that_do_not_follow_the_size_record_nothing() -> None:
    assert recorded("simnet2", 64, {"order": 1.0}) == {"order": 1.0} == read_back("simnet2", {"order": 1.0})


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_folding_changes_nothing_behind_a_stem_that_strides(name: str) -> None:
    torch.manual_seed(0)
    model = create_model(name, image_size=64, **FAMILIES[name]).train()
    model(torch.randn(8, 3, 64, 64))
    model.eval()
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(deploy(model)(x), model(x), rtol=1e-4, atol=1e-4)  # float32 in some ten layers


@pytest.mark.parametrize(
    ("value", "message"), [(0, "drawn_for of simnet_mixed is 0"), (64, "needs images of at least 48")]
)
def test_wrong_sizes_are_refused(value: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_model("simnet_mixed", image_size=40, drawn_for=value)
