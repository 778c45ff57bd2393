"""int8: convolutions and dense layers in 8 bits, similarities and MEX in float32, ranges from a calibration set.

Activations are uint8, weights int8 within 7 bits and with a scale per filter: no intermediate sum overflows on a
processor without instructions of its own for int8.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from simroot.engines import library
from simroot.export.mex_forms import MexMatrix
from simroot.export.similarity_forms import LpDifferences, LpOperator, Quadratic
from simroot.models.simnets.architecture import SimNet

_BATCH = 64
QUANTISED = ("Conv", "Gemm", "MatMul")
_CLIPPED = ("Relu",)  # what is below 0 takes no room in the range of the layer before
_IN_FLOAT = (Quadratic, MexMatrix)


@torch.no_grad()
def equalise(form: nn.Module, inputs: NDArray[Any]) -> None:
    """Bring what a SimNet's later convolutions read to one range per channel, in place; the outputs stay the same.

    Similarities of different templates have different means and deviations, and what tells classes apart is small
    against them: 8 bits for all channels together would round it away. ``s -> (s - m) / d`` per template goes into the
    similarity's weights and bias and is taken back by the convolution, exactly but for rounding. Where the convolution
    pads, the zeros must stay zeros, and only the deviations are equalised.

    Args:
        form: in graph form.
        inputs: a calibration set.
    """
    for network in form.modules():
        if not isinstance(network, SimNet):
            continue
        for (before, after), pool in zip(pairwise(network.similarities), network.pools, strict=False):
            conv = after[0]  # type: ignore[index]
            if isinstance(pool, nn.Identity | nn.MaxPool2d | nn.AvgPool2d) and conv.groups == 1:
                _equalise(before[1], conv, _activations(form, conv, inputs))  # type: ignore[index]


def _activations(form: nn.Module, layer: nn.Module, inputs: NDArray[Any]) -> Tensor:
    """What a layer reads, (N, C, H, W)."""
    found: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, arguments: found.append(arguments[0]))
    for batch in torch.from_numpy(inputs).split(_BATCH):
        form(batch)
    handle.remove()
    return torch.cat(found)


def _equalise(similarity: nn.Module, conv: nn.Conv2d, activations: Tensor) -> None:
    mean, deviation = activations.mean((0, 2, 3)), activations.std((0, 2, 3), correction=0)
    deviation = deviation.where(deviation > 1e-6, 1.0)  # what is constant keeps its scale
    if any(conv.padding):
        mean = torch.zeros_like(mean)
    assert isinstance(similarity, Quadratic | LpDifferences | LpOperator)
    similarity.rescale(mean, deviation)
    assert conv.bias is not None
    conv.bias += (conv.weight.double() * mean[:, None, None]).sum((1, 2, 3))
    conv.weight *= deviation[:, None, None]


def quantise_graph(
    source: Path,
    target: Path,
    inputs: NDArray[Any],
    *,
    alone: Sequence[str] | None = None,
    in_float: Sequence[str] = (),
) -> None:
    """Write the int8 version of an ONNX file.

    Args:
        source: the float32 file.
        target: the int8 file.
        inputs: a calibration set.
        alone: names of the nodes that are in 8 bits; None for all that can be.
        in_float: names of the nodes that are not.

    Raises:
        ConfigError: if a package is missing.
    """
    with _quiet():
        quantisation = library("onnxruntime.quantization")
        name = library("onnx").load(source).graph.input[0].name

        class Reader(quantisation.CalibrationDataReader):  # type: ignore[name-defined]
            def __init__(self) -> None:
                self.batches = iter(np.array_split(inputs, -(-len(inputs) // _BATCH)))

            def get_next(self) -> dict[str, NDArray[Any]] | None:
                return next(({name: batch} for batch in self.batches), None)

        quantisation.quantize_static(
            source,
            target,
            Reader(),
            quant_format=quantisation.QuantFormat.QDQ,
            op_types_to_quantize=[*QUANTISED, *_CLIPPED],
            nodes_to_quantize=alone,
            nodes_to_exclude=in_float,
            per_channel=True,
            reduce_range=True,
            activation_type=quantisation.QuantType.QUInt8,
            weight_type=quantisation.QuantType.QInt8,
        )


def layers_of(source: Path, form: nn.Module) -> tuple[dict[str, str], list[str]]:
    """The convolutions and dense layers of an ONNX file.

    Args:
        source: the file.
        form: what it was written from.

    Returns:
        Node -> name of the layer for those that can be in 8 bits, and the nodes of similarities and MEX.
    """
    graph = library("onnx").load(source).graph
    parts = tuple(f"{part}." for part, module in form.named_modules() if isinstance(module, _IN_FLOAT))
    nodes = {node.name: node.input[1] for node in graph.node if node.op_type in QUANTISED}
    kept = [node for node, weights in nodes.items() if weights.startswith(parts)]
    names = {node: weights.removesuffix(".weight") for node, weights in nodes.items() if node not in kept}
    return {node: name.removeprefix("network.") for node, name in names.items()}, kept


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantiser's advice to preprocess a graph that has been, and without the handlers that it leaves."""
    root = logging.root
    before, level, handlers = root.manager.disable, root.level, list(root.handlers)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
        root.handlers[:] = handlers
        root.setLevel(level)
