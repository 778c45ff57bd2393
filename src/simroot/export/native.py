"""Where ONNX Runtime finds simroot's own operator: in the library of the native kernels, without PyTorch."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

from simroot.errors import ConfigError

_OPERATOR = b"LpSimilarity"
_LIBRARY = "simroot.dll" if sys.platform == "win32" else "libsimroot.so"


def operators_library() -> Path | None:
    """The library whose path ``SessionOptions.register_custom_ops_library`` takes; None without native kernels."""
    path = Path(__file__).resolve().parents[1] / _LIBRARY
    return path if path.is_file() else None


def require_operators() -> Path:
    """``operators_library``.

    Raises:
        ConfigError: if this installation has none.
    """
    if (path := operators_library()) is None:
        raise ConfigError(
            "simroot's own operator is in the library of its native kernels, which this installation lacks: install "
            "simroot where there is a C++ compiler, or export without the custom operator"
        )
    return path


def uses_operators(path: Path) -> bool:
    """Whether an ONNX file holds simroot's own operator."""
    if not path.stat().st_size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(_OPERATOR) >= 0
