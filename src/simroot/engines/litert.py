"""LiteRT: ``.tflite`` files, whose metadata are in a zip archive behind the network, as its tools have it."""

from __future__ import annotations

import importlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simroot.engines.host import channels_last
from simroot.engines.protocol import Engine, Loaded

PROPERTIES = "simroot.json"
"""Name of the metadata in the archive."""

_LARGEST = 1 << 20  # bytes of metadata


class LiteRt(Engine):
    """One image at a time, as on a device."""

    name = "litert"
    suffixes = (".tflite",)
    package = "ai_edge_litert"
    extra = "tflite"

    def load(self, source: Path, threads: int | None = None, shape: tuple[int, ...] | None = None) -> Loaded:
        self.require()
        runtime = importlib.import_module("ai_edge_litert.interpreter")
        interpreter = runtime.Interpreter(model_path=str(source), num_threads=threads)
        interpreter.allocate_tensors()
        taken, given = interpreter.get_input_details(), interpreter.get_output_details()
        properties = _properties(source)
        # A file of pixels takes them as floats or as int8: some chips' engines have no conversion.
        pixels = "uint8" in properties.get("simroot.input", "")

        def run(images: NDArray[Any]) -> NDArray[np.float32]:
            scores = []
            for image in images:
                interpreter.set_tensor(taken[0]["index"], stored(image[None], taken[0]))
                interpreter.invoke()
                scores.append(_numbers(interpreter.get_tensor(given[0]["index"]), given[0])[0])
            return np.stack(scores)

        def bind(batch: NDArray[Any]) -> Callable[[], NDArray[np.float32]]:
            images = channels_last(batch)
            return lambda: run(images)

        return Loaded(
            bind,
            np.asarray,
            tuple(_channels_first(each["shape"]) for each in taken),
            tuple((None, *map(int, each["shape"][1:])) for each in given),
            "uint8" if pixels else "float32",
            "int8" if properties.get("simroot.precision") == '"int8"' else "f32",
            threads,
            properties=properties,
        )


def _channels_first(shape: NDArray[Any]) -> tuple[int | None, ...]:
    lengths = [int(length) for length in shape[1:]]
    return (None, *lengths[-1:], *lengths[:-1])


def stored(values: NDArray[Any], tensor: dict[str, Any]) -> NDArray[Any]:
    """Numbers as a tensor of a file holds them: q = round(x / scale) + zero point where it holds integers."""
    scale, zero = tensor["quantization"]
    if scale == 0:
        return values.astype(tensor["dtype"])
    limits = np.iinfo(tensor["dtype"])
    found: NDArray[Any] = np.clip(np.round(values / scale) + zero, limits.min, limits.max).astype(tensor["dtype"])
    return found


def _numbers(values: NDArray[Any], tensor: dict[str, Any]) -> NDArray[np.float32]:
    scale, zero = tensor["quantization"]
    return values.astype(np.float32) if scale == 0 else ((values.astype(np.float32) - zero) * scale)


def _properties(source: Path) -> dict[str, str]:
    """The metadata that ``simroot export`` wrote; none in files of others."""
    if not zipfile.is_zipfile(source):
        return {}
    with zipfile.ZipFile(source) as archive:
        if PROPERTIES not in archive.namelist() or archive.getinfo(PROPERTIES).file_size > _LARGEST:
            return {}
        found = json.loads(archive.read(PROPERTIES))
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}
