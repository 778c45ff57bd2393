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

from simroot.errors import ConfigError
from simroot.export.c.capture import capture
from simroot.export.c.emit import Examples, files
from simroot.export.c.floats import FloatArithmetic
from simroot.export.c.folder import folder_appearing
from simroot.export.c.host import HostProgram, compiler
from simroot.export.c.interpret import scores
from simroot.export.c.layers import Affine, Image, Layer
from simroot.export.c.program import Arithmetic
from simroot.export.c.report import Memory, memory
from simroot.export.c.simplify import simplify
from simroot.export.c.text import identifier
from simroot.export.description import Description
from simroot.export.job import Exported, Job, Options, Run

if TYPE_CHECKING:
    from typing_extensions import Unpack

_EXAMPLES = 2
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportedC(Exported):
    """A folder of C that has been written and checked.

    Attributes:
        memory: what the network needs of a device.
    """

    memory: Memory


def to_c(model: nn.Module, path: str | Path, input_size: Sequence[int], **options: Unpack[Options]) -> Exported:
    """Write a folder of C99: NAME.c, NAME.h, NAME_test.c and a Makefile, where NAME is the network's.

    The scores of the text, compiled for this machine, are compared with the network's. Without a C compiler those of
    the layers that it was written from are.

    Args:
        model: any network of (1, *input_size) -> (1, classes) whose layers have a C form; it stays as it is.
        path: the folder; an earlier export there is replaced.
        input_size: shape of one image, (C, H, W).
        **options: see ``simroot.export.Options``; ``custom_operator`` has no meaning here.

    Raises:
        ConfigError: for a layer that has no C form, or options that do not fit.
        ExportError: if the scores are not the network's, or the folder cannot be written; an earlier one stays then.
    """
    if options.pop("custom_operator", False):
        raise ConfigError("the custom operator is for ONNX and OpenVINO; C has similarities of every order of its own")
    path = Path(path)
    job = Job.of(model, path, input_size, path.suffix, options)
    layers = simplify(normalised(capture(model, input_size), job.description))
    arithmetic = _arithmetic(job, layers)
    with folder_appearing(path) as folder:
        texts = files(arithmetic, job.description, _examples(job, arithmetic))
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        exported = job.checked(folder / "Makefile", "c", _run(job, folder, layers))
    return ExportedC(**vars(exported), memory=memory(arithmetic, job.description.precision))


def normalised(layers: list[Layer], description: Description) -> list[Layer]:
    """With the normalisation of pixels in front, if the file takes pixels."""
    image = layers[0]
    assert isinstance(image, Image)
    if description.mean is None or description.std is None:
        return layers
    mean, std = np.array(description.mean), np.array(description.std)
    image.pixels = True
    for layer in layers:
        layer.inputs = tuple(source + 1 for source in layer.inputs)
    layers.insert(1, Affine("normalisation", (0,), image.shape, scale=1 / (255 * std), shift=-mean / std))
    return layers


def _arithmetic(job: Job, layers: list[Layer]) -> Arithmetic:
    if job.calibration is not None:
        raise ConfigError("C is written in float32; leave out --int8")
    return FloatArithmetic(layers, identifier(job.description.model or "network"))


def channels_last(images: NDArray[Any]) -> NDArray[Any]:
    """(N, C, H, W) as (N, H, W, C); vectors stay."""
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1)) if images.ndim == 4 else images


def _examples(job: Job, arithmetic: Arithmetic) -> Examples:
    largest = float(np.abs(job.reference).max())
    chosen = slice(0, _EXAMPLES)
    return Examples(channels_last(job.inputs[chosen]), job.reference[chosen], max(job.tolerance * largest, 1e-30))


def _run(job: Job, folder: Path, layers: list[Layer]) -> Run:
    if compiler() is None:
        _logger.warning("no C compiler was found: the layers were checked, the C text has not been run")
        return lambda batch: scores(layers, torch.from_numpy(batch).view(len(batch), *_as_grid(batch))).float().numpy()
    name = identifier(job.description.model or "network")
    image, kind = layers[0], np.uint8 if job.description.takes_pixels else np.float32
    program = HostProgram(folder / f"{name}.c", name, image.shape, layers[-1].size, kind)

    def run(batch: NDArray[Any]) -> NDArray[np.float32]:
        return program.scores(channels_last(batch))

    return run


def _as_grid(batch: NDArray[Any]) -> tuple[int, ...]:
    return batch.shape[1:] if batch.ndim == 4 else (*batch.shape[1:], 1, 1)
