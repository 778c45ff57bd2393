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
from simroot.export.c.integer_text import IntegerArithmetic
from simroot.export.c.interpret import scores
from simroot.export.c.quantise import calibrate, in_integers
from simroot.export.c.report import Memory, memory
from simroot.export.c.simplify import simplify
from simroot.export.c.stack import stack_bytes
from simroot.export.c.text import identifier
from simroot.export.c.verify import Verified, check_targets
from simroot.export.c.verify import verify as verify_on
from simroot.export.checked import Exported, Job, Options, Run
from simroot.export.folder import Names, folder_appearing
from simroot.export.sidecar import CLASSES, described

if TYPE_CHECKING:
    from typing_extensions import Unpack

Arithmetic = FloatArithmetic | IntegerArithmetic

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
    arithmetic = arithmetic_of(model, job)
    with folder_appearing(path, "Makefile", _known) as folder:
        write_text(job, arithmetic, folder)
        run = _run(job, folder, arithmetic)
        exported = described(job.checked(folder / "Makefile", "c", run), folder / f"{prefix(job)}.c", inside=True)
        stack = stack_bytes(folder / f"{prefix(job)}.c", prefix(job))
        needed = memory(arithmetic, job.description.precision, stack)
        images = job.inputs[:_VERIFIED]
        tried = [
            verify_on(name, folder, prefix(job), channels_last(images), run(images), needed.flash) for name in verify
        ]
    for one in tried:
        if one.skipped:
            _logger.warning("%s was not tried: %s", one.target, one.skipped)
    return ExportedC(**vars(exported), memory=needed, verified=tuple(tried))


def arithmetic_of(model: nn.Module, job: Job, by_rows: bool = True) -> Arithmetic:
    """How the network of a job computes: float32, or integers if there are images for calibration.

    Layers are computed by rows where that takes less memory, or else one after the other, which takes less code.

    Raises:
        ConfigError: for a layer that has no C form.
    """
    layers = simplify(normalised(capture(model, job.description.input_size), job.description))
    if job.calibration is None:
        return FloatArithmetic(layers, prefix(job), by_rows)
    calibration = torch.from_numpy(job.calibration)
    whole_layers = in_integers(layers, job.ranges or calibrate(layers, calibration))
    return IntegerArithmetic(whole_layers, prefix(job), by_rows)


def write_text(job: Job, arithmetic: Arithmetic, folder: Path) -> None:
    """Write the files of C, without the JSON."""
    for name, text in files(arithmetic, job.description, _examples(job, arithmetic)).items():
        (folder / name).write_text(text, encoding="utf-8")


def prefix(job: Job) -> str:
    """What files and functions of C are called after."""
    return identifier(job.description.model or "network")


def held(run: Run, job: Job, arithmetic: Arithmetic) -> Run:
    """The same, held against the reference, every bit, if the network computes in integers.

    Args:
        run: gives the scores of what was compiled.
        job: what is exported.
        arithmetic: what the text was written from.
    """
    if not isinstance(arithmetic, IntegerArithmetic):
        return run

    def both(batch: NDArray[Any]) -> NDArray[np.float32]:
        found = run(batch)
        if not np.array_equal(found, _expected(arithmetic, batch)):
            raise ExportError(f"the C text and its reference differ: {job.path} was not written; please report it")
        return found

    return both


def _known(found: Names) -> Names:
    """Names of an earlier export, maybe compiled, that has such a header."""
    stem = next((name.removesuffix(".h") for name in found if name.endswith(".h")), "")
    return {"Makefile", f"{stem}.h", f"{stem}.c", f"{stem}_test.c", f"{stem}_test", f"{stem}.c.json", CLASSES}


def _examples(job: Job, arithmetic: Arithmetic) -> Examples:
    inputs = channels_last(job.inputs[:_EXAMPLES])
    if isinstance(arithmetic, IntegerArithmetic):
        return Examples(inputs, whole.scores(arithmetic.whole, inputs), 0.0)
    largest = float(np.abs(job.reference).max())
    return Examples(inputs, job.reference[:_EXAMPLES], max(job.tolerance * largest, 1e-30))


def _run(job: Job, folder: Path, arithmetic: Arithmetic) -> Run:
    """What gives the exported network's scores."""
    layers = arithmetic.layers
    if compiler() is None:
        _logger.warning("no C compiler was found: the layers were checked, the C text has not been run")
        return lambda batch: _expected(arithmetic, batch)
    name = prefix(job)
    image, kind = layers[0], np.uint8 if job.description.takes_pixels else np.float32
    program = HostProgram(folder / f"{name}.c", name, image.shape, layers[-1].size, kind)
    return held(lambda batch: program.scores(channels_last(batch)), job, arithmetic)


def _expected(arithmetic: Arithmetic, batch: NDArray[Any]) -> NDArray[np.float32]:
    """The scores of the layers, in NumPy or PyTorch."""
    if isinstance(arithmetic, IntegerArithmetic):
        return whole.scores(arithmetic.whole, channels_last(batch))
    shape = batch.shape if batch.ndim == 4 else (*batch.shape, 1, 1)
    return scores(arithmetic.layers, torch.from_numpy(batch).view(shape)).float().numpy()
