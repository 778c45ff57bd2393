"""The engines that there are, and files loaded in one of them, without PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simroot.engines.c import C
from simroot.engines.litert import LiteRt
from simroot.engines.onnxruntime import OnnxRuntime
from simroot.engines.openvino import OpenVino
from simroot.engines.protocol import Engine, Loaded, fits
from simroot.engines.pytorch import Compile, Eager
from simroot.engines.wasm import Wasm
from simroot.errors import ConfigError, DataError, ExportError, SimrootError, counted, one_line

ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        Eager(),
        Compile(),
        OnnxRuntime(),
        OpenVino(),
        C(),
        Wasm(),
        LiteRt(),
    )
}
"""Name -> engine. Of those that read a file the first one runs it where none is asked for."""


def find_engine(name: str) -> Engine:
    """The engine of a name.

    Raises:
        ConfigError: naming those that there are, if it is unknown.
    """
    if name not in ENGINES:
        raise ConfigError(f"unknown engine {name!r}; known are {', '.join(ENGINES)}")
    return ENGINES[name]


def _suffixes() -> tuple[str, ...]:
    """Of the files that engines run."""
    return tuple(dict.fromkeys(suffix for engine in ENGINES.values() for suffix in engine.suffixes))


def is_network_file(path: Path) -> bool:
    """Whether a path names a file that engines run, there or not, or the folder of one, and no run directory."""
    path = _inside(path)
    return path.suffix in _suffixes() and not path.is_dir()


def readers(path: Path) -> list[Engine]:
    """The engines that read a file.

    Raises:
        ConfigError: if none reads files with this suffix.
    """
    found = _reading(_inside(path).suffix)
    if not found:
        raise ConfigError(f"{path}: {_readers_text()}")
    return found


def load_file(
    path: Path, engine: Engine | None = None, threads: int | None = None, shape: tuple[int, ...] | None = None
) -> Loaded:
    """Load a file.

    Args:
        path: of a file that an engine reads, or the folder of a web export.
        engine: which; None for the first that reads it.
        threads: of the engine; None leaves it to the engine.
        shape: of all batches, if it is known.

    Raises:
        ConfigError: if no engine, or not this one, reads such a file, it is not installed, or there is less than one
            thread.
        ExportError: if the file is missing or damaged.
        DataError: if its input is not of this shape.
    """
    path = _inside(path)
    if engine is not None and path.suffix not in engine.suffixes:
        raise ConfigError(f"{engine.name} does not run {path.name}; {_readers_text()}")
    engine = engine or readers(path)[0]
    if threads is not None and threads < 1:
        raise ConfigError(f"threads is {threads}; expected at least 1")
    engine.require()
    if not path.is_file():
        raise ExportError(f"{path} cannot be loaded: it does not exist; expected a file of simroot export")
    with told(path, "loaded"):
        loaded = engine.load(path, threads, shape)
    if len(loaded.inputs) != 1:
        raise _not_one(path, loaded)
    if shape is not None and not fits(loaded.inputs[0], shape):
        raise DataError(f"{path} takes inputs of shape {list(loaded.inputs[0])}, received {list(shape)}")
    return loaded


def open_file(path: Path, threads: int | None = None) -> Loaded:
    """Load a file of images in batches of any size, uint8 or float32, to scores (N, classes), checked at every run.

    Raises:
        ConfigError: as ``load_file``.
        ExportError: if the file is missing or damaged, or takes or gives something else.
    """
    path = _inside(path)
    if not _reading(path.suffix):
        raise ConfigError(f"{path} is no file that can be run; expected one of {', '.join(_suffixes())}")
    loaded = load_file(path, threads=threads)
    if len(loaded.outputs) != 1:
        raise _not_one(path, loaded)
    (shape,), (output,) = loaded.inputs, loaded.outputs
    if loaded.kind not in ("uint8", "float32"):
        raise ExportError(f"{path} takes inputs of type {loaded.kind}; expected uint8 or float32")
    if len(shape) < 2 or shape[0] is not None or None in shape[1:]:
        raise ExportError(
            f"{path} takes inputs of shape {list(shape)}; expected a batch of any size, of inputs of fixed size"
        )
    if len(output) != 2:
        raise ExportError(f"{path} gives outputs of shape {list(output)}; expected (batch, classes)")

    def bind(batch: NDArray[Any]) -> Callable[[], NDArray[np.float32]]:
        def call() -> NDArray[np.float32]:
            with told(path, "run"):
                scores = loaded.run(batch)
            if scores.shape != (len(batch), scores.shape[-1] if output[1] is None else output[1]):
                raise ExportError(
                    f"{path} gives scores of shape {scores.shape} for {len(batch)} images; export it again"
                )
            return scores

        return call

    return replace(loaded, bind=bind, scores=np.asarray)


def file_input_size(path: Path) -> tuple[int, ...]:
    """Shape of one example, without the batch dimension, as a file declares it.

    Raises:
        ConfigError, ExportError: as ``load_file``; also if the file leaves a length open.
    """
    engines = readers(path)
    for engine in engines:
        try:
            engine.require()
        except ConfigError as error:
            missing = error
            continue
        (shape, *_) = load_file(path, engine).inputs
        if len(shape) < 2 or None in shape[1:]:
            raise ExportError(f"the input of {path} is of shape {list(shape)}; expected fixed lengths after the first")
        return shape[1:]  # type: ignore[return-value]
    raise ConfigError(f"{path} needs {' or '.join(engine.name for engine in engines)}: {missing}")


@contextmanager
def told(path: Path, done: str) -> Iterator[None]:
    """Around what engines do with a file: their own errors share no narrower class.

    Args:
        path: the file.
        done: ``"loaded"`` or ``"run"``.

    Raises:
        ExportError: with the last line of what the engine says; errors of simroot pass as they are.
    """
    try:
        yield
    except SimrootError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ExportError(f"{path} cannot be {done}: {one_line(lines[-1].strip(), 300)}; export it again") from error


def _not_one(path: Path, loaded: Loaded) -> ExportError:
    counts = f"{counted(len(loaded.inputs), 'input')} and {counted(len(loaded.outputs), 'output')}"
    return ExportError(f"{path} has {counts}; expected one of each")


def _inside(path: Path) -> Path:
    """The file that a folder stands for; any other path as it is."""
    files = (path / engine.inside for engine in ENGINES.values() if engine.inside)
    return next((file for file in files if file.is_file()), path)


def _reading(suffix: str) -> list[Engine]:
    return [engine for engine in ENGINES.values() if suffix in engine.suffixes]


def _readers_text() -> str:
    return "; ".join(
        f"{suffix} files run in {' and '.join(engine.name for engine in _reading(suffix))}" for suffix in _suffixes()
    )
