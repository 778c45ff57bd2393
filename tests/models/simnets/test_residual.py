"""The residual SimNet: size by hand, points of its space that have names, its head's formula, its twin, its files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from models.simnets.reference import simnet_reference, trained
from simroot.errors import ConfigError
from simroot.export import to_c, to_onnx
from simroot.layers.blocks.preactivation import PreActivationBlock
from simroot.models import create_model, deploy
from simroot.models.simnets.architecture import SimNet


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_size_by_hand() -> None:
    """Biases where a normalisation follows, none behind the second spatial filters, and two numbers for each before."""

    def module(inputs: int, hidden: int, kernel: int, group: int) -> int:
        return inputs * 4 + 4 + 4 * hidden + hidden + hidden * kernel**2 * group

    def block(c: int, d: int, kernel: int, group: int, shortcut: int) -> int:
        hidden = 2 * d
        return 2 * c + module(c, hidden, kernel, group) + hidden + module(hidden, d, kernel, group) + shortcut

    shape: dict[str, Any] = {
        "channels": [4, 8, 16],
        "depth": 1,
        "expansion": 2,
        "kernel_size": [3, 5, 3],
        "group_width": [1, 2, 8],
    }
    body = 4 * (27 + 1) + block(4, 4, 3, 1, 0) + block(4, 8, 5, 2, 32) + block(8, 16, 3, 8, 128) + 2 * 16
    head = 8 * (16 + 1) + 2 * 8 * 8 + 10 * 8 + 2
    deployed = deploy(create_model("simnet_residual", **shape, rank=0.1))
    assert parameters(deployed) == body + head
    assert parameters(deploy(create_model("simnet_residual", **shape, rank=0.1, templates=0))) == body + 17 * 10


@pytest.mark.parametrize(("rival", "rank"), [("bsconv_wrn_s", 0.25), ("bsconv_wrn_u", 1)])
@torch.no_grad()
def test_blueprint_separable_networks_are_points_of_its_space(rival: str, rank: float) -> None:
    """Behind the first convolution they are the same network: one has the other's weights, and gives its scores."""
    torch.manual_seed(0)
    ours = create_model("simnet_residual", channels=4, group_width=1, rank=rank, templates=0).eval()
    theirs = create_model(rival, channels=4).eval()
    assert isinstance(ours, nn.Sequential)
    assert isinstance(theirs, nn.Sequential)
    ours[1:].load_state_dict(theirs[1:].state_dict())
    x = torch.randn(2, 4, 16, 16)
    torch.testing.assert_close(ours[1:](x), theirs[1:](x), rtol=0, atol=0)


@pytest.mark.slow
def test_narrow_blocks_train_channels_last() -> None:
    """In a process of its own: what it guards against is a crash."""
    code = (
        "import torch, simroot\n"
        "for name in ('simnet_residual', 'mlperf_resnet8'):\n"
        "    model = simroot.create_model(name, channels=4).to(memory_format=torch.channels_last)\n"
        "    images = torch.randn(16, 3, 32, 32).to(memory_format=torch.channels_last)\n"
        "    for _ in range(3):\n        model(images).sum().backward()\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_groups_are_fewer_with_depth() -> None:
    model = create_model("simnet_residual", channels=16, group_width=(1, 4, 16))
    spatial = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3)]
    assert [layer.groups for layer in spatial] == [1, *(groups for groups in (16, 8, 4) for _ in range(4))]
    assert sum(isinstance(module, PreActivationBlock) for module in model.modules()) == 6


@pytest.mark.parametrize("overrides", [{}, {"depth": 1, "rank": 1}, {"kernel_size": 5, "expansion": 2, "order": 1.0}])
@torch.no_grad()
def test_it_is_the_formula_behind_its_blocks(overrides: dict[str, Any]) -> None:
    model = trained("simnet_residual", **overrides)
    deployed = deploy(model)
    assert isinstance(deployed, nn.Sequential)
    x = torch.randn(3, 3, 32, 32)
    *below, simnet = deployed.double()
    assert isinstance(simnet, SimNet)
    expected = simnet_reference(simnet, nn.Sequential(*below)(x.double()))
    torch.testing.assert_close(model(x).double(), expected, rtol=1e-4, atol=1e-4)  # float32 in some ten layers


@torch.no_grad()
def test_twin_is_the_same_below_the_head() -> None:
    shape: dict[str, Any] = {"depth": 1, "group_width": [1, 1, 2], "expansion": 2}
    model, twin = trained("simnet_residual", **shape), trained("simnet_residual_twin", **shape)
    below = {name: tensor.shape for name, tensor in model.state_dict().items() if not name.startswith("simnet")}
    assert below == {name: tensor.shape for name, tensor in twin.state_dict().items() if name in below}
    assert [name for name, _ in twin.named_children()][-6:] == [
        "conv1",
        "relu1",
        "mix1",
        "pool",
        "flatten",
        "classifier",
    ]
    x = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(deploy(twin)(x), twin(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"group_width": 3}, "group_width of simnet_residual is 3; it does not divide 16 channels"),
        ({"kernel_size": [3, 4, 3]}, "kernel_size of simnet_residual is 4; expected an odd number"),
        (
            {"kernel_size": [3, 3]},
            r"kernel_size of simnet_residual is \[3, 3\]; expected a whole number of at least 1, ",
        ),
        ({"channels": [8, 0, 8]}, r"channels of simnet_residual is \[8, 0, 8\]; expected a whole number"),
        ({"channels": 0}, "channels of simnet_residual is 0"),
        ({"rank": 0}, "rank of simnet_residual is 0; expected a number above 0"),
        ({"templates": -1}, "templates of simnet_residual is -1; expected a number of at least 0"),
        ({"expansion": 0}, "expansion of simnet_residual is 0"),
    ],
)
def test_wrong_arguments_are_refused(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_model("simnet_residual", **overrides)


@pytest.mark.slow
@pytest.mark.parametrize("int8", [False, True])
def test_files_compute_what_it_computes(int8: bool, tmp_path: Path) -> None:
    """Both writers compare each file's scores with the network's."""
    model = trained("simnet_residual", depth=1, channels=4)
    images = np.random.default_rng(0).integers(0, 256, (32, 3, 32, 32), dtype=np.uint8)
    options: dict[str, Any] = {"calibration": images} if int8 else {}
    options |= {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    assert to_onnx(model, tmp_path / "network.onnx", (3, 32, 32), **options).path.exists()
    assert to_c(model, tmp_path / "c", (3, 32, 32), **options).path.exists()
