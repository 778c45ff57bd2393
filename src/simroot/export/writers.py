"""The formats that a network can be written in, and the function that writes each."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from simroot.errors import ConfigError

if TYPE_CHECKING:
    from simroot.export.checked import Exported


class Format(NamedTuple):
    """The suffix of the file, none of a folder, the function of ``simroot.export`` that writes it, and its stem."""

    suffix: str
    function: str
    stem: str = "model"


FORMATS = {
    "onnx": Format(".onnx", "to_onnx"),
    "openvino": Format(".xml", "to_openvino"),
    "torch": Format(".pt2", "to_torch_export"),
    "c": Format("", "to_c"),
    "web": Format("", "to_web", "web"),
    "tflite": Format(".tflite", "to_tflite"),
}


def writer(name: str) -> Callable[..., Exported]:
    """The function that writes a network in a format.

    Raises:
        ConfigError: for another format.
    """
    if name not in FORMATS:
        raise ConfigError(f"format is {name!r}; expected one of {', '.join(FORMATS)}")
    found: Callable[..., Exported] = getattr(importlib.import_module("simroot.export"), FORMATS[name].function)
    return found
