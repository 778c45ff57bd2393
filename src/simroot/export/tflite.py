"""TensorFlow Lite files, for phones and for the tools of chips' makers, by litert-torch."""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import logging
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from simroot.engines import library, open_file
from simroot.engines.host import channels_last
from simroot.engines.litert import PROPERTIES, stored
from simroot.errors import ConfigError, ExportError, one_line
from simroot.export.checked import TOLERANCE, Deployed, Exported, Job, Options
from simroot.export.sidecar import compare_speed, described

if TYPE_CHECKING:
    from typing_extensions import Unpack

_EXTRA = "tflite"
_TRIED, _ARENA = 8, 1 << 25  # images for the interpreter of microcontrollers, and bytes that it may take
_AGREEMENT = 0.98  # least share of inputs that a file of integers alone leaves in their class
# What is computed in int8, the most first.
_INTEGERS = (
    (("*",), "all operations"),
    (("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"), "convolutions and dense layers"),
)

logger = logging.getLogger("simroot")


def to_tflite(model: nn.Module, path: str | Path, input_size: Sequence[int], **options: Unpack[Options]) -> Exported:
    """Write a TensorFlow Lite network for one image at a time, in standard operators.

    The input is (1, H, W, C), as its tools expect. With ``mean`` and ``std`` it takes pixels from 0 to 255: as float32,
    or in a file of integers alone as int8, a pixel minus 128. Class names and metadata are in a zip archive behind the
    network, ``labels.txt`` and ``simroot.json``, which ``unzip`` reads.

    Where tflite-micro is installed, the interpreter of microcontrollers must give what LiteRT's reference gives: in a
    file of integers every bit.

    With ``calibration`` all of it is computed in int8. If that puts too many of these inputs into other classes, only
    convolutions and dense layers are.

    Args:
        model: any network of (N, *input_size) -> (N, classes); it stays as it is.
        path: where to write, ``.tflite``.
        input_size: shape of one input, (C, H, W).
        **options: see ``simroot.export.Options``.

    Raises:
        ConfigError, ExportError: as ``to_onnx``; also if litert-torch is not installed or cannot convert the network.
    """
    converter = library("litert_torch", _EXTRA)
    job = Job.of(model, path, input_size, ".tflite", options)
    with job.appearing() as temporary:
        with tempfile.TemporaryDirectory(dir=temporary.parent) as folder:
            whole = Path(folder) / "float32.tflite"
            _convert(converter, job, whole)
            if job.calibration is None:
                whole.rename(temporary)
                times = None
            else:
                _write_int8(job, job.calibration, whole, temporary)
                times = compare_speed(job.path, temporary, whole, job.inputs[:1])
        exported = job.checked(temporary, "tflite", open_file(temporary).run, times)
        _try_as_microcontroller(job, temporary)
        return described(exported, temporary)


def _try_as_microcontroller(job: Job, path: Path) -> None:
    if importlib.util.find_spec("tflite_micro") is None:
        logger.info("%s: not tried as on a microcontroller, tflite-micro is not installed", job.path)
        return
    micro = importlib.import_module("tflite_micro.python.tflite_micro.runtime")
    lite = importlib.import_module("ai_edge_litert.interpreter")
    reference = lite.Interpreter(model_path=str(path), experimental_op_resolver_type=lite.OpResolverType.BUILTIN_REF)
    reference.allocate_tensors()
    (taken,), (given,) = reference.get_input_details(), reference.get_output_details()
    try:
        interpreter = micro.Interpreter.from_file(str(path), arena_size=_ARENA)
    except RuntimeError as error:
        logger.warning("%s: tflite-micro does not run it: %s", job.path, one_line(str(error), 300))
        return
    for image in channels_last(job.inputs[:_TRIED]):
        numbers = stored(image[None], taken)
        reference.set_tensor(taken["index"], numbers)
        interpreter.set_input(numbers, 0)
        reference.invoke()
        interpreter.invoke()
        expected, found = reference.get_tensor(given["index"]), interpreter.get_output(0)
        allowed = TOLERANCE * np.abs(expected).max() if expected.dtype == np.float32 else 0
        if not np.abs(found.astype(np.float64) - expected).max() <= allowed:
            raise ExportError(f"tflite-micro and LiteRT give different scores: {job.path} was not written")


class _ChannelsLast(nn.Module):
    """A network for images as the tools of these files expect them: (N, H, W, C), and pixels as floats."""

    scale: Tensor
    offset: Tensor

    def __init__(self, form: Deployed) -> None:
        super().__init__()
        self.network = form.network
        self.pixels = form.pixels
        if form.pixels:
            self.register_buffer("scale", form.scale.flatten())
            self.register_buffer("offset", form.offset.flatten())

    def forward(self, images: Tensor) -> Tensor:
        x = images * self.scale + self.offset if self.pixels else images
        scores: Tensor = self.network(x.permute(0, 3, 1, 2) if x.ndim == 4 else x)
        return scores


def _convert(converter: ModuleType, job: Job, path: Path) -> None:
    example = torch.from_numpy(channels_last(job.inputs[:1])).float()
    converter.config.show_progress = False
    try:
        with _silent():
            converter.convert(_ChannelsLast(job.form).eval(), (example,)).export(str(path))
    except Exception as error:  # of the converter's own kinds
        words = one_line(str(error).strip() or type(error).__name__, 300)
        raise ConfigError(f"litert-torch cannot convert the network: {words}; export it as ONNX") from error
    _describe(job, path)


def _write_int8(job: Job, calibration: NDArray[Any], whole: Path, path: Path) -> None:
    """In integers alone if that puts the calibration inputs into the network's classes, else what has weights."""
    wanted = open_file(whole).run(calibration)
    for operations, named in _INTEGERS:
        _quantise(whole, calibration, operations, path)
        _describe(job, path)
        same = job.description.task.agreement(open_file(path).run(calibration), wanted)
        if same >= _AGREEMENT:
            return
        logger.info("%s: with %s in int8, %.1f %% of the inputs keep their class", job.path, named, 100 * same)


def _quantise(whole: Path, calibration: NDArray[Any], operations: Sequence[str], path: Path) -> None:
    quantizer = library("ai_edge_quantizer.quantizer", _EXTRA)
    runtime = importlib.import_module("ai_edge_litert.interpreter")
    ((signature, names),) = runtime.Interpreter(model_path=str(whole)).get_signature_list().items()
    (name,) = names["inputs"]
    inputs = [{name: image[None].astype(np.float32)} for image in channels_last(calibration)]
    work = quantizer.Quantizer(str(whole))
    for operation in operations:
        work.add_static_config(".*", operation, activation_num_bits=8, weight_num_bits=8)
    path.unlink(missing_ok=True)
    with _silent():
        work.quantize(work.calibrate({signature: inputs})).export_model(str(path))


@contextmanager
def _silent() -> Iterator[None]:
    """Without the bars, reports and warnings of a guest."""
    nowhere = io.StringIO()
    with warnings.catch_warnings(), redirect_stdout(nowhere), redirect_stderr(nowhere):
        warnings.simplefilter("ignore")
        yield


def _describe(job: Job, path: Path) -> None:
    """Put the metadata behind the network, where the tools of these files look for them."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(PROPERTIES, json.dumps(job.description.properties(), ensure_ascii=False))
        if job.description.classes is not None:
            archive.writestr("labels.txt", "\n".join(job.description.classes) + "\n")
