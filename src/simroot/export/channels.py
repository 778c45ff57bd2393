"""Channels of one range: what a convolution or dense layer reads in 8 bits, behind another one, fills them in each.

A ReLU and a pooling let the scale of a channel through: ``s`` goes from the filters of the layer before into those of
the layer behind, and the scores stay the same. A channel that is never active, and that a whitening has blown up by its
missing variance, would otherwise hold the largest weights of the layer behind, and 8 bits would see nothing else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simroot.engines import library

_LAYERS = ("Conv", "Gemm")
_SCALED = ("Relu", "MaxPool", "AveragePool", "GlobalAveragePool")
_BATCH = 64
LEAST = 1e-6
"""Smallest range of a channel, as a share of the largest: what is smaller is brought up by as much as this."""


class Pair(NamedTuple):
    """Two layers of a graph with nothing between them but what lets scales through.

    Attributes:
        before, behind: the nodes.
        between: the name of what the first one gives, its ReLU's if that follows at once.
    """

    before: Any
    behind: Any
    between: str


def equalise_channels(path: Path, inputs: NDArray[Any]) -> None:
    """Bring what layers read to one range per channel, in an ONNX file in float32; its scores stay the same.

    Args:
        path: the file, which is replaced.
        inputs: a calibration set.
    """
    onnx = library("onnx")
    model = onnx.load(path)
    pairs = list(_pairs(model.graph))
    if not pairs:
        return
    weights = _Weights(model.graph)
    for pair, largest in zip(pairs, _largest(model, [pair.between for pair in pairs], inputs), strict=True):
        scale = relative(largest)
        weights.scale(pair.before.input[1:], 1 / scale, axis=0)
        weights.scale(pair.behind.input[1:2], scale, axis=1)
    onnx.save_model(model, path)


def relative(largest: NDArray[Any]) -> NDArray[np.float64]:
    """The ranges of channels as shares of the largest one, at least ``LEAST``; 1 where all are 0."""
    whole = float(largest.max())
    return np.maximum(largest / whole, LEAST) if whole > 0 else np.ones(len(largest))


def per_input(factors: NDArray[np.float64], groups: int, filters: int) -> NDArray[np.float64]:
    """Factors of channels as those of what each filter reads, (filters, channels / groups)."""
    return np.repeat(factors.reshape(groups, -1), filters // groups, axis=0)


class _Weights:
    """The constants of a graph."""

    def __init__(self, graph: Any) -> None:
        self.found = {tensor.name: tensor for tensor in graph.initializer}

    def scale(self, names: list[str], factors: NDArray[np.float64], axis: int) -> None:
        """Multiply constants by factors per output (axis 0) or per input (axis 1), filter groups in order."""
        helper = library("onnx.numpy_helper")
        for name in names:
            values = helper.to_array(self.found[name])
            own = factors if axis == 0 else per_input(factors, len(factors) // values.shape[1], len(values))
            scaled = values * own.reshape(*own.shape, *[1] * (values.ndim - own.ndim))
            self.found[name].CopyFrom(helper.from_array(scaled.astype(values.dtype), name))


def _pairs(graph: Any) -> Iterator[Pair]:
    readers: dict[str, list[Any]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    for output in graph.output:
        readers[output.name].append(None)
    constants = {tensor.name for tensor in graph.initializer if len(readers[tensor.name]) == 1}
    for node in filter(lambda node: _is_layer(node, constants), graph.node):
        between = name = node.output[0]
        while len(after := readers[name]) == 1 and after[0] is not None and after[0].op_type in _SCALED:
            name = after[0].output[0]
            if after[0].op_type == "Relu" and between == node.output[0]:
                between = name
        if len(after) == 1 and after[0] is not None and after[0].input[0] == name and _is_layer(after[0], constants):
            yield Pair(node, after[0], between)


def _is_layer(node: Any, constants: set[str]) -> bool:
    """Whether a node is a layer with weights of its own, its outputs in their first dimension."""
    transposed = {attribute.name: attribute.i for attribute in node.attribute}.get("transB", 0)
    return node.op_type in _LAYERS and set(node.input[1:]) <= constants and (node.op_type == "Conv" or transposed == 1)


def _largest(model: Any, names: list[str], inputs: NDArray[Any]) -> list[NDArray[np.float64]]:
    """The largest absolute value per channel, (C,), of results inside of a graph."""
    onnx, engine = library("onnx"), library("onnxruntime")
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    for name in names:
        opened.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    options = engine.SessionOptions()
    options.log_severity_level = 4
    session = engine.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
    source, found = model.graph.input[0].name, [np.zeros(1) for _ in names]
    for batch in np.array_split(inputs, -(-len(inputs) // _BATCH)):
        for place, values in enumerate(session.run(names, {source: batch})):
            most = np.abs(values).max((0, *range(2, values.ndim))).astype(np.float64)
            found[place] = np.maximum(found[place], most)
    return found
