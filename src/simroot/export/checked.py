"""A network on its way into a file: its graph form, its metadata, and the check that the file does what it does."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from simroot.engines import ENGINES
from simroot.engines.operators import LIBRARIES, require_operators
from simroot.errors import ConfigError, ExportError, nearest
from simroot.export.description import Description
from simroot.export.forms import graph_form
from simroot.export.similarity_forms import Lp, LpDifferences, LpOperator
from simroot.files import appearing
from simroot.images.preparation import Preparation
from simroot.modules import processing

if TYPE_CHECKING:
    from simroot.export.c.ranges import Ranges

FILE_TOLERANCE = 1e-3
"""Largest difference of a float32 file's scores from the network's, as a share of the largest score.

Engines add the terms of a sum in other orders: thousands of terms in float32 differ by up to some 1e-4 of the result,
usually by 1e-6. A wrong graph differs by far more.
"""

TOLERANCE = FILE_TOLERANCE  # its first name

ACCURACY_LOSS = 0.01
"""Largest loss of accuracy by int8, where labels tell it."""

AGREEMENT = 0.95
"""Smallest share of inputs that an int8 file puts into the network's class, where there are no labels."""

_RANDOM = 8
_BATCH = 256

Run = Callable[[NDArray[Any]], NDArray[np.float32]]


class Options(TypedDict, total=False):
    """Keyword arguments of every function that writes a file; all may be left out.

    Attributes:
        classes: names in the order of the scores.
        mean, std: per channel, in units of pixel / 255. With them the file takes pixels, uint8 from 0 to 255, and
            normalises them itself; without, it takes float32 inputs as the network does.
        crop: width and height of what the network sees of an image, as a share of what is fitted into its input.
        preparation: how images were prepared for the network; in place of ``crop``.
        name: of the network.
        images: real inputs for the check, pixels or float32 as the file takes them; random ones by default.
        labels: their classes, int (N,), to measure the accuracy; with ``thresholds`` 0 or 1 for each, (N, classes).
        thresholds: of a network whose images may have any number of classes, see ``Description``.
        data: name of what it was trained on, which a web page shows.
        cost: of one input, ``simroot.measure.count(...).as_dict()``: what ``simroot cost FILE`` says.
        calibration: inputs that show the range of every activation, some hundred of them: the file computes
            convolutions and dense layers in int8, similarities and MEX in float32. None: all of it in float32.
        ranges: what the network was trained with in integers, for C in int8: the ranges are not calibrated anew.
        tolerance: of a float32 file; see ``FILE_TOLERANCE``.
        custom_operator: write similarities of an order other than 2 as simroot's own operator, which the engine finds
            in a library of simroot's native kernels: much faster than standard operators, and nothing for other
            engines.
    """

    classes: Sequence[str] | None
    mean: Sequence[float] | None
    std: Sequence[float] | None
    crop: float
    preparation: Preparation
    name: str
    images: ArrayLike | Tensor | None
    labels: ArrayLike | Tensor | None
    thresholds: Sequence[float] | None
    data: str
    cost: Mapping[str, Any] | None
    calibration: ArrayLike | Tensor | None
    ranges: Ranges | None
    tolerance: float
    custom_operator: bool


@dataclass(frozen=True)
class Exported:
    """A file that has been written and checked.

    Attributes:
        path: the file; an OpenVINO network's weights lie beside it as ``.bin``.
        format: one of ``simroot.export.writers.FORMATS``.
        description: its metadata.
        size: bytes of all its files.
        images: number of inputs that it was checked on.
        difference: the largest difference of its scores from the network's, as a share of the largest score.
        tolerance: what was allowed of it; None for int8.
        agreement: share of the inputs that it puts into the network's class; of those that may have any number of
            classes, share of the pairs of input and class where both say the same.
        accuracy, network_accuracy: share of the inputs that it, and the network, puts into the right class, or the mean
            average precision of those that may have any number; None without labels.
        milliseconds, float32_milliseconds: of an int8 file, for one input on one thread of this machine, and of the
            same network in float32; None for a float32 file.
    """

    path: Path
    format: str
    description: Description
    size: int
    images: int
    difference: float
    tolerance: float | None
    agreement: float
    accuracy: float | None
    network_accuracy: float | None
    milliseconds: float | None
    float32_milliseconds: float | None


