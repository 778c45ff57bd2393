"""Exported networks at work: images in, probabilities out, with NumPy, Pillow and an engine alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from simroot.engines import open_file
from simroot.errors import ConfigError, DataError, ExportError
from simroot.export.description import Description
from simroot.images.decoding import Picture, read_image
from simroot.images.preparation import Preparation
from simroot.images.sources import Source

_BATCH = 256
_PICTURES = (str, Path, Image.Image, np.ndarray)

Images = Picture | Sequence[Picture] | NDArray[Any]


class Predictor:
    """A file of ``simroot export``, ready to classify images.

    Args:
        path: ``.onnx`` (ONNX Runtime), ``.xml`` (OpenVINO), ``.c`` (compiled for this machine), ``.wasm`` (Wasmtime)
            or ``.tflite`` (LiteRT), or the folder of a web page.
        threads: threads of the engine; None leaves it to the engine.

    Attributes:
        path: the file.
        description: what the file says of itself.
        classes: class names in the order of the scores.
        task: what the scores say, see ``simroot.export.task``.

    Raises:
        ConfigError: for another suffix, less than one thread or an engine that is not installed.
        ExportError: if the file is missing or damaged, or no file of simroot export.
    """

    def __init__(self, path: str | Path, *, threads: int | None = None) -> None:
        self.path = Path(path)
        loaded = open_file(self.path, threads)
        self.description = Description.from_properties(loaded.properties, str(self.path))
        self.task = self.description.task
        self._run, self._dtype = loaded.run, np.dtype(loaded.kind)
        shape, outputs = loaded.inputs[0][1:], loaded.outputs[0][1]
        size, pixels = self.description.input_size, self.description.takes_pixels
        if (shape, loaded.kind) != (size, "uint8" if pixels else "float32"):
            raise ExportError(f"{path} takes {loaded.kind} {shape}, which is not what its metadata say")
        names = self.description.classes
        if names is not None and outputs not in (None, len(names)):
            raise ExportError(f"{path} gives {outputs} scores, but its metadata name {len(names)} classes")
        count = outputs if names is None else len(names)
        if count is None:
            raise ExportError(f"{path} does not say how many classes it knows; export it again with classes")
        self.classes = tuple(map(str, range(count))) if names is None else names

    def scores(self, images: Images) -> NDArray[np.float32]:
        """The network's scores, float32 (N, classes).

        Args:
            images: pictures, or a single one, prepared as for the network's evaluation: paths of image files, images
                of Pillow's, or arrays uint8 (H, W, C) or (H, W). Or an array of images that are prepared, as a single
                picture of the input's size is taken to be: uint8 (N, C, H, W) or (N, H, W, C), or (N, H, W) of grey
                images. A file without preprocessing takes float32 (N, *input_size).

        Raises:
            DataError: for an image that cannot be read, an array of another type or shape, or anything else.
        """
        if isinstance(images, _PICTURES) and not (isinstance(images, np.ndarray) and self._is_batch(images)):
            images = [images]
        if isinstance(images, np.ndarray):
            array = self._array(images)
            parts = [self._run(array[start : start + _BATCH]) for start in range(0, len(array), _BATCH)]
        elif not isinstance(images, Sequence) or not all(isinstance(picture, _PICTURES) for picture in images):
            raise DataError(
                f"images are a {type(images).__name__}; expected paths of image files, images of Pillow's, or NumPy "
                "arrays"
            )
        else:
            parts = [self._run(self._read(images[k : k + _BATCH])) for k in range(0, len(images), _BATCH)]
        return np.concatenate(parts) if parts else np.empty((0, len(self.classes)), dtype=np.float32)

    def predict(self, images: Images) -> NDArray[np.float64]:
        """Probabilities (N, classes): the softmax of ``scores``; their sigmoids if images may have several classes."""
        scores = self.scores(images)
        if not np.isfinite(scores).all():
            raise ExportError(f"{self.path} gives scores that are no numbers; export it again")
        return self.task.probabilities(scores)

    def classify(self, images: Images, top: int | None = None) -> list[list[tuple[str, float]]]:
        """For each image the ``top`` most probable classes with their probabilities, best first.

        Without ``top`` the most probable one; if images may have several, all that reach their thresholds.

        Raises:
            ConfigError: if ``top`` is no integer of at least 1.
            DataError: as ``scores``.
        """
        if top is not None and (not isinstance(top, int) or top < 1):
            raise ConfigError(f"top is {top!r}; expected an integer of at least 1")
        return [
            [(self.classes[k], float(shares[k])) for k in self.task.said(shares, top)]
            for shares in self.predict(images)
        ]

    @property
    def preparation(self) -> Preparation:
        """How pictures become the network's input."""
        return self.description.preparation

    def read(self, picture: Picture | Source) -> NDArray[np.uint8]:
        """A picture as the network takes it, uint8 (C, H, W); see ``scores``.

        Raises:
            DataError: if it cannot be read, or the file of the network takes no pixels.
        """
        if not self.description.takes_pixels:
            raise DataError(
                f"{self.path} holds no preprocessing: give normalised float32 arrays, or export it with mean and std"
            )
        if isinstance(picture, np.ndarray) and self._is_batch(picture):
            return self._array(picture)[0]
        return read_image(picture, self.preparation)

    def _read(self, pictures: Sequence[Picture]) -> NDArray[np.uint8]:
        return np.stack([self.read(picture) for picture in pictures])

    def _is_batch(self, array: NDArray[Any]) -> bool:
        """Whether an array holds images that are prepared, rather than being a picture."""
        size = self.description.input_size
        is_picture = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
        if array.dtype != np.uint8 or not self.description.takes_pixels or not is_picture:
            return True
        return array.shape in (size, (*size[1:], size[0])) or (size[0] == 1 and array.shape[1:] == size[1:])

    def _array(self, images: NDArray[Any]) -> NDArray[Any]:
        size = self.description.input_size
        if images.shape in (size, (*size[1:], size[0])) and images.ndim == 3:
            images = images[None]
        if self.description.takes_pixels and images.dtype == np.uint8:
            if images.ndim == 3 and size[0] == 1:
                images = images[:, None]
            elif images.ndim == 4 and images.shape[1:] == (*size[1:], size[0]) != size:
                images = images.transpose(0, 3, 1, 2)
        if images.dtype != self._dtype or images.shape[1:] != size or images.ndim < 2:
            raise DataError(
                f"images are {images.dtype} {images.shape}; {self.path} expects {self._dtype} (N, "
                f"{', '.join(map(str, size))})"
            )
        return np.ascontiguousarray(images)
