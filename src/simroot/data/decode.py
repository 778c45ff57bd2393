"""An image file as a tensor."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from simroot.data.crop import window
from simroot.images import read_image


def decode(path: str | Path, channels: int, image_size: int, crop: str = "whole") -> Tensor:
    """One image file as a uint8 tensor (channels, image_size, image_size), prepared as for evaluation.

    Raises:
        DataError: the file is missing, unreadable or not an image.
    """
    seen = partial(window(crop, train=False), 0)
    return torch.from_numpy(read_image(path, channels, image_size, seen).copy())