@dataclass(frozen=True)
class Job:
    """What is to be written.

    Attributes:
        path: where to.
        description: the metadata.
        form: the network in graph form, normalisation included.
        inputs: for the check, (N, *input_size).
        reference: the network's scores for them.
        labels: their classes, or None.
        calibration: inputs for int8, or None.
        tolerance: of float32.
        ranges: for C in int8 in place of those that the calibration shows, or None.
    """

    path: Path
    description: Description
    form: Deployed
    inputs: NDArray[Any]
    reference: NDArray[np.float32]
    labels: NDArray[np.integer[Any]] | None
    calibration: NDArray[Any] | None
    tolerance: float
    ranges: Ranges | None = None

    @classmethod
    def of(cls, model: nn.Module, path: str | Path, input_size: Sequence[int], suffix: str, options: Options) -> Job:
        """Check the arguments and compute the network's own scores.

        Raises:
            ConfigError: for a path with another suffix, an unknown option, or a network that cannot process the inputs.
            ExportError: if the arguments do not fit together or to the network.
        """
        if unknown := sorted(options.keys() - Options.__annotations__.keys()):
            raise ConfigError(f"there is no option {unknown[0]!r}; {nearest(unknown[0], Options.__annotations__)}")
        path = Path(path)
        if path.suffix != suffix:
            raise ConfigError(f"{path} should end in {suffix}")
        images, labels = _array(options.get("images")), _array(options.get("labels"))
        calibration = _array(options.get("calibration"))
        description = _description(input_size, options, "float32" if calibration is None else "int8")
        inputs = _random(description) if images is None else images
        for what, array in (("images", inputs), ("calibration", calibration)):
            if array is not None:
                _require_inputs(what, array, description)
        if labels is not None and images is None:
            raise ExportError("labels are given without images; give the images that they belong to, too")
        expected = (len(inputs),) if description.thresholds is None else (len(inputs), len(description.thresholds))
        if labels is not None and (labels.shape != expected or labels.dtype.kind not in "iu"):
            what = "an integer for each image" + (" and class" if expected[1:] else "")
            raise ExportError(f"labels are {labels.dtype} {labels.shape}; expected {what}")
        if labels is not None and expected[1:] and not labels.any():
            labels = None  # of images without any class no precision is known
        network = Deployed(copy.deepcopy(model).cpu().float().eval(), description)
        reference = _scores(network, inputs, description)
        form = Deployed(graph_form(model, _lp(options, suffix)).cpu(), description).eval()
        tolerance = options.get("tolerance", FILE_TOLERANCE)
        return cls(path, description, form, inputs, reference, labels, calibration, tolerance, options.get("ranges"))

    @property
    def example(self) -> Tensor:
        """Two inputs to record the graph with: a batch of one would be taken for a constant."""
        return torch.from_numpy(self.inputs[[0, -1]])

    def appearing(self) -> AbstractContextManager[Path]:
        """Where to write; see ``simroot.files.appearing``."""
        return appearing(self.path, error=ExportError)

    def checked(self, temporary: Path, kind: str, run: Run, times: tuple[float, float] | None = None) -> Exported:
        """Compare the file's scores with the network's, of batches and of one input alone.

        ``times`` are the milliseconds of an int8 file and of its network in float32.

        Raises:
            RefusedError: if they differ by more than is allowed.
            ExportError: if there are not as many.
        """
        scores = np.concatenate([run(self.inputs[k : k + _BATCH]) for k in range(0, len(self.inputs), _BATCH)])
        alone = run(self.inputs[:1])
        if scores.shape != self.reference.shape or alone.shape != self.reference[:1].shape:
            raise ExportError(f"the exported network gives scores {scores.shape}, the network {self.reference.shape}")
        scale = max(float(np.abs(self.reference).max()), float(np.finfo(np.float32).tiny))
        task = self.description.task
        differences = np.abs(np.concatenate((scores - self.reference, alone - self.reference[:1])))
        exported = Exported(
            path=self.path,
            format=kind,
            description=self.description,
            size=sum(file.stat().st_size for file in temporary.parent.iterdir()),
            images=len(scores),
            difference=float(differences.max()) / scale,
            tolerance=self.tolerance if self.calibration is None else None,
            agreement=task.agreement(scores, self.reference),
            accuracy=None if self.labels is None else task.quality(scores, self.labels),
            network_accuracy=None if self.labels is None else task.quality(self.reference, self.labels),
            milliseconds=None if times is None else times[0],
            float32_milliseconds=None if times is None else times[1],
        )
        # What was trained in integers is not held against weights in float that nobody runs: its accuracy is told.
        trained = kind in ("c", "web") and self.ranges is not None
        if not trained and (complaint := _complaint(exported)):
            raise RefusedError(f"{complaint}: {self.path} was not written", exported)
        return exported


class RefusedError(ExportError):
    """A file whose check was not good enough, so that it was not kept.

    Attributes:
        exported: what the check found, its accuracy among it; the file is not there.
    """

    def __init__(self, message: str, exported: Exported) -> None:
        super().__init__(message)
        self.exported = exported


