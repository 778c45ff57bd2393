"""Networks written for an engine that runs files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from simroot import export
from simroot.engines import Engine, operators_library
from simroot.engines.operators import LIBRARIES


def write_for(engine: Engine, network: nn.Module, path: Path, input_size: Sequence[int]) -> Path:
    """Write what an engine runs best, with simroot's own operator where there is one, and say which file to run.

    Args:
        engine: one that reads files.
        network: stays as it is.
        path: where to write; a file gets the engine's suffix.
        input_size: shape of one input, (C, H, W).

    Raises:
        ConfigError, ExportError: as ``simroot.export.to_onnx``.
    """
    suffix = engine.suffixes[0]
    if suffix == ".c":
        return export.to_c(network, path, input_size).path / "network.c"
    if suffix == ".wasm":
        return export.to_wasm(network, path.with_suffix(suffix), input_size).path
    own = engine.name in LIBRARIES and operators_library(engine.name) is not None
    write = {".onnx": export.to_onnx, ".xml": export.to_openvino, ".tflite": export.to_tflite}[suffix]
    return write(network, path.with_suffix(suffix), input_size, custom_operator=own).path
