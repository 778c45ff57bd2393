"""The residual SimNet: size by hand, its modules' and its head's formula, its twin, its files."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from models.simnets.reference import simnet_reference, trained
from simroot.errors import ConfigError
from simroot.export import to_c, to_onnx
from simroot.layers.blocks.root_module import ResidualRootModule2d
from simroot.models import create_model, deploy
from simroot.models.simnets.architecture import SimNet


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_size_by_hand() -> None:
    """Of the spatial filters nothing but weights, of the 1x1 convolutions a bias where the normalisation was."""

    def module(inputs: int, outputs: int, kernel: int, group: int) -> int:
        return inputs * kernel**2 * group + (inputs + 1) * outputs

    shape: dict[str, Any] = {
        "channels": [8, 8, 16],
        "depth": [1, 2, 1],
        "kernel_size": [3, 5, 3],
        "group_width": [1, 2, 8],
    }
    body = 4 * (27 + 1) + module(4, 8, 3, 1) + 2 * module(8, 8, 5, 2) + module(8, 16, 3, 8)
    head = 8 * (16 + 1) + 2 * 8 * 8 + 10 * 8 + 2
    assert parameters(deploy(create_model("simnet_residual", **shape))) == body + head
    assert parameters(deploy(create_model("simnet_residual", **shape, templates=0))) == body + 17 * 10


@torch.no_grad()
def test_a_module_is_its_formula() -> None:
    """y = relu(gain * (E S x - mean) / deviation + bias), and x where the channels stay, in double precision."""
    torch.manual_seed(0)
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    for outputs in (4, 6):
        block = ResidualRootModule2d(4, outputs, 3, group_width=2).double()
        block.embedding.gain.normal_()
        expected = torch.zeros(2, 4, 5, 6, dtype=torch.float64)
        for channel in range(4):
            for source in range(2):
                for row, column in product(range(5), range(6)):
                    rows, columns = slice(max(0, row - 1), row + 2), slice(max(0, column - 1), column + 2)
                    window = x[:, channel // 2 * 2 + source, rows, columns]
                    top, left = max(0, 1 - row), max(0, 1 - column)
                    kernel = block.spatial.weight[channel, source, top : top + window.shape[1]]
                    kernel = kernel[:, left : left + window.shape[2]]
                    expected[:, channel, row, column] += (window * kernel).sum((1, 2))
        mixed = torch.einsum("dc,nchw->ndhw", block.embedding.weight[:, :, 0, 0], expected)
        mean, variance = mixed.mean((0, 2, 3), keepdim=True), mixed.var((0, 2, 3), correction=0, keepdim=True)
        assert block.embedding.bias is not None
        gain, bias = (each.view(1, -1, 1, 1) for each in (block.embedding.gain, block.embedding.bias))
        y = (gain * (mixed - mean) / (variance + 1e-5).sqrt() + bias).clamp(min=0)
        torch.testing.assert_close(block(x), y + x if outputs == 4 else y)


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
    model = create_model("simnet_residual", channels=24, depth=2, group_width=(1, 4, 8))
    spatial = [module.spatial for module in model.modules() if isinstance(module, ResidualRootModule2d)]
    assert [(layer.in_channels, layer.groups) for layer in spatial] == [
        *[(16, 16), (24, 24)],
        *[(24, 6), (40, 10)],
        *[(40, 5), (56, 7)],
    ]


@pytest.mark.parametrize("overrides", [{}, {"depth": 1, "group_width": [1, 2, 4]}, {"kernel_size": 5, "order": 1.0}])
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
    shape: dict[str, Any] = {"depth": 1, "group_width": [1, 1, 2]}
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
        ({"group_width": 0}, "group_width of simnet_residual is 0; expected a whole number of at least 1, "),
        ({"kernel_size": [3, 4, 3]}, "kernel_size of simnet_residual is 4; expected an odd number"),
        (
            {"kernel_size": [3, 3]},
            r"kernel_size of simnet_residual is \[3, 3\]; expected a whole number of at least 1, ",
        ),
        ({"channels": [8, 0, 8]}, r"channels of simnet_residual is \[8, 0, 8\]; expected a whole number"),
        ({"channels": 0}, "channels of simnet_residual is 0"),
        ({"templates": -1}, "templates of simnet_residual is -1; expected a number of at least 0"),
        ({"depth": [1, 0, 2]}, r"depth of simnet_residual is \[1, 0, 2\]; expected a whole number"),
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
