"""From a module in graph form to an ONNX file that holds what the device needs and nothing else."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from simroot.engines import library
from simroot.errors import ConfigError
from simroot.export.description import Description

OPSET = 18
INPUT, OUTPUT = "images", "scores"


def write_graph(module: nn.Module, path: Path, example: Tensor, description: Description) -> None:
    """Write an ONNX file with a batch dimension of any length.

    Args:
        module: in graph form.
        path: the file.
        example: two inputs.
        description: the metadata.

    Raises:
        ConfigError: if a package is missing, or PyTorch cannot write the module as a graph.
    """
    onnx, _ = library("onnx"), library("onnxscript")  # torch.onnx needs onnxscript
    model = _record(module, example)
    _strip(model.graph)
    for key, value in description.properties().items():
        model.metadata_props.add(key=key, value=value)
    model.producer_name, model.producer_version, model.doc_string = "simroot", description.version, ""
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, path)


def _record(module: nn.Module, example: Tensor) -> Any:
    level = logging.getLogger("torch.onnx").level
    try:
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise ConfigError(f"the network cannot be written as a graph of operators: {reason}") from error
    finally:
        logging.getLogger("torch.onnx").setLevel(level)
    assert program is not None
    return program.model_proto


def _strip(graph: Any) -> None:
    """Remove names of source files and other traces of how the graph was recorded."""
    graph.ClearField("value_info")
    graph.ClearField("metadata_props")
    graph.name, graph.doc_string = "simroot", ""
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
