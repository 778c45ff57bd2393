"""A run at work: pictures in, probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from simroot.data import normalise
from simroot.errors import DataError
from simroot.images.decoding import Picture, read_image

if TYPE_CHECKING:
    from simroot.training.run import Run

_BATCH = 256

Images = Picture | Sequence[Picture] | NDArray[Any] | Tensor


@torch.inference_mode()
def probabilities(run: Run, images: Images) -> NDArray[np.float64]:
    """Float64 (N, classes); see ``Run.predict``."""
    pictures, model = _pictures(images, run.preparation.shape), run.model.eval()
    device = next((tensor.device for tensor in model.state_dict().values()), torch.device("cpu"))
    found = [np.empty((0, len(run.classes)))]
    for start in range(0, len(pictures), _BATCH):
        pixels = np.stack([_prepared(picture, run) for picture in pictures[start : start + _BATCH]])
        scores = model(normalise(torch.from_numpy(pixels), run.mean, run.std).to(device))
        wide = scores.double()
        found.append((wide.softmax(1) if run.thresholds is None else wide.sigmoid()).cpu().numpy())
    return np.concatenate(found)


def _pictures(images: Images, shape: tuple[int, ...]) -> Sequence[Any]:
    """One after the other; an array of several is taken apart."""
    if isinstance(images, Tensor):
        images = images.detach().cpu().numpy()
    if isinstance(images, str | Path | Image.Image):
        return [images]
    if isinstance(images, np.ndarray):
        is_one = images.ndim == 2 or (images.ndim == 3 and (images.shape == shape or images.shape[2] in (1, 3, 4)))
        return [images] if is_one else list(images)
    if not isinstance(images, Sequence):
        raise DataError(f"images are a {type(images).__name__}; expected paths, images of Pillow's, arrays or a tensor")
    return images


def _prepared(picture: Any, run: Run) -> NDArray[np.uint8]:
    if isinstance(picture, Tensor):
        picture = picture.detach().cpu().numpy()
    if not isinstance(picture, str | Path | Image.Image | np.ndarray):
        raise DataError(f"an image is a {type(picture).__name__}; expected a path, an image of Pillow's or an array")
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3:
        if picture.shape == run.preparation.shape:
            return picture
        if picture.shape[2] not in (1, 3, 4) and picture.shape[0] in (1, 3):
            picture = picture.transpose(1, 2, 0)
    return read_image(picture, run.preparation)
