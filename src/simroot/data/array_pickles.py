"""Pickles of NumPy arrays of numbers, such as the batches of CIFAR.

NumPy's own constructors make arrays of objects out of any bytes: such an array is a list of addresses that crash the
process. Here an array is made from its bytes once its type is known to be of numbers, and its shape to fit them.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simroot.untrusted.pickles import read_pickle

_NUMBERS = re.compile(r"[<>|=]?[iuf][1248]")
_DIMENSIONS = 8


def read_arrays(path: Path) -> dict[str | int, Any]:
    """The dictionary of a pickle that holds arrays of numbers and plain values.

    Raises:
        ValueError: if it holds anything else, or is damaged.
    """
    content = read_pickle(path.read_bytes(), _CONSTRUCTORS)
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds a {type(content).__name__}")
    return {key: value.array() if isinstance(value, _Array) else value for key, value in content.items()}


class _Type:
    """A type of numbers; pickles say its byte order afterwards."""

    def __init__(self, text: Any, *_: Any) -> None:
        if not isinstance(text, str) or not _NUMBERS.fullmatch(text):
            raise ValueError("it holds an array that is not of numbers")
        self.dtype = np.dtype(text)

    def set_state(self, state: Any) -> None:
        """``state`` is (version, byte order, ...); the rest belongs to types that are not of numbers."""
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise ValueError("it has a byte order that there is not")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """An array whose bytes come with its state."""

    def __init__(self, *_: Any) -> None:
        self._state: tuple[Any, Any, Any, Any] = (_Type("u1"), b"", (0,), False)

    def set_state(self, state: Any) -> None:
        """``state`` is (version, shape, type, whether columns come first, bytes)."""
        _, shape, kind, columns_first, content = state
        self._state = (kind, content, shape, columns_first)

    def array(self) -> NDArray[Any]:
        """The numbers."""
        kind, content, shape, columns_first = self._state
        return _numbers(content, kind, shape, "F" if columns_first else "C")


def _numbers(content: Any, kind: Any, shape: Any, order: Any) -> NDArray[Any]:
    data = content.encode("latin1") if isinstance(content, str) else content  # Python 2 has it as text
    if not isinstance(kind, _Type) or not isinstance(data, bytes | bytearray) or order not in ("C", "F"):
        raise ValueError("it holds an array that is not of numbers")
    if not isinstance(shape, tuple) or len(shape) > _DIMENSIONS or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError("it holds an array of a shape that there is not")
    if math.prod(shape) * kind.dtype.itemsize != len(data):
        raise ValueError(f"it holds an array of shape {shape} in {len(data):,} bytes")
    return np.frombuffer(data, kind.dtype).reshape(shape, order=order)


def _from_buffer(content: Any, kind: Any, shape: Any, order: Any, axes: Any = None) -> NDArray[Any]:
    if axes is not None:
        raise ValueError("it holds an array in an unusual order")
    return _numbers(content, kind, shape, order)


def _scalar(kind: Any, content: Any) -> Any:
    return _numbers(content, kind, (), "C")[()]


def _encode(text: Any, codec: Any = "latin1") -> bytes:
    if not isinstance(text, str) or codec != "latin1":
        raise ValueError("it holds bytes in an unusual coding")
    return text.encode("latin1")


_CONSTRUCTORS: dict[str, Any] = {
    "numpy dtype": _Type,
    "numpy ndarray": "ndarray",  # only named
    "_codecs encode": _encode,
    "__builtin__ bytes": lambda: b"",  # which is how early protocols write none
}
for _module in ("numpy.core", "numpy._core"):
    _CONSTRUCTORS |= {
        f"{_module}.multiarray _reconstruct": _Array,
        f"{_module}.multiarray scalar": _scalar,
        f"{_module}.numeric _frombuffer": _from_buffer,
    }
