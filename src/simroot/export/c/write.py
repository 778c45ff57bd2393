"""``simroot export --format c``: a folder with a network's C text, checked against the network before it appears."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from simroot.engines.host import HostProgram, channels_last, compiler
from simroot.errors import ConfigError, ExportError
from simroot.export.c import whole
from simroot.export.c.capture import capture, normalised
from simroot.export.c.emit import Examples, files
from simroot.export.c.floats import FloatArithmetic
from simroot.export.c.folder import folder_appearing
from simroot.export.c.integer_text import IntegerArithmetic
from simroot.export.c.interpret import scores
from simroot.export.c.layers import Layer
from simroot.export.c.quantise import quantise
from simroot.export.c.report import Memory, memory
from simroot.export.c.simplify import simplify
from simroot.export.c.text import identifier
from simroot.export.c.verify import Verified, check_targets
from simroot.export.c.verify import verify as verify_on
from simroot.export.checked import Exported, Job, Options, Run
from simroot.export.sidecar import described

if TYPE_CHECKING:
    from typing_extensions import Unpack

_EXAMPLES = 2
_VERIFIED = 8
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportedC(Exported):
    """A folder of C that has been written and checked.

    Attributes:
        memory: what the network needs of a device.
        verified: what came of the processors that it was tried on.
    """

    memory: Memory
    verified: tuple[Verified, ...] = ()


def to_c(
    model: nn.Module,
    path: str | Path,
    input_size: Sequence[int],
    *,
    verify: Sequence[str] = (),
    **options: Unpack[Options],
) -> Exported:
    """Write a folder of C99: NAME.c, NAME.h, NAME_test.c and a Makefile, where NAME is the network's, with its JSON.

    The scores of the text, compiled for this machine, are compared with the network's. Without a C compiler those of
    the layers that it was written from are.

    Args:
        model: any network of (1, *input_size) -> (1, classes) whose layers have a C form; it stays as it is.
        path: the folder; an earlier export there is replaced.
        input_size: shape of one image, (C, H, W).
        verify: processors to try the text on, in an emulator, of ``simroot.export.c.verify.TARGETS``.
        **options: see ``simroot.export.Options``; ``custom_operator`` has no meaning here.

    Raises:
        ConfigError: for a layer that has no C form, or options that do not fit.
        ExportError: if the scores are not the network's, or the folder cannot be written; an earlier one stays then.
    """
    if options.pop("custom_operator", False):
        raise ConfigError("the custom operator is for ONNX and OpenVINO; C has similarities of every order of its own")
    check_targets(tuple(verify))
    path = Path(path)
    job = Job.of(model, path, input_size, path.suffix, options)
    layers = simplify(normalised(capture(model, input_size), job.description))
    arithmetic = _arithmetic(job, layers)
    with folder_appearing(path) as folder:
        texts = files(arithmetic, job.description, _examples(job, arithmetic))
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        run = _run(job, folder, arithmetic)
        exported = described(job.checked(folder / "Makefile", "c", run), folder / f"{_prefix(job)}.c", inside=True)
        needed = memory(arithmetic, job.description.precision)
        images = job.inputs[:_VERIFIED]
        tried = [
            verify_on(name, folder, _prefix(job), channels_last(images), run(images), needed.flash) for name in verify
        ]
    for one in tried:
        if one.skipped:
            _logger.warning("%s was not tried: %s", one.target, one.skipped)
    return ExportedC(**vars(exported), memory=needed, verified=tuple(tried))


def _arithmetic(job: Job, layers: list[Layer]) -> FloatArithmetic | IntegerArithmetic:
    prefix = _prefix(job)
    if job.calibration is None:
        return FloatArithmetic(layers, prefix)
    return IntegerArithmetic(quantise(layers, torch.from_numpy(job.calibration)), prefix)


def _prefix(job: Job) -> str:
    return identifier(job.description.model or "network")


def _examples(job: Job, arithmetic: FloatArithmetic | IntegerArithmetic) -> Examples:
    inputs = channels_last(job.inputs[:_EXAMPLES])
    if isinstance(arithmetic, IntegerArithmetic):
        return Examples(inputs, whole.scores(arithmetic.whole, inputs), 0.0)
    largest = float(np.abs(job.reference).max())
    return Examples(inputs, job.reference[:_EXAMPLES], max(job.tolerance * largest, 1e-30))


def _run(job: Job, folder: Path, arithmetic: FloatArithmetic | IntegerArithmetic) -> Run:
    """What gives the exported network's scores; in integers they are also held against the reference, every bit."""
    layers = arithmetic.layers
    if compiler() is None:
        _logger.warning("no C compiler was found: the layers were checked, the C text has not been run")
        return lambda batch: _expected(arithmetic, batch)
    name = _prefix(job)
    image, kind = layers[0], np.uint8 if job.description.takes_pixels else np.float32
    program = HostProgram(folder / f"{name}.c", name, image.shape, layers[-1].size, kind)

    def run(batch: NDArray[Any]) -> NDArray[np.float32]:
        found = program.scores(channels_last(batch))
        if isinstance(arithmetic, IntegerArithmetic) and not np.array_equal(found, _expected(arithmetic, batch)):
            raise ExportError(f"the C text and its reference differ: {job.path} was not written; please report it")
        return found

    return run


def _expected(arithmetic: FloatArithmetic | IntegerArithmetic, batch: NDArray[Any]) -> NDArray[np.float32]:
    """The scores of the layers, in NumPy or PyTorch."""
    if isinstance(arithmetic, IntegerArithmetic):
        return whole.scores(arithmetic.whole, channels_last(batch))
    shape = batch.shape if batch.ndim == 4 else (*batch.shape, 1, 1)
    return scores(arithmetic.layers, torch.from_numpy(batch).view(shape)).float().numpy()
