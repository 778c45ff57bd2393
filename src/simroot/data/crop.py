"""Which part of a large image a network sees: windows for training and for evaluation, in units of pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from simroot.images.preparation import Box, Frame
from simroot.untrusted.schema import require

Crop = Literal["whole", "scale", "random-resized"]
CROPS: tuple[Crop, ...] = get_args(Crop)
WHOLE = CROPS[0]

# From the number of an image in its split and its frame to what is seen of it.
Window = Callable[[int, Frame], Box]

# Side of the window in a network's image size when the frame's is 256: what evaluation sees, too.
CENTRE = 224 / 256
_AREA = (0.08, 1.0)
_ASPECT = (3 / 4, 4 / 3)
_ATTEMPTS = 10


def window(crop: Crop, *, train: bool, seed: int = 0, epoch: int = 0) -> Window:
    """The windows of one epoch.

    Args:
        crop: ``"whole"``: an image's frame, the largest square in the middle unless it is fitted otherwise.
            ``"scale"``: scale the frame to 256 / 224 of the network's size, then cut out the network's size, at random
            in training and in the middle otherwise (the random crops of Deep Roots, sections 4.3 and 4.4).
            ``"random-resized"``: in training a random part of 8% to 100% of the area with sides at a ratio of 3/4 to
            4/3, times the frame's; otherwise as ``"scale"``.
        train: for training.
        seed: of the random windows.
        epoch: of the random windows, each drawn from (seed, epoch, number of the image) alone.

    Raises:
        ConfigError: for another ``crop``.
    """
    require(crop, Crop, "crop")
    if crop == WHOLE or not train:
        return lambda index, frame: frame.box(share(crop))
    draw = _random_place if crop == "scale" else _random_part
    return lambda index, frame: draw(np.random.default_rng([seed, epoch, index]), frame)


def share(crop: Crop) -> float:
    """Share of the width and height of an image's frame that evaluation sees."""
    return 1.0 if crop == WHOLE else CENTRE


def _random_place(generator: np.random.Generator, frame: Frame) -> Box:
    right, down = generator.random(2)
    return frame.box(CENTRE, right, down)


def _random_part(generator: np.random.Generator, frame: Frame) -> Box:
    """As torchvision's RandomResizedCrop: attempts until a part fits into the image, else the largest that does."""
    (width, height), shape = frame.room, frame.width / frame.height
    for _ in range(_ATTEMPTS):
        area = width * height * generator.uniform(*_AREA)
        aspect = shape * math.exp(generator.uniform(math.log(_ASPECT[0]), math.log(_ASPECT[1])))
        part = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if part[0] <= width and part[1] <= height:
            break
    else:
        least, most = (shape * ratio for ratio in _ASPECT)
        part = min(width, height * most), min(height, width / least)
    right, down = generator.random(2)
    left, top = right * (width - part[0]), down * (height - part[1])
    return left, top, left + part[0], top + part[1]
