"""The engines that run exported files, ONNX Runtime and OpenVINO: on the CPU, in float32, without PyTorch."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simroot.errors import ConfigError, ExportError, counted, one_line
from simroot.export.native import read_openvino, require_operators, uses_operators

SUFFIXES = {".onnx": "onnxruntime", ".xml": "openvino"}
_TYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "u8": np.uint8, "f32": np.float32}


class Engine(NamedTuple):
    """A file loaded in its engine.

    Attributes:
        run: a batch, (N, *shape), -> scores, float32 (N, classes).
        shape: of one input.
        dtype: of the input.
        outputs: number of scores, None if the file leaves it open.
        properties: the file's metadata.
    """

    run: Callable[[NDArray[Any]], NDArray[np.float32]]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    outputs: int | None
    properties: dict[str, str]


def open_file(path: Path, threads: int | None = None) -> Engine:
    """Load a file in the engine of its suffix.

    Args:
        path: ``.onnx`` or ``.xml`` (with its ``.bin`` beside it).
        threads: threads of the engine; None leaves it to the engine.

    Raises:
        ConfigError: for another suffix, less than one thread or an engine that is not installed.
        ExportError: if the file is missing or damaged, or takes or gives something else than batches of numbers.
    """
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"{path} is no file that can be run; expected one of {', '.join(SUFFIXES)}")
    if threads is not None and threads < 1:
        raise ConfigError(f"threads is {threads}; expected at least 1")
    if not path.is_file():
        raise ExportError(f"{path} does not exist; expected a file of simroot export")
    engine = library(SUFFIXES[path.suffix])
    load = _onnxruntime if path.suffix == ".onnx" else _openvino
    try:
        return load(engine, path, threads)
    except (ConfigError, ExportError):
        raise
    # The engines' own errors share no narrower class.
    except Exception as error:
        raise ExportError(f"{path} cannot be loaded: {_last_line(error)}; export it again") from error


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return one_line(lines[-1].strip(), 300)


def library(name: str) -> ModuleType:
    """A package of the extras, which is loaded when it is needed.

    Raises:
        ConfigError: saying how to install it, if it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        extra = "runtime" if name == "onnxruntime" else "export"
        raise ConfigError(f"{name} is not installed; install it with pip install 'simroot[{extra}]'") from error


def _onnxruntime(engine: ModuleType, path: Path, threads: int | None) -> Engine:
    options = engine.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 4  # what is wrong comes as an exception
    if uses_operators(path):
        options.register_custom_ops_library(str(require_operators("onnxruntime")))
    session = engine.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    inputs, outputs = session.get_inputs(), session.get_outputs()
    _require_one(path, inputs, outputs)
    name = inputs[0].name

    def run(batch: NDArray[Any]) -> NDArray[np.float32]:
        return np.asarray(session.run(None, {name: batch})[0], dtype=np.float32)

    properties = dict(session.get_modelmeta().custom_metadata_map)
    return _engine(path, run, inputs[0].shape, inputs[0].type, outputs[0].shape, properties)


def _openvino(engine: ModuleType, path: Path, threads: int | None) -> Engine:
    model = read_openvino(engine, path)
    _require_one(path, model.inputs, model.outputs)
    # Its own choice would be bfloat16 on processors that have it.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    request = engine.Core().compile_model(model, "CPU", settings).create_infer_request()

    def run(batch: NDArray[Any]) -> NDArray[np.float32]:
        return np.array(request.infer([batch], share_inputs=True)[0], dtype=np.float32)

    source = model.input(0)
    properties = {}
    if model.has_rt_info(["simroot"]):
        properties = {f"simroot.{key}": str(value) for key, value in model.get_rt_info(["simroot"]).value.items()}
    kind = source.get_element_type().get_type_name()
    return _engine(path, run, _lengths(source), kind, _lengths(model.output(0)), properties)


def _lengths(port: Any) -> list[int | None]:
    return [length.get_length() if length.is_static else None for length in port.get_partial_shape()]


def _require_one(path: Path, inputs: list[Any], outputs: list[Any]) -> None:
    if len(inputs) != 1 or len(outputs) != 1:
        raise ExportError(
            f"{path} has {counted(len(inputs), 'input')} and {counted(len(outputs), 'output')}; expected one of each"
        )


def _engine(
    path: Path,
    run: Callable[[NDArray[Any]], NDArray[np.float32]],
    shape: list[Any],
    kind: str,
    output: list[Any],
    properties: dict[str, str],
) -> Engine:
    if kind not in _TYPES:
        raise ExportError(f"{path} takes inputs of type {kind}; expected uint8 or float32")
    if len(shape) < 2 or isinstance(shape[0], int) or not all(isinstance(length, int) for length in shape[1:]):
        raise ExportError(
            f"{path} takes inputs of shape {shape}; expected a batch of any size, of inputs of fixed size"
        )
    if len(output) != 2:
        raise ExportError(f"{path} gives outputs of shape {output}; expected (batch, classes)")
    outputs = output[1] if isinstance(output[1], int) else None

    def checked(batch: NDArray[Any]) -> NDArray[np.float32]:
        try:
            scores = run(batch)
        except Exception as error:  # as when a file is loaded
            raise ExportError(f"{path} cannot be run: {_last_line(error)}; export it again") from error
        if scores.shape != (len(batch), scores.shape[-1] if outputs is None else outputs):
            raise ExportError(f"{path} gives scores of shape {scores.shape} for {len(batch)} images; export it again")
        return scores

    return Engine(checked, tuple(shape[1:]), np.dtype(_TYPES[kind]), outputs, properties)
