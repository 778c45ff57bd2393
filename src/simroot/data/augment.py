"""Random changes of training images beyond shift and mirror, on whole batches: turning, zooming, colours, erasing.

All that is random is drawn for an epoch at its start, from (seed, epoch) alone, so that an epoch is the same whatever
came before it. More kinds belong here: a field of ``Augmentation``, its draw and its step.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from simroot.errors import ConfigError


@dataclass(frozen=True)
class Augmentation:
    """How far training images are changed at random; 0 leaves them as they are.

    Attributes:
        rotate: turned by up to so many degrees each way.
        zoom: scaled by a factor between 1 / (1 + zoom) and 1 + zoom.
        jitter: contrast times 1 - jitter to 1 + jitter, brightness and then each channel's own moved by up to
            ``jitter`` deviations of the data.
        erase: a square of up to so much of the image's side is set to the data's mean.

    Raises:
        ConfigError: for a value out of range.
    """

    rotate: float = 0.0
    zoom: float = 0.0
    jitter: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        for field, most in zip(fields(self), (180.0, math.inf, 1.0, 1.0), strict=True):
            value = getattr(self, field.name)
            if not (0 <= value <= most and math.isfinite(value)):
                raise ConfigError(
                    f"{field.name} is {value!r}; expected a number from 0" + f" to {most:g}" * (most < 1e9)
                )

    def __bool__(self) -> bool:
        return any(astuple(self))

    def draw(self, count: int, channels: int, generator: torch.Generator) -> Tensor:
        """The random numbers of ``count`` images, (count, 7 + channels), uniform in [-1, 1)."""
        return torch.rand(count, 7 + channels, generator=generator) * 2 - 1

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Changed images: normalised (B, C, H, W), of which 0 is the data's mean, and their rows of ``draw``."""
        turn, scale, contrast, brightness, *square = draws[:, :7].unbind(1)
        if self.rotate or self.zoom:
            images = _turned(images, turn * math.radians(self.rotate), (1 + self.zoom) ** scale)
        if self.jitter:
            gain, added = 1 + self.jitter * contrast[:, None], brightness[:, None] + draws[:, 7:]
            images = torch.addcmul(self.jitter * added[:, :, None, None], images, gain[:, :, None, None])
        if self.erase:
            images = images * ~_squares(images.shape[2:], square, self.erase)
        return images


def _turned(images: Tensor, angle: Tensor, factor: Tensor) -> Tensor:
    """Turned around the middle by ``angle`` (B,) and magnified by ``factor`` (B,); zeros fill what was not seen."""
    height, width = images.shape[2:]
    cos, sin, zero = torch.cos(angle) / factor, torch.sin(angle) / factor, torch.zeros_like(angle)
    rows = (cos, -sin * height / width, zero), (sin * width / height, cos, zero)
    matrix = torch.stack([torch.stack(row, 1) for row in rows], 1)
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _squares(size: torch.Size, square: list[Tensor], most: float) -> Tensor:
    """Where the erased squares are, (B, 1, H, W): side and middle are drawn, so that some reach over the border."""
    side, down, right = square
    inside = []
    for length, middle in zip(size, (down, right), strict=True):
        position = (torch.arange(length, device=middle.device) + 0.5) * 2 / length - 1
        inside.append((position - middle[:, None]).abs() < most * (1 + side[:, None]) / 2)
    return (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
