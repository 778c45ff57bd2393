"""The engines that run a network: PyTorch eager and compiled, ONNX Runtime, OpenVINO; all on the CPU in float32.

Files run without PyTorch, which is imported for networks alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simroot.errors import ConfigError, DataError, ExportError
from simroot.export.native import from_onnx, read_openvino, require_operators, uses_operators

if TYPE_CHECKING:
    from torch import nn

TORCH_ENGINES = ("eager", "compile")
FILE_ENGINES = ("onnxruntime", "openvino")
ENGINES = (*TORCH_ENGINES, *FILE_ENGINES)

# Suffix of a network's file -> the engines that read it.
READERS = {".onnx": FILE_ENGINES, ".xml": ("openvino",)}

_EXTRAS = {"onnxruntime": "runtime", "openvino": "export"}
_FLOAT_TYPES = ("tensor(float)", "f32")
_BYTE_TYPES = ("tensor(uint8)", "u8")


@dataclass(frozen=True)
class Session:
    """A network loaded in an engine, with the input that it is run on.

    Attributes:
        run: one call; returns what the engine returns.
        scores: turns that into a float32 array (N,classes).
        precision: of the arithmetic, as the engine reports it.
        weights: bytes of the weights that were in memory before the engine was asked to run.
    """

    run: Callable[[], Any]
    scores: Callable[[Any], NDArray[np.float32]]
    precision: str = "f32"
    weights: int = 0


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Inside, torch computes with so many threads; afterwards with as many as before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def many_compilations() -> Iterator[None]:
    """Torch compiles a kind of network eight times and then runs it uncompiled; inside, every one is compiled."""
    import torch._dynamo.config as config  # slow to load, and seldom needed

    with config.patch(recompile_limit=10**6, accumulated_recompile_limit=10**6):
        yield


def engines_of(path: Path) -> tuple[str, ...]:
    """The engines that read a file.

    Raises:
        ConfigError: if none reads files with this suffix.
    """
    if path.suffix not in READERS:
        raise ConfigError(f"{path}: {_readers_text()}")
    return READERS[path.suffix]


def require_engine(engine: str) -> None:
    """Refuse an engine that is unknown or not installed.

    Raises:
        ConfigError: naming the engines that there are, or what to install.
    """
    if engine not in ENGINES:
        raise ConfigError(f"unknown engine {engine!r}; known are {', '.join(ENGINES)}")
    if engine in FILE_ENGINES:
        _library(engine)


def load_network(network: nn.Module, engine: str, images: NDArray[np.float32]) -> Session:
    """Load the deployed network in a torch engine, channels-last, to be run in inference mode on ``images``.

    It is compiled when it is first run.
    """
    import torch

    from simroot.models import deploy

    model, batch = deploy(network).cpu().float(), torch.from_numpy(images)
    if batch.ndim == 4:
        model = model.to(memory_format=torch.channels_last)
        batch = batch.contiguous(memory_format=torch.channels_last)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    call = torch.compile(model, dynamic=False) if engine == "compile" else model

    def run() -> Any:
        with torch.inference_mode():
            return call(batch)

    return Session(run, lambda output: output.float().numpy(), weights=weights)


def load_file(path: Path, engine: str, images: NDArray[np.float32], threads: int) -> Session:
    """Load a file in ONNX Runtime or OpenVINO with so many threads, for inputs of the shape of ``images``.

    Raises:
        ConfigError: if the engine is not installed or does not read such a file, or does not compute in float32.
        ExportError: if the file cannot be loaded.
        DataError: if its input is not of the shape of ``images``.
    """
    if engine not in READERS.get(path.suffix, ()):
        raise ConfigError(f"{engine} does not run {path.name}; {_readers_text()}")
    if not path.is_file():
        raise ExportError(f"{path} does not exist; expected a network's file ({', '.join(READERS)})")
    library = _library(engine)
    load = _load_onnxruntime if engine == "onnxruntime" else _load_openvino
    return load(library, path, images, threads)


def file_input_size(path: Path) -> tuple[int, ...]:
    """Shape of one example, without the batch dimension, as a file declares it.

    Raises:
        ConfigError, ExportError: as ``load_file``; also if the file leaves a length open.
    """
    engines = engines_of(path)
    for engine in engines:
        try:
            library = _library(engine)
        except ConfigError:
            continue
        shape = _onnxruntime_shape(library, path) if engine == "onnxruntime" else _openvino_shape(library, path)
        if len(shape) < 2 or not all(isinstance(length, int) for length in shape[1:]):
            raise ExportError(f"the input of {path} is of shape {shape}; expected fixed lengths after the first")
        return tuple(shape[1:])
    raise ConfigError(f"{path} needs {' or '.join(engines)}; {_install(engines[-1])}")


def _load_onnxruntime(library: ModuleType, path: Path, images: NDArray[np.float32], threads: int) -> Session:
    options = library.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = library.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    session = _reading(path, lambda: _session(library, path, options))
    source = _only(path, session.get_inputs())
    _check_shape(path, source.shape, images)
    feed = {source.name: _array(path, source.type, images)}
    _reading(path, lambda: session.run(None, feed), "run")
    return Session(lambda: session.run(None, feed), lambda outputs: np.asarray(outputs[0], dtype=np.float32))


def _load_openvino(library: ModuleType, path: Path, images: NDArray[np.float32], threads: int) -> Session:
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",  # otherwise bfloat16 where the processor has it
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    core = library.Core()
    model = _reading(path, lambda: _model(library, path))
    source = _only(path, model.inputs)
    _check_shape(path, _openvino_lengths(source), images)
    feed = {0: _array(path, source.get_element_type().get_type_name(), images)}
    _reading(path, lambda: model.reshape(list(images.shape)))
    compiled = _reading(path, lambda: core.compile_model(model, "CPU", settings))
    precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    used = {name: compiled.get_property(name) for name in ("INFERENCE_NUM_THREADS", "NUM_STREAMS")}
    if precision != "f32" or used != {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}:
        raise ConfigError(f"OpenVINO runs {path.name} with {precision}, {used}; expected f32, {settings}")
    request = compiled.create_infer_request()
    _reading(path, lambda: request.infer(feed), "run")
    return Session(
        lambda: request.infer(feed, share_inputs=True, share_outputs=True),
        lambda outputs: np.array(outputs[0], dtype=np.float32),
        precision,
    )


def _session(library: ModuleType, path: Path, options: Any) -> Any:
    if uses_operators(path):
        options.register_custom_ops_library(str(require_operators("onnxruntime")))
    return library.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _model(library: ModuleType, path: Path) -> Any:
    return (read_openvino if path.suffix == ".xml" else from_onnx)(library, path)


def _onnxruntime_shape(library: ModuleType, path: Path) -> list[Any]:
    session = _reading(path, lambda: _session(library, path, library.SessionOptions()))
    return list(_only(path, session.get_inputs()).shape)


def _openvino_shape(library: ModuleType, path: Path) -> list[Any]:
    return _openvino_lengths(_only(path, _reading(path, lambda: _model(library, path)).inputs))


def _openvino_lengths(source: Any) -> list[Any]:
    return [length.get_length() if length.is_static else None for length in source.get_partial_shape()]


def _check_shape(path: Path, shape: list[Any], images: NDArray[np.float32]) -> None:
    """Lengths that are no numbers are open."""
    fits = len(shape) == images.ndim and all(
        not isinstance(expected, int) or expected == length
        for expected, length in zip(shape, images.shape, strict=True)
    )
    if not fits:
        raise DataError(f"{path} takes inputs of shape {shape}, received {list(images.shape)}")


def _array(path: Path, kind: str, images: NDArray[np.float32]) -> NDArray[Any]:
    """The images in the type that a file takes; bytes spread over 0 to 255 where it prepares them itself."""
    if kind in _FLOAT_TYPES:
        return images
    if kind in _BYTE_TYPES:
        return (64 * images + 128).clip(0, 255).astype(np.uint8)
    raise DataError(f"{path} takes inputs of type {kind}; expected float32 or uint8")


def _only(path: Path, inputs: Sequence[Any]) -> Any:
    if len(inputs) != 1:
        raise ExportError(f"{path} has {len(inputs)} inputs; expected one, a batch of images")
    return inputs[0]


def _reading(path: Path, load: Callable[[], Any], what: str = "loaded") -> Any:
    try:
        return load()
    # The engines' own errors share no narrower class.
    except Exception as error:
        reason = str(error).strip().rpartition("\n")[2]
        raise ExportError(f"{path} cannot be {what}: {reason}") from error


def _library(engine: str) -> ModuleType:
    try:
        return importlib.import_module(engine)
    except ImportError as error:
        raise ConfigError(f"engine {engine} is not installed; {_install(engine)}") from error


def _install(engine: str) -> str:
    return f"install it with pip install 'simroot[{_EXTRAS[engine]}]'"


def _readers_text() -> str:
    return "; ".join(f"{suffix} files run in {' and '.join(engines)}" for suffix, engines in READERS.items())
