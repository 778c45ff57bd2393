"""Networks of every family, small where they can be, with the exporter's packages."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from simroot.models import create_model

# Name of the case -> registered network and its overrides.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "l2": ("simnet2", {"channels": (4, 6), "image_size": 15}),
    "l1": ("simnet2_small", {"channels": (4, 5), "order": 1.0}),
}
SLOW_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "l1.5": ("simnet2_small", {"channels": (4, 5), "order": 1.5}),
    "learned order": ("simnet2_small", {"channels": (4, 5), "order": 1.2, "learn": ("order", "templates", "weights")}),
    "root": ("simnet2_root2", {"order": 1.0, "channels": (4, 6), "image_size": 15}),
    "mex pooling": ("simnet2", {"pool_beta": 0.5, "channels": (4, 6), "image_size": 15}),
    "mlp": ("simnet_mlp", {"image_size": 6, "templates": 5}),
    "linear mlp": ("simnet_mlp", {"image_size": 6, "templates": 5, "kind": "linear"}),
    "three layers": ("simnet3_compact", {"channels": 4, "image_size": 8}),
    "one layer": ("simnet1", {"channels": 5, "image_size": 7, "order": 1.0}),
    "convnet": ("convnet_caffe", {"image_size": 8}),
    "twin": ("simnet2_twin", {"image_size": 15}),
    "coates": ("convnet_coates", {"image_size": 8}),
    "nin": ("nin_root4", {"image_size": 8}),
    "resnet": ("resnet50_root8", {"image_size": 32}),
    "googlenet": ("googlenet", {"image_size": 64}),
    "alexnet": ("alexnet", {"image_size": 67}),
}


def network(case: str) -> tuple[nn.Module, tuple[int, int, int]]:
    """A network in evaluation mode and the shape of its input."""
    name, overrides = {**FAMILIES, **SLOW_FAMILIES}[case]
    torch.manual_seed(3)
    model = create_model(name, 5, **overrides)
    side = overrides.get("image_size", 8)
    if (pool := getattr(model, "global_pool", None)) is not None and case != "l1":
        pool.beta = torch.tensor(0.3)  # it begins as an average
    return model.eval(), (3, side, side)


def require_onnx() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")


def require_openvino() -> None:
    require_onnx()
    pytest.importorskip("openvino", reason="openvino is not installed")


def files(folder: Path) -> list[str]:
    """Everything in a folder, hidden or not."""
    return sorted(path.name for path in folder.iterdir())


class Broken(nn.Module):
    """Scores that a graph cannot have: they are other ones while it is recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.layer(x)
        return 2 * scores if torch.compiler.is_exporting() else scores


def degenerate() -> nn.Module:
    """Scores that are not numbers."""
    layer = nn.Linear(4, 3)
    nn.init.constant_(layer.weight, math.nan)
    return layer
