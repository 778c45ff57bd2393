"""OpenVINO: ``.xml`` files with their ``.bin``, and ``.onnx``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simroot.engines.operators import OPERATOR, require_operators, uses_operators
from simroot.engines.protocol import Engine, Loaded, Shape, fits
from simroot.errors import ConfigError

_KINDS = {"u8": "uint8", "f32": "float32"}


class OpenVino(Engine):
    """In float32 everywhere: left to itself it takes bfloat16 on processors that have it."""

    name = "openvino"
    suffixes = (".xml", ".onnx")
    package = "openvino"
    extra = "export"

    def load(self, source: Path, threads: int | None = None, shape: tuple[int, ...] | None = None) -> Loaded:
        openvino = self.require()
        model = read_model(openvino, source)
        inputs, outputs = tuple(map(_lengths, model.inputs)), tuple(map(_lengths, model.outputs))
        kind = next((port.get_element_type().get_type_name() for port in model.inputs), "")
        properties = {}
        if model.has_rt_info(["simroot"]):
            properties = {f"simroot.{key}": str(value) for key, value in model.get_rt_info(["simroot"]).value.items()}
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            settings |= {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        if shape is not None and len(inputs) == 1 and fits(inputs[0], shape):
            model.reshape(list(shape))
        compiled = _core(openvino).compile_model(model, "CPU", settings)
        precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if precision != "f32":
            raise ConfigError(f"OpenVINO runs {source.name} with {precision}; expected f32")
        request = compiled.create_infer_request()

        def bind(batch: NDArray[Any]) -> Callable[[], Any]:
            feed = {0: batch}
            return lambda: request.infer(feed, share_inputs=True, share_outputs=True)

        return Loaded(
            bind,
            lambda found: np.array(found[0], dtype=np.float32),
            inputs,
            outputs,
            _KINDS.get(kind, kind),
            precision,
            compiled.get_property("INFERENCE_NUM_THREADS"),
            properties=properties,
        )


@cache
def _core(openvino: ModuleType) -> Any:
    """What compiles networks: one for the whole process, until its end.

    OpenVINO's CPU plugin lends the thread a stack for its signal handlers, and takes it away with the ``Core``. Of two
    that do not end in the reverse order the second leaves a stack that is no more: the next Ctrl-C would be a crash.
    """
    return openvino.Core()


def read_model(openvino: ModuleType, path: Path) -> Any:
    """An OpenVINO model of an ``.xml`` or ``.onnx`` file, simroot's operators included.

    Raises:
        ConfigError: if this installation has not the operator.
    """
    core = openvino.Core()
    if uses_operators(path):
        own = str(require_operators("openvino"))
        if path.suffix == ".xml":
            core.add_extension(own)
        else:
            _convert(core, own)
    return core.read_model(str(path))


def _convert(core: Any, own: str) -> None:
    """Let ONNX files hold the operators of a library."""
    factory = importlib.import_module("openvino.utils.node_factory").NodeFactory()
    factory.add_extension(own)

    def convert(node: Any) -> Any:
        attributes = {name: node.get_attribute(name) for name in ("order", "stride", "groups")}
        inputs = [node.get_input(index) for index in range(4)]
        return factory.create(OPERATOR, inputs, attributes).outputs()

    frontend = importlib.import_module("openvino.frontend.onnx")
    core.add_extension(frontend.ConversionExtension(OPERATOR, "simroot", convert))


def _lengths(port: Any) -> Shape:
    shape = port.get_partial_shape()
    return () if shape.rank.is_dynamic else tuple(each.get_length() if each.is_static else None for each in shape)
