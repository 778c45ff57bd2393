"""What a file says of the network that it holds: enough to prepare images for it and to name its outputs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simroot._version import __version__
from simroot.errors import DataError, ExportError
from simroot.export.task import Task, task_of
from simroot.images.preparation import Preparation, as_background, as_image_size, as_pixel_range

# The first reads every file without choices of the second: fit, pixel range and background. The third has thresholds.
FORMATS = ("1", "1.1", "1.2")
_FIRST = Preparation(1, 1)


@dataclass(frozen=True)
class Description:
    """The metadata of an exported file.

    Attributes:
        input_size: shape of one input, (C, H, W) or (d,).
        classes: class names in the order of the scores; None: not named.
        mean, std: per channel, in units of pixel / 255. With them the file takes pixels, uint8 from 0 to 255, and
            normalises them itself; without (None) it takes what the network takes, float32.
        crop: width and height of what is seen of an image, as a share of what its ``fit`` leaves of it.
        fit, pixel_range, background: how files become pixels, see ``simroot.images.preparation.Preparation``.
        model: the network's name.
        precision: ``"float32"`` or ``"int8"``.
        version: of simroot, which wrote the file.
        cost: of one input, as ``simroot.measure.Cost.as_dict`` has it; None: not counted.
        thresholds: of an input that may have any number of classes, the probability from which on it has one, in the
            order of the scores; probabilities are sigmoids then. None: it has one class, and they are the softmax.
    """

    input_size: tuple[int, ...]
    classes: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    crop: float = 1.0
    fit: str = _FIRST.fit
    pixel_range: tuple[float, float] | None = None
    background: tuple[int, int, int] = _FIRST.background
    model: str = ""
    precision: str = "float32"
    version: str = __version__
    cost: Mapping[str, Any] | None = None
    thresholds: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse what does not fit together.

        Raises:
            ExportError: naming the field.
        """
        size, mean, std = self.input_size, self.mean, self.std
        _require(bool(size) and all(isinstance(n, int) and n > 0 for n in size), "input_size", size, "positive ints")
        if self.classes is not None:
            named = len(self.classes) > 0 and all(isinstance(name, str) for name in self.classes)
            _require(named, "classes", self.classes, "names")
        if self.thresholds is not None:
            fits = len(self.thresholds) == len(self.classes or ()) and _numbers(self.thresholds)
            _require(fits, "thresholds", self.thresholds, "a number for each class that is named")
        _require(isinstance(self.crop, float | int) and 0 < self.crop <= 1, "crop", self.crop, "a share up to 1")
        _require((mean is None) == (std is None), "mean and std", (mean, std), "both or neither")
        try:
            Preparation(1, 1, self.fit, self.pixel_range, self.background)
        except DataError as error:
            raise ExportError(str(error)) from error
        if mean is None or std is None:
            return
        _require(len(size) == 3, "input_size", size, "(channels, height, width), as mean and std are given")
        _require(_numbers(mean) and len(mean) == size[0], "mean", mean, "a number for each channel")
        _require(_numbers(std) and len(std) == size[0] and min(std) > 0, "std", std, "a positive number per channel")

    @property
    def task(self) -> Task:
        """What the scores say."""
        return task_of(self.thresholds)

    @property
    def takes_pixels(self) -> bool:
        """Whether the input is uint8 pixels."""
        return self.mean is not None

    @property
    def preparation(self) -> Preparation:
        """How a file becomes pixels for the input.

        Raises:
            DataError: if the input is no image of one or three channels.
        """
        if len(self.input_size) != 3:
            raise DataError(f"the network takes inputs of shape {self.input_size}, not images: give arrays, not files")
        channels, *size = self.input_size
        fitted = (self.fit, self.pixel_range, self.background)
        return Preparation(channels, as_image_size(size), *fitted, share=self.crop)

    def properties(self) -> dict[str, str]:
        """Key -> JSON value, for a file's metadata."""
        fitted = {"fit": self.fit, "pixel_range": self.pixel_range, "background": self.background}
        values: dict[str, Any] = {
            "input_size": self.input_size,
            "input": "uint8 pixels (N, C, H, W), 0 to 255" if self.takes_pixels else "float32, normalised",
            "classes": self.classes,
            "mean": self.mean,
            "std": self.std,
            "crop": self.crop,
            "model": self.model,
            "precision": self.precision,
            "version": self.version,
            "format": FORMATS[0],
        }
        if self.cost is not None:
            values["cost"] = self.cost
        if fitted != {name: getattr(_FIRST, name) for name in fitted}:
            values |= {**fitted, "format": FORMATS[1]}
        if self.thresholds is not None:
            values |= {"thresholds": self.thresholds, "format": FORMATS[2]}
        return {f"simroot.{key}": json.dumps(value, ensure_ascii=False) for key, value in values.items()}

    @classmethod
    def from_properties(cls, properties: Mapping[str, str], source: str) -> Description:
        """Read back what ``properties`` wrote.

        Args:
            properties: a file's metadata; keys of others are skipped.
            source: what to call the file in errors.

        Raises:
            ExportError: if the metadata are missing or damaged, or of a later format.
        """
        if "simroot.format" not in properties:
            raise ExportError(f"{source} says nothing of its input and classes; expected a file of simroot export")
        try:
            found = {key[8:]: json.loads(text) for key, text in properties.items() if key.startswith("simroot.")}
            if found["format"] not in FORMATS:
                raise ExportError(
                    f"{source} is of format {found['format']!r}; this simroot {__version__} reads {', '.join(FORMATS)}"
                )
            return cls(
                input_size=_tuple(found["input_size"]) or (),
                classes=_tuple(found["classes"]),
                mean=_tuple(found["mean"]),
                std=_tuple(found["std"]),
                crop=found["crop"],
                fit=str(found.get("fit", _FIRST.fit)),
                pixel_range=as_pixel_range(found.get("pixel_range")),
                background=as_background(found.get("background", "white")),
                model=str(found["model"]),
                precision=str(found["precision"]),
                version=str(found["version"]),
                cost=found.get("cost"),  # files of before have none
                thresholds=_tuple(found.get("thresholds")),
            )
        except (DataError, ExportError) as error:
            raise ExportError(f"the metadata of {source} cannot be used: {error}") from error
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ExportError(f"the metadata of {source} are damaged: {error!r}") from error


def _tuple(value: Any) -> tuple[Any, ...] | None:
    if value is not None and not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    return None if value is None else tuple(value)


def _numbers(values: tuple[Any, ...]) -> bool:
    return all(isinstance(value, float | int) and math.isfinite(value) for value in values)


def _require(fits: bool, name: str, received: object, expected: str) -> None:
    if not fits:
        raise ExportError(f"{name} is {received!r}; expected {expected}")
