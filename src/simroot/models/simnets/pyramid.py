"""SimNets whose channels double where the grid halves: the L-layer SimNet (section 4.3) for any small budget."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from simroot.errors import ConfigError
from simroot.models.baselines.relu_twin import relu_twin
from simroot.models.baselines.stages import stage_channels
from simroot.models.building import ImageSize, require_image_size, require_positive
from simroot.models.image_sizes import STAGES
from simroot.models.registry import register
from simroot.models.simnets.architecture import LEARNED, SimNet, Stage
from simroot.roots.schedules import root_schedule

_RECIPE = {"learning_rate": 0.2, "clip_norm": 5.0}
_NAME = "simnet_pyramid"


@register(parameters=54_342, macs=5_519_360, recipe=_RECIPE)
def simnet_pyramid(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    image_size: ImageSize = 32,
    channels: float = 20,
    depth: int = 1,
    degree: int = 1,
    kernel_size: int = 3,
    order: float = 2.0,
    learn: Sequence[str] = LEARNED,
) -> nn.Module:
    """SimNet of c, 2c and 4c channels on a full, a half and a quarter of the grid (Deep SimNets, section 4.3).

    Pooling is that of the three layer SimNet (section 6.4): maximum, then average. With a root degree the convolutions
    behind the first have filter groups (Deep Roots, section 3): ``degree`` of them before the second pooling and half
    as many behind it.

    Overrides:
        channels: channels of the first grid's layers; the others have two and four times as many, rounded to multiples
            of ``degree``.
        depth: layers (convolution and similarity) on each grid.
        degree: filter groups of the second layer's convolution, a power of two.
        kernel_size: receptive field of the convolutions, odd.
        order: p of the similarities; the first value if it is learned.
        learn: which parameters are learned, of ``LEARNABLE``.
    """
    require_image_size(_NAME, image_size, smallest=4)
    require_positive(_NAME, depth=depth, degree=degree, kernel_size=kernel_size)
    if kernel_size % 2 == 0:
        raise ConfigError(f"kernel_size of {_NAME} is {kernel_size}; expected an odd number")
    later, last = root_schedule(degree, STAGES - 1)
    widths = stage_channels(_NAME, channels, degree)
    stages: list[Stage] = []
    for width, pool, groups in zip(widths, (math.inf, 0.0, None), (later, later, last), strict=True):
        for index in range(1, depth + 1):
            stages.append(
                Stage(
                    width,
                    width,
                    kernel_size,
                    padding=kernel_size // 2,
                    pool=pool if index == depth else None,
                    groups=groups if stages else 1,
                )
            )
    return SimNet(tuple(stages), num_classes, in_channels, order=order, learn=learn)


@register(parameters=46_030, macs=5_468_960, recipe={"learning_rate": 0.2})
def simnet_pyramid_twin(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    image_size: ImageSize = 32,
    channels: float = 20,
    depth: int = 1,
    degree: int = 1,
    kernel_size: int = 3,
    whiten: bool = False,
) -> nn.Module:
    """ReLU twin of simnet_pyramid: the ConvNet of its shape (see relu_twin)."""
    shape = {"channels": channels, "depth": depth, "degree": degree, "kernel_size": kernel_size}
    return relu_twin(_NAME, num_classes, in_channels, whiten=whiten, image_size=image_size, **shape)
