"""An image file as a tensor."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from simroot.data.crop import Crop, share
from simroot.images.decoding import read_image
from simroot.images.preparation import ImageSize, Preparation, as_image_size


def decode(path: str | Path, channels: int, image_size: ImageSize, crop: Crop = "whole") -> Tensor:
    """One image file as a uint8 tensor (channels, height, width), prepared as for evaluation.

    What else a preparation decides is as it is without choice; ``simroot.images.decoding.read_image`` takes any
    preparation.

    Raises:
        DataError: the file is missing, unreadable or not an image.
    """
    preparation = Preparation(channels, as_image_size(image_size), share=share(crop))
    return torch.from_numpy(read_image(path, preparation).copy())
