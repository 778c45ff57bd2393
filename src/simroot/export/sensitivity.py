"""int8 where it costs too much accuracy: the layers whose 8 bits change the scores most stay in float32."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simroot.engines import open_file
from simroot.errors import ExportError
from simroot.export.checked import Job
from simroot.export.quantise import layers_of, quantise_graph

_IMAGES = 64  # of the calibration, on which layers are compared
_NAMED = 5

logger = logging.getLogger("simroot")


def write_int8(job: Job, source: Path, target: Path) -> None:
    """Write the int8 version of an ONNX file, all of it in 8 bits that its accuracy allows.

    If the accuracy falls by too much, one layer, then two, four and so on are left in float32, the costliest first; the
    log says which, and what they cost in bytes. What comes out may still fail the check.

    Args:
        job: what is to be written.
        source: the float32 file.
        target: the int8 file.
    """
    assert job.calibration is not None
    layers, in_float = layers_of(source, job.form)
    quantise_graph(source, target, job.calibration, in_float=in_float)
    if len(layers) < 2 or _passes(job, target):
        return
    size, count = target.stat().st_size, 1
    ranked = _ranked(source, target, job.calibration, list(layers))
    while count < len(ranked):
        kept = ranked[:count]
        quantise_graph(source, target, job.calibration, in_float=[*in_float, *kept])
        if _passes(job, target):
            names = [layers[node] for node in kept]
            logger.warning(
                "%d of %d layers stay in float32, since int8 costs them too much accuracy: %s (%+.1f kB)",
                count,
                len(layers),
                ", ".join(names[:_NAMED]) + ("" if len(names) <= _NAMED else ", ..."),
                (target.stat().st_size - size) / 1000,
            )
            return
        count *= 2


def _passes(job: Job, path: Path) -> bool:
    try:
        job.checked(path, "onnx", open_file(path).run)
    except ExportError:
        return False
    return True


def _ranked(source: Path, scratch: Path, inputs: NDArray[Any], nodes: list[str]) -> list[str]:
    """The nodes by how far the scores are from those in float32 if a node is in 8 bits alone, the furthest first."""
    few = inputs[np.linspace(0, len(inputs) - 1, min(len(inputs), _IMAGES)).astype(int)]
    expected = open_file(source).run(few)
    errors = {}
    for node in nodes:
        quantise_graph(source, scratch, few, alone=[node])
        errors[node] = float(np.square(open_file(scratch).run(few) - expected).mean())
    return sorted(nodes, key=errors.__getitem__, reverse=True)
