"""The module of a web export, ``model.wasm`` with its JSON beside it, in Wasmtime."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simroot.engines.host import channels_last
from simroot.engines.protocol import Engine, Loaded, library
from simroot.errors import ExportError

FILE = "model.wasm"


class Wasm(Engine):
    """One thread and one image at a time, as in a browser."""

    name = "wasm"
    suffixes = (".wasm",)
    package = "wasmtime"
    extra = "web"
    inside = FILE

    def load(self, source: Path, threads: int | None = None, shape: tuple[int, ...] | None = None) -> Loaded:
        facts = json.loads(source.with_name(f"{source.name}.json").read_text(encoding="utf-8"))
        kind = "uint8" if facts["input"].startswith("uint8") else "float32"
        program = WasmProgram(source, kind)
        size = tuple(facts["input_size"])
        if math.prod(size) * program.dtype.itemsize != program.input_bytes:
            raise ExportError(f"{source} takes {program.input_bytes} bytes, its JSON says {kind} {list(size)}")

        def bind(batch: NDArray[Any]) -> Callable[[], NDArray[np.float32]]:
            images = channels_last(batch)
            return lambda: program.scores(images)

        return Loaded(
            bind,
            np.asarray,
            ((None, *size),),
            ((None, program.classes),),
            kind,
            "int8" if facts["precision"] == "int8" else "f32",
            threads=1,
            properties={f"simroot.{key}": json.dumps(value) for key, value in facts.items()},
        )


class WasmProgram:
    """A network's module, loaded; it sees nothing but its own memory.

    Args:
        source: the ``.wasm`` file.
        kind: type of its input, ``"uint8"`` or ``"float32"``.
    """

    def __init__(self, source: Path, kind: str) -> None:
        wasmtime = library("wasmtime", "web", "engine wasm")
        self.dtype = np.dtype(kind)
        self._store = wasmtime.Store()
        module = wasmtime.Module(self._store.engine, source.read_bytes())
        self._exports = wasmtime.Instance(self._store, module, []).exports(self._store)
        self.input_bytes, self.classes = self._call("input_bytes"), self._call("classes")

    def scores(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """float32 (N, classes) of images (N, H, W, C)."""
        images = np.ascontiguousarray(images, dtype=self.dtype)
        found = np.empty((len(images), self.classes), dtype=np.float32)
        for image, row in zip(images, found, strict=True):
            self._write(image, self._call("input"))
            row[:] = self._classified()
        return found

    def prepared(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The network's input of a picture, uint8 (H, W, 4) with alpha: ``input_bytes`` numbers, channels last."""
        height, width, _ = picture.shape
        self._write(picture, self._call("picture", width, height))
        if self._call("prepare", width, height):
            raise ExportError(f"the module refuses a picture of {width} x {height}")
        return np.frombuffer(self._read(self._call("input"), self.input_bytes), np.uint8)

    def _classified(self) -> NDArray[np.float32]:
        self._call("classify")
        return np.frombuffer(self._read(self._call("scores"), 4 * self.classes), "<f4")

    def _call(self, name: str, *arguments: int) -> int:
        return int(self._exports[name](self._store, *arguments))

    def _write(self, array: NDArray[Any], start: int) -> None:
        self._exports["memory"].write(self._store, np.ascontiguousarray(array).tobytes(), start)

    def _read(self, start: int, count: int) -> bytes:
        return bytes(self._exports["memory"].read(self._store, start, start + count))
