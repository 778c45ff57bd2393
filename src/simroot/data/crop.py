"""Which part of a large image a network sees: windows for training and for evaluation, in units of pixels."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from simroot.errors import ConfigError
from simroot.images import Box, centre_box, square_box

CROPS = ("whole", "scale", "random-resized")

# From the number of an image in its split, its width and its height to what is seen of it.
Window = Callable[[int, int, int], Box]

# Side of the window in a network's image size when the shorter side is 256: what evaluation sees, too.
CENTRE = 224 / 256
_AREA = (0.08, 1.0)
_ASPECT = (3 / 4, 4 / 3)
_ATTEMPTS = 10


def window(crop: str, *, train: bool, seed: int = 0, epoch: int = 0) -> Window:
    """The windows of one epoch.

    Args:
        crop: ``"whole"``: the largest square in the middle. ``"scale"``: scale the shorter side to 256 / 224 of the
            network's size, then cut out the network's size, at random in training and in the middle otherwise (the
            random crops of Deep Roots, sections 4.3 and 4.4). ``"random-resized"``: in training a random part of 8% to
            100% of the area with sides at a ratio of 3/4 to 4/3; otherwise as ``"scale"``.
        train: for training.
        seed: of the random windows.
        epoch: of the random windows, each drawn from (seed, epoch, number of the image) alone.

    Raises:
        ConfigError: for another ``crop``.
    """
    if crop not in CROPS:
        raise ConfigError(f"crop is {crop!r}; expected one of {', '.join(CROPS)}")
    if crop == "whole" or not train:
        share = 1.0 if crop == "whole" else CENTRE
        return lambda index, width, height: centre_box(width, height, share)
    draw = _random_square if crop == "scale" else _random_part
    return lambda index, width, height: draw(np.random.default_rng([seed, epoch, index]), width, height)


def _random_square(generator: np.random.Generator, width: int, height: int) -> Box:
    right, down = generator.random(2)
    return square_box(width, height, CENTRE, right, down)


def _random_part(generator: np.random.Generator, width: int, height: int) -> Box:
    """As torchvision's RandomResizedCrop: attempts until a part fits into the image, else the largest that does."""
    for _ in range(_ATTEMPTS):
        area = width * height * generator.uniform(*_AREA)
        aspect = math.exp(generator.uniform(math.log(_ASPECT[0]), math.log(_ASPECT[1])))
        part = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if part[0] <= width and part[1] <= height:
            break
    else:
        least, most = _ASPECT
        part = min(width, height * most), min(height, width / least)
    right, down = generator.random(2)
    left, top = right * (width - part[0]), down * (height - part[1])
    return left, top, left + part[0], top + part[1]
