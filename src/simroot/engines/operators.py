"""Where engines find simroot's own operator: in libraries beside the native kernels."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

from simroot.errors import ConfigError

OPERATOR = "LpSimilarity"
"""The operator's type; in ONNX its domain is ``simroot``."""

LIBRARIES = {"onnxruntime": "simroot", "openvino": "simroot_openvino"}
"""Engine -> stem of the library that holds the operator for it."""


def operators_library(engine: str = "onnxruntime") -> Path | None:
    """The library that holds the operator; None if this installation has none.

    For ONNX Runtime what ``SessionOptions.register_custom_ops_library`` takes, for OpenVINO ``Core.add_extension``.
    """
    name = LIBRARIES[engine]
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
