"""What a file says of the network that it holds: enough to prepare images for it and to name its outputs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simroot import __version__
from simroot.errors import ExportError

FORMAT = "1"


@dataclass(frozen=True)
class Description:
    """The metadata of an exported file.

    Attributes:
        input_size: shape of one input, (C, H, W) or (d,).
        classes: class names in the order of the scores; None: not named.
        mean, std: per channel, in units of pixel / 255. With them the file takes pixels, uint8 from 0 to 255, and
            normalises them itself; without (None) it takes what the network takes, float32.
        crop: side of the square in the middle of an image that is brought to the input's size, as a share of the
            image's shorter side.
        model: the network's name.
        precision: ``"float32"`` or ``"int8"``.
        version: of simroot, which wrote the file.
    """

    input_size: tuple[int, ...]
    classes: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    crop: float = 1.0
    model: str = ""
    precision: str = "float32"
    version: str = __version__

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
        _require(isinstance(self.crop, float | int) and 0 < self.crop <= 1, "crop", self.crop, "a share up to 1")
        _require((mean is None) == (std is None), "mean and std", (mean, std), "both or neither")
        if mean is None or std is None:
            return
        _require(len(size) == 3, "input_size", size, "(channels, height, width), as mean and std are given")
        _require(_numbers(mean) and len(mean) == size[0], "mean", mean, "a number for each channel")
        _require(_numbers(std) and len(std) == size[0] and min(std) > 0, "std", std, "a positive number per channel")

    @property
    def takes_pixels(self) -> bool:
        """Whether the input is uint8 pixels."""
        return self.mean is not None

    def properties(self) -> dict[str, str]:
        """Key -> JSON value, for a file's metadata."""
        values = {
            "input_size": self.input_size,
            "input": "uint8 pixels (N, C, H, W), 0 to 255" if self.takes_pixels else "float32, normalised",
            "classes": self.classes,
            "mean": self.mean,
            "std": self.std,
            "crop": self.crop,
            "model": self.model,
            "precision": self.precision,
            "version": self.version,
            "format": FORMAT,
        }
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
            if found["format"] != FORMAT:
                raise ExportError(
                    f"{source} is of format {found['format']!r}; this simroot {__version__} reads {FORMAT!r}"
                )
            return cls(
                input_size=_tuple(found["input_size"]) or (),
                classes=_tuple(found["classes"]),
                mean=_tuple(found["mean"]),
                std=_tuple(found["std"]),
                crop=found["crop"],
                model=str(found["model"]),
                precision=str(found["precision"]),
                version=str(found["version"]),
            )
        except ExportError as error:
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
