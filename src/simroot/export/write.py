"""Writing networks as files; each appears only when its outputs are the network's."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from simroot.engines import library, open_file
from simroot.engines.openvino import read_model
from simroot.errors import ConfigError
from simroot.export.channels import equalise_channels
from simroot.export.checked import Exported, Job, Options, Run
from simroot.export.graph import write_graph
from simroot.export.quantise import equalise
from simroot.export.sensitivity import write_int8
from simroot.export.sidecar import compare_speed, described
from simroot.export.similarity_forms import LpOperator

if TYPE_CHECKING:
    from typing_extensions import Unpack


def to_onnx(model: nn.Module, path: str | Path, input_size: Sequence[int], **options: Unpack[Options]) -> Exported:
    """Write an ONNX file for batches of any size.

    Everything that only training needs is folded away, and so is what depends on parameters alone. The input is called
    ``images``, the output ``scores``, (N, classes).

    Args:
        model: any network of (N, *input_size) -> (N, classes); it stays as it is.
        path: where to write, ``.onnx``.
        input_size: shape of one input, (C, H, W).
        **options: see ``simroot.export.Options``: class names, normalisation, inputs for the check, int8.

    Raises:
        ConfigError: if a package is missing, or the network cannot be written as a graph of operators.
        ExportError: if the file's outputs are not the network's, the arguments do not fit together or the folder
            cannot be written to; then there is no file.
    """
    job = Job.of(model, path, input_size, ".onnx", options)
    with job.appearing() as temporary:
        with _scratch(temporary) as folder:
            whole = _write_onnx(job, temporary, Path(folder))
            times = None if whole == temporary else compare_speed(job.path, temporary, whole, job.inputs[:1])
        return described(job.checked(temporary, "onnx", open_file(temporary).run, times), temporary)


def to_openvino(model: nn.Module, path: str | Path, input_size: Sequence[int], **options: Unpack[Options]) -> Exported:
    """Write an OpenVINO network: ``.xml``, and the weights beside it as ``.bin``, not rounded to 16 bits.

    Args:
        model: any network of (N, *input_size) -> (N, classes); it stays as it is.
        path: where to write, ``.xml``.
        input_size: shape of one input, (C, H, W).
        **options: see ``simroot.export.Options``.

    Raises:
        ConfigError, ExportError: as ``to_onnx``.
    """
    openvino = library("openvino")
    job = Job.of(model, path, input_size, ".xml", options)
    with job.appearing() as temporary:
        with _scratch(temporary) as folder:
            graph = Path(folder) / "network.onnx"
            whole = _write_onnx(job, graph, Path(folder))
            _save_openvino(job, openvino, graph, temporary)
            times = None
            if whole != graph:
                float32 = Path(folder) / "whole.xml"
                _save_openvino(job, openvino, whole, float32)
                times = compare_speed(job.path, temporary, float32, job.inputs[:1])
        return described(job.checked(temporary, "openvino", open_file(temporary).run, times), temporary)


def to_torch_export(
    model: nn.Module, path: str | Path, input_size: Sequence[int], **options: Unpack[Options]
) -> Exported:
    """Write a float32 program of ``torch.export`` for batches of any size; it runs without simroot.

    Its metadata are in the extra file ``simroot.json``.

    Args:
        model: any network of (N, *input_size) -> (N, classes); it stays as it is.
        path: where to write, ``.pt2``.
        input_size: shape of one input, (C, H, W).
        **options: see ``simroot.export.Options``; there is no int8.

    Raises:
        ConfigError, ExportError: as ``to_onnx``.
    """
    job = Job.of(model, path, input_size, ".pt2", options)
    if job.calibration is not None:
        raise ConfigError("a torch.export program is written in float32 only; write int8 as ONNX or OpenVINO")
    with job.appearing() as temporary:
        program = _program(job)
        metadata = json.dumps(job.description.properties(), ensure_ascii=False)
        # In memory first: PyTorch's own writer aborts the process when the disk is full.
        buffer = io.BytesIO()
        torch.export.save(program, buffer, extra_files={"simroot.json": metadata})
        temporary.write_bytes(buffer.getbuffer())
        return described(job.checked(temporary, "torch", _loaded(temporary)), temporary)


def _scratch(path: Path) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(dir=path.parent)


def _write_onnx(job: Job, path: Path, scratch: Path) -> Path:
    """Write the graph, and return the one in float32: the same file, or for int8 another in the scratch folder."""
    if job.calibration is None:
        write_graph(job.form, path, job.example, job.description)
        return path
    if any(isinstance(module, LpOperator) for module in job.form.modules()):
        raise ConfigError("int8 does not go with the custom operator; leave out one of them")
    equalise(job.form, job.calibration)
    whole = scratch / "float32.onnx"
    write_graph(job.form, whole, job.example, job.description)
    equalise_channels(whole, job.calibration)
    write_int8(job, whole, path)
    return whole


def _save_openvino(job: Job, openvino: ModuleType, graph: Path, path: Path) -> None:
    network = read_model(openvino, graph)
    for key, value in job.description.properties().items():
        network.set_rt_info(value, key.split("."))
    try:
        openvino.save_model(network, path, compress_to_fp16=False)
    except RuntimeError as error:  # it hides the system's reason
        raise OSError(f"OpenVINO failed ({str(error).strip()})") from error


def _program(job: Job) -> torch.export.ExportedProgram:
    batch = {0: torch.export.Dim("batch", min=1)}
    try:
        return torch.export.export(job.form, (job.example,), dynamic_shapes=(batch,))
    # torch.export has errors of many classes, and none above them.
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"the network cannot be written as a graph of operators: {reason}") from error


def _loaded(path: Path) -> Run:
    program = torch.export.load(path).module()

    def run(batch: NDArray[Any]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = program(torch.from_numpy(batch)).numpy()
        return scores

    return run
