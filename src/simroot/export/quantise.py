"""int8: convolutions and dense layers in 8 bits, similarities and MEX in float32, ranges from a calibration set.

Activations are uint8, weights int8 within 7 bits and with a scale per filter: no intermediate sum overflows on a
processor without instructions of its own for int8.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from simroot.export.engines import library
from simroot.export.mex_forms import MexMatrix
from simroot.export.similarity_forms import LpDifferences, LpOperator, Quadratic
from simroot.models.simnet_core import SimNet

_BATCH = 64
_QUANTISED = ["Conv", "Gemm", "MatMul"]
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


def quantise_graph(source: Path, target: Path, form: nn.Module, inputs: NDArray[Any]) -> None:
    """Write the int8 version of an ONNX file.

    Args:
        source: the float32 file.
        target: the int8 file.
        form: what ``source`` was written from.
        inputs: a calibration set.

    Raises:
        ConfigError: if a package is missing.
    """
    onnx, quantisation = library("onnx"), library("onnxruntime.quantization")

    class Reader(quantisation.CalibrationDataReader):  # type: ignore[name-defined]
        def __init__(self) -> None:
            self.batches = iter(np.array_split(inputs, -(-len(inputs) // _BATCH)))

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            return next(({name: batch} for batch in self.batches), None)

    graph = onnx.load(source).graph
    name = graph.input[0].name
    parts = tuple(f"{part}." for part, module in form.named_modules() if isinstance(module, _IN_FLOAT))
    kept = [node.name for node in graph.node if node.op_type in _QUANTISED and node.input[1].startswith(parts)]
    with _quiet():
        quantisation.quantize_static(
            source,
            target,
            Reader(),
            quant_format=quantisation.QuantFormat.QDQ,
            op_types_to_quantize=_QUANTISED,
            nodes_to_exclude=kept,
            per_channel=True,
            reduce_range=True,
            activation_type=quantisation.QuantType.QUInt8,
            weight_type=quantisation.QuantType.QInt8,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantiser's advice to preprocess a graph that has been."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
