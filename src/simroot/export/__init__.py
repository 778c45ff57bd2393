"""Networks as files for devices: ONNX, OpenVINO and torch.export, checked against the network, and what runs them.

``Predictor`` needs NumPy, Pillow and an engine; only what writes files needs PyTorch. Names are loaded when they are
first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simroot.export.description import Description
    from simroot.export.job import ACCURACY_LOSS, AGREEMENT, TOLERANCE, Exported, Options
    from simroot.export.native import operators_library
    from simroot.export.predictor import Predictor
    from simroot.export.write import to_onnx, to_openvino, to_torch_export

_MODULES = {
    "ACCURACY_LOSS": "job",
    "AGREEMENT": "job",
    "Description": "description",
    "Exported": "job",
    "Options": "job",
    "Predictor": "predictor",
    "TOLERANCE": "job",
    "operators_library": "native",
    "to_onnx": "write",
    "to_openvino": "write",
    "to_torch_export": "write",
}

__all__ = [
    "ACCURACY_LOSS",
    "AGREEMENT",
    "TOLERANCE",
    "Description",
    "Exported",
    "Options",
    "Predictor",
    "operators_library",
    "to_onnx",
    "to_openvino",
    "to_torch_export",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'simroot.export' has no attribute {name!r}")
    return getattr(importlib.import_module(f"simroot.export.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
