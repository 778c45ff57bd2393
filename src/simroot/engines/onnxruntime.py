"""ONNX Runtime: ``.onnx`` files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simroot.engines.operators import require_operators, uses_operators
from simroot.engines.protocol import Engine, Loaded, Shape

_KINDS = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


class OnnxRuntime(Engine):
    """The smallest that is installed with simroot."""

    name = "onnxruntime"
    suffixes = (".onnx",)
    package = "onnxruntime"
    extra = "runtime"

    def load(self, source: Path, threads: int | None = None, shape: tuple[int, ...] | None = None) -> Loaded:
        onnxruntime = self.require()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 4  # what is wrong comes as an exception
        if uses_operators(source):
            options.register_custom_ops_library(str(require_operators(self.name)))
        session = onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
        inputs, outputs = session.get_inputs(), session.get_outputs()

        def bind(batch: NDArray[Any]) -> Callable[[], Any]:
            feed = {inputs[0].name: batch}
            return lambda: session.run(None, feed)

        return Loaded(
            bind,
            lambda found: np.asarray(found[0], dtype=np.float32),
            tuple(map(_shape, inputs)),
            tuple(map(_shape, outputs)),
            next((_KINDS.get(port.type, port.type) for port in inputs), ""),
            properties=session.get_modelmeta().custom_metadata_map,
        )


def _shape(port: Any) -> Shape:
    """Lengths that are no numbers are open."""
    return tuple(length if isinstance(length, int) else None for length in port.shape)