class Deployed(nn.Module):
    """A network with the normalisation of pixels in front of it if its file has one."""

    scale: Tensor
    offset: Tensor

    def __init__(self, network: nn.Module, description: Description) -> None:
        super().__init__()
        self.network = network
        self.pixels = description.takes_pixels
        if description.mean is not None and description.std is not None:
            mean, std = (torch.tensor(values, dtype=torch.float64) for values in (description.mean, description.std))
            self.register_buffer("scale", (1 / (255 * std)).float().view(-1, 1, 1))
            self.register_buffer("offset", (-mean / std).float().view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        x = images.float() * self.scale + self.offset if self.pixels else images
        return self.network(x)


def _complaint(exported: Exported) -> str | None:
    """What is wrong with a file; also if its scores are NaN."""
    if exported.tolerance is not None:
        if exported.difference <= exported.tolerance:
            return None
        return (
            f"the scores of the exported network differ from the network's by {exported.difference:.2g} of the largest "
            f"score, {exported.tolerance:g} is allowed"
        )
    if exported.accuracy is not None and exported.network_accuracy is not None:
        if exported.network_accuracy - exported.accuracy <= ACCURACY_LOSS:
            return None
        return (
            f"int8 reduces the {exported.description.task.figure} from {exported.network_accuracy:.2%} to "
            f"{exported.accuracy:.2%}, by {100 * ACCURACY_LOSS:g} point at most is allowed; give more calibration "
            "images, train in integers with simroot quantise (for C), or export without int8"
        )
    if exported.agreement >= AGREEMENT:
        return None
    return (
        f"the int8 network puts {exported.agreement:.1%} of the inputs into the same class as the network, at least "
        f"{AGREEMENT:.0%} is expected; give real images for calibration and check, or export without int8"
    )


def _lp(options: Options, suffix: str) -> Lp:
    if not options.get("custom_operator", False):
        return LpDifferences
    engines = {ENGINES[name].suffixes[0]: name for name in LIBRARIES}
    if suffix not in engines:
        raise ConfigError(f"simroot's own operator is for {', '.join(engines)} files, not {suffix}")
    require_operators(engines[suffix])
    return LpOperator


def _array(values: Any) -> NDArray[Any] | None:
    return (
        None
        if values is None
        else np.ascontiguousarray(values.detach().cpu() if isinstance(values, Tensor) else values)
    )


def _description(input_size: Sequence[int], options: Options, precision: str) -> Description:
    classes, mean, std = options.get("classes"), options.get("mean"), options.get("std")
    thresholds = options.get("thresholds")
    found = options.get("preparation")
    fitted: dict[str, Any] = {"crop": options.get("crop", 1.0)}
    if found is not None:
        fitted = {name: getattr(found, name) for name in ("fit", "pixel_range", "background")} | {"crop": found.share}
    try:
        fitted["crop"] = float(fitted["crop"])
        return Description(
            input_size=tuple(input_size),
            classes=None if classes is None else tuple(map(str, classes)),
            mean=None if mean is None else tuple(map(float, mean)),
            std=None if std is None else tuple(map(float, std)),
            **fitted,
            model=options.get("name", ""),
            precision=precision,
            cost=options.get("cost"),
            thresholds=None if thresholds is None else tuple(map(float, thresholds)),
        )
    except ExportError:
        raise
    except (TypeError, ValueError) as error:
        raise ExportError(f"input_size, classes, mean, std or crop cannot be used: {error}") from error


def _kind(description: Description) -> np.dtype[Any]:
    return np.dtype(np.uint8 if description.takes_pixels else np.float32)


def _random(description: Description) -> NDArray[Any]:
    generator, shape = np.random.default_rng(0), (_RANDOM, *description.input_size)
    if description.takes_pixels:
        return generator.integers(0, 256, shape, dtype=np.uint8)
    return generator.standard_normal(shape, dtype=np.float32)


def _require_inputs(what: str, array: NDArray[Any], description: Description) -> None:
    size, kind = description.input_size, _kind(description)
    if array.dtype != kind or array.shape[1:] != size or not len(array):
        expected = ", ".join(map(str, ("N", *size)))
        raise ExportError(f"{what} are {array.dtype} {array.shape}; expected {kind} ({expected})")


@torch.inference_mode()
def _scores(network: nn.Module, inputs: NDArray[Any], description: Description) -> NDArray[np.float32]:
    batches = torch.from_numpy(inputs).split(_BATCH)
    with processing(f"the network cannot process inputs of shape {inputs.shape}"):
        scores = [network(batch) for batch in batches]
    first = scores[0]
    if not isinstance(first, Tensor) or first.ndim != 2 or len(first) != len(batches[0]):
        found = tuple(first.shape) if isinstance(first, Tensor) else type(first).__name__
        raise ExportError(f"the network gives {found} for {len(batches[0])} inputs; expected scores (N, classes)")
    if description.classes is not None and len(description.classes) != first.shape[1]:
        raise ExportError(
            f"{len(description.classes)} classes are named, but the network gives {first.shape[1]} scores"
        )
    return torch.cat(scores).numpy()
