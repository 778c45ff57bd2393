"""Where engines find simroot's own operator: in libraries beside the native kernels, without PyTorch."""

from __future__ import annotations

import importlib
import mmap
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from simroot.errors import ConfigError

OPERATOR = "LpSimilarity"
"""The operator's type; in ONNX its domain is ``simroot``."""

_LIBRARIES = {"onnxruntime": "simroot", "openvino": "simroot_openvino"}


def operators_library(engine: str = "onnxruntime") -> Path | None:
    """The library that holds the operator; None if this installation has none.

    For ONNX Runtime what ``SessionOptions.register_custom_ops_library`` takes, for OpenVINO ``Core.add_extension``.
    """
    name = _LIBRARIES[engine]
    path = Path(__file__).resolve().parents[1] / (f"{name}.dll" if sys.platform == "win32" else f"lib{name}.so")
    return path if path.is_file() else None


def require_operators(engine: str) -> Path:
    """``operators_library``.

    Raises:
        ConfigError: if this installation has none.
    """
    if (path := operators_library(engine)) is None:
        raise ConfigError(
            f"simroot's own operator for {engine} is in a library that this installation lacks: see docs/export.md "
            "for how it is built, or export without the custom operator"
        )
    return path


def uses_operators(path: Path) -> bool:
    """Whether an ONNX file, or the .xml of OpenVINO, holds simroot's own operator."""
    if not path.stat().st_size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(OPERATOR.encode()) >= 0


def read_openvino(openvino: ModuleType, path: Path) -> Any:
    """An OpenVINO model of an ``.xml`` file, simroot's operators included.

    Raises:
        ConfigError: if this installation has not the operator.
    """
    core = openvino.Core()
    if uses_operators(path):
        core.add_extension(str(require_operators("openvino")))
    return core.read_model(str(path))


def from_onnx(openvino: ModuleType, path: Path) -> Any:
    """An ONNX file as an OpenVINO model, simroot's operators included.

    Raises:
        ConfigError: if this installation has not the operator.
    """
    core = openvino.Core()
    if uses_operators(path):
        factory = importlib.import_module("openvino.utils.node_factory").NodeFactory()
        factory.add_extension(str(require_operators("openvino")))

        def convert(node: Any) -> Any:
            attributes = {name: node.get_attribute(name) for name in ("order", "stride", "groups")}
            inputs = [node.get_input(index) for index in range(4)]
            return factory.create(OPERATOR, inputs, attributes).outputs()

        frontend = importlib.import_module("openvino.frontend.onnx")
        core.add_extension(frontend.ConversionExtension(OPERATOR, "simroot", convert))
    return core.read_model(str(path))
