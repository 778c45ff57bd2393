"""The SimNets of Deep SimNets by name (sections 3 and 6)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import count
from typing import Any

from torch import nn

from simroot.errors import ConfigError
from simroot.models.building import ImageSize, require_image_size, require_positive
from simroot.models.registry import register, register_variant
from simroot.models.simnets.architecture import LEARNED, SimNet, SimNetMlp, Stage
from simroot.ops.similarity import Kind
from simroot.roots.schedules import require_groups

# One number for all stages, or one for each.
PerStage = int | Sequence[int]

# What trained simnet2 best among rates of 0.1, 0.2 and 0.4; the clipping only catches a rare outlier.
_RECIPE = {"learning_rate": 0.2, "clip_norm": 5.0}


def _simnet(
    name: str, stages: tuple[Stage, ...], num_classes: int, in_channels: int, image_size: ImageSize, **options: Any
) -> SimNet:
    for stage in stages:
        require_positive(name, channels=stage.templates, whitened=stage.whitened)
    smallest = next(n for n in count(1) if _output_size(stages, n) >= 1)
    require_image_size(name, image_size, smallest)
    return SimNet(stages, num_classes, in_channels, **options)


def _per_stage(name: str, stages: int, whitened: PerStage | None, channels: PerStage) -> tuple[tuple[int, int], ...]:
    """(channels of the convolution, channels of the similarity) of every stage."""
    sizes = []
    for argument, value in (("channels", channels), ("whitened", channels if whitened is None else whitened)):
        each = tuple(value) if isinstance(value, Sequence) else (value,) * stages
        if len(each) != stages:
            raise ConfigError(f"{argument} of {name} is {value!r}; expected {stages} numbers, one for each stage")
        for number in each:
            require_positive(name, **{argument: number})
        sizes.append(each)
    templates, filters = sizes
    return tuple(zip(filters, templates, strict=True))


def _output_size(stages: tuple[Stage, ...], size: int) -> int:
    for stage in stages:
        if (size := stage.output_size(size)) < 1:
            return 0
    return size


@register(parameters=615_401, macs=308_200)
def simnet_mlp(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    image_size: ImageSize = 32,
    templates: int = 100,
    kind: Kind = "lp",
    order: float = 2.0,
    learn: Sequence[str] = LEARNED,
) -> nn.Module:
    """SimNet MLP: similarity to templates over the whole image, then MEX (Deep SimNets, section 3).

    Overrides:
        templates: number of hidden similarity units n.
        kind: "lp" or "linear" similarity.
        order: p of the similarity; the first value if it is learned.
        learn: which parameters are learned, of ``LEARNABLE``.
    """
    height, width = require_image_size("simnet_mlp", image_size, 1)
    require_positive("simnet_mlp", templates=templates)
    if kind not in ("lp", "linear"):
        raise ConfigError(f"kind of simnet_mlp is {kind!r}; expected 'lp' or 'linear'")
    features = in_channels * height * width
    return SimNetMlp(features, templates, num_classes, kind=kind, order=order, learn=learn)


@register(parameters=21_702, macs=11_074_000, recipe=_RECIPE)
def simnet1(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    image_size: ImageSize = 32,
    channels: int = 100,
    whitened: int | None = None,
    order: float = 2.0,
    learn: Sequence[str] = LEARNED,
) -> nn.Module:
    """Single layer SimNet: whitened similarity to 5x5 patches, MEX, global MEX (Deep SimNets, section 6.2).

    Overrides:
        image_size: at least 5.
        channels: number of templates n; the paper's are 50, 100, 200, 400 and 800.
        whitened: dimension of the whitened patches; not reduced (25 x in_channels) if None.
        order: p of the similarity (the paper: 1 and 2); the first value if it is learned.
        learn: which parameters are learned, of ``LEARNABLE``.
    """
    stages = (Stage(25 * in_channels if whitened is None else whitened, channels, 5),)
    return _simnet("simnet1", stages, num_classes, in_channels, image_size, order=order, learn=learn)


@register(parameters=64_578, macs=7_215_232, recipe=_RECIPE)
def simnet2(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    image_size: ImageSize = 32,
    channels: tuple[int, int] = (32, 64),
    whitened: tuple[int, int] | None = None,
    groups: int = 1,
    similarity_groups: int = 1,
    order: float = 2.0,
    pool_beta: float = math.inf,
    learn: Sequence[str] = LEARNED,
) -> nn.Module:
    """Two layer SimNet: 5x5 stages of 32 and 64 channels with 3x3 max pooling between (Deep SimNets, section 6.3).

    Overrides:
        image_size: at least 15.
        channels: channels of the two stages.
        whitened: channels of their convolutions where they differ from ``channels``, those of the similarities.
        groups: filter groups of the second stage's convolution.
        similarity_groups: groups of the second stage's similarity.
        order: p of the similarities; the first value if it is learned.
        learn: which parameters are learned, of ``LEARNABLE``.
        pool_beta: beta of the pooling between the stages.

    Raises:
        ConfigError: if groups do not divide the channels, or another argument is out of range.
    """
    (d1, n1), (d2, n2) = _per_stage("simnet2", 2, whitened, channels)
    require_positive("simnet2", groups=groups, similarity_groups=similarity_groups)
    require_groups("simnet2", "the second convolution", groups, n1, d2)
    require_groups("simnet2", "the second similarity", similarity_groups, d2, n2)
    stages = (Stage(d1, n1, 5, pool=pool_beta), Stage(d2, n2, 5, groups=groups, similarity_groups=similarity_groups))
    return _simnet("simnet2", stages, num_classes, in_channels, image_size, order=order, learn=learn)


for _degree, _size in {2: (38_978, 5_141_632), 4: (26_178, 4_104_832), 8: (19_778, 3_586_432)}.items():
    _summary = f"simnet2 with {_degree} filter groups in its second convolution (Deep Roots, section 3)."
    register_variant(f"simnet2_root{_degree}", simnet2, _size, _summary, recipe=_RECIPE, groups=_degree)


@register(parameters=11_138, macs=176_160, recipe={"clip_norm": 5.0})
def simnet2_small(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    image_size: ImageSize = 8,
    channels: tuple[int, int] = (24, 32),
    whitened: tuple[int, int] | None = None,
    order: float = 2.0,
    learn: Sequence[str] = LEARNED,
) -> nn.Module:
    """Two layer SimNet for images of 8 pixels: 3x3 stages without pooling (Deep SimNets, section 4.3).

    Overrides:
        image_size: at least 5.
        channels: channels of the two stages.
        whitened: channels of their convolutions where they differ from ``channels``, those of the similarities.
        order: p of the similarities; the first value if it is learned.
        learn: which parameters are learned, of ``LEARNABLE``.
    """
    stages = tuple(Stage(*sizes, 3) for sizes in _per_stage("simnet2_small", 2, whitened, channels))
    return _simnet("simnet2_small", stages, num_classes, in_channels, image_size, order=order, learn=learn)


def _three_stages(name: str, whitened: PerStage | None, channels: PerStage) -> tuple[Stage, ...]:
    first, second, third = _per_stage(name, 3, whitened, channels)
    return (
        Stage(*first, 5, padding=2, pool=math.inf),
        Stage(*second, 5, padding=2, pool=0.0),
        Stage(*third, 3, padding=1),
    )


@register(parameters=1_491_842, macs=321_576_960, recipe=_RECIPE)
def simnet3(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    image_size: ImageSize = 32,
    channels: PerStage = 192,
    whitened: PerStage | None = None,
    order: float = 2.0,
    learn: Sequence[str] = LEARNED,
    noise: float = 0.1,
) -> nn.Module:
    """Three layer SimNet: 5x5, 5x5 and 3x3 stages, max then average pooling, noise (Deep SimNets, section 6.4).

    Grids of 32, 16 and 8, the reading that gives the printed operations of the compact version.

    Overrides:
        channels: channels of all stages, or of each.
        whitened: channels of their convolutions where they differ from ``channels``, those of the similarities.
        order: p of the similarities; the first value if it is learned.
        learn: which parameters are learned, of ``LEARNABLE``.
        noise: sigma of the multiplicative Gaussian noise in training.
    """
    stages = _three_stages("simnet3", whitened, channels)
    options = {"order": order, "learn": learn, "noise": noise}
    return _simnet("simnet3", stages, num_classes, in_channels, image_size, **options)


@register(parameters=4_902, macs=1_606_400, recipe=_RECIPE)
def simnet3_compact(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    image_size: ImageSize = 32,
    channels: PerStage = 10,
    whitened: PerStage | None = None,
    order: float = 2.0,
    learn: Sequence[str] = LEARNED,
) -> nn.Module:
    """Three layer SimNet of 10 channels without noise: 5K parameters (Deep SimNets, section 6.4).

    Overrides:
        channels: channels of all stages, or of each.
        whitened: channels of their convolutions where they differ from ``channels``, those of the similarities.
        order: p of the similarities; the first value if it is learned.
        learn: which parameters are learned, of ``LEARNABLE``.
    """
    stages = _three_stages("simnet3_compact", whitened, channels)
    return _simnet("simnet3_compact", stages, num_classes, in_channels, image_size, order=order, learn=learn)
