"""Networks as ONNX files that are good for timing alone, written in a thirtieth of the time."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from simroot.measure.timing import Candidate, compare, with_file

if TYPE_CHECKING:
    from torch import nn

_OPSET = 18


def quick_latency(
    network: nn.Module, input_size: Sequence[int], folder: Path, *, seconds: float, threads: int = 1
) -> float:
    """Milliseconds for one image in ONNX Runtime, as ``latency`` measures them, after the same check of the outputs.

    PyTorch's older writer, which records what one image passes through, writes the file in a tenth of a second; the
    engine's own optimisation makes the same of it. What that writer does not know is exported as usual.

    Args:
        network: deployed.
        input_size: of one image, (C, H, W).
        folder: for the file.
        seconds: how long to measure.
        threads: inside an operation.

    Raises:
        ConfigError, ExportError, MismatchError: as ``latency``.
    """
    candidate = Candidate(type(network).__name__, tuple(input_size), network=network)
    file = folder / "quick.onnx"
    if _written(network, input_size, file):
        candidate = replace(candidate, file=file)
    else:
        candidate = with_file(candidate, "onnxruntime", folder / "exported")
    (found,) = compare([candidate], ["onnxruntime"], threads=[threads], seconds=seconds)
    return found.milliseconds_per_image


def _written(network: nn.Module, input_size: Sequence[int], file: Path) -> bool:
    from simroot.export.forms import graph_form
    from simroot.export.similarity_forms import LpDifferences

    form = graph_form(network).eval()
    if any(isinstance(module, LpDifferences) for module in form.modules()):
        return False  # simroot's own operator is faster, and only the exporter writes it
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(form, (torch.zeros(1, *input_size),), file, dynamo=False, opset_version=_OPSET)
    except Exception:  # it has errors of many kinds, and newer versions of PyTorch may do without it
        return False
    return True
