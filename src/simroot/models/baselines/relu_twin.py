"""The ReLU twin of a SimNet: the ConvNet of the same shape, the fair opponent of its operators."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import nn

from simroot.errors import ConfigError
from simroot.layers import MexPool2d, NormalisedConv2d
from simroot.models.building import ImageSize, dense
from simroot.models.registry import create_model, list_models, register
from simroot.models.simnets.architecture import SimNet, SimNetMlp


def relu_twin(
    name: str, num_classes: int = 10, in_channels: int = 3, *, whiten: bool = False, **overrides: Any
) -> nn.Module:
    """The ConvNet of a SimNet's shape: ReLU and a 1 x 1 convolution in place of each similarity.

    Convolutions, channels, grids and local pooling are the SimNet's; global average pooling and a linear layer take
    the place of the classification and global MEX. Every convolution is followed by batch normalisation while it
    trains, which folds away as the SimNet's does. A 1 x 1 convolution has half the parameters of a similarity (no
    weights u) and as many MACs. Where a SimNet ends a sequence, what comes before it stays.

    Args:
        name: a SimNet's name.
        num_classes: number of classes.
        in_channels: channels of the images.
        whiten: learn the first filters in whitened coordinates, as the SimNet does: then only the operators differ.
        **overrides: the SimNet's overrides; those that only a SimNet knows (order, learn) change nothing.

    Raises:
        ConfigError: for an unknown name or override, or a network that is no SimNet.
    """
    model = create_model(name, num_classes, in_channels, **overrides)
    if isinstance(model, SimNetMlp):
        templates = model.similarity.templates.shape[0]
        hidden = dense(model.in_features, templates)
        return nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), dense(templates, num_classes))
    layers = OrderedDict[str, nn.Module]()
    if isinstance(model, nn.Sequential):
        layers.update(model.named_children())
        _, model = layers.popitem()
    if not isinstance(model, SimNet):
        simnets = ", ".join(n for n in list_models("simnet*") if not n.endswith("_twin"))
        raise ConfigError(f"{name} is no SimNet and has no ReLU twin; expected one of {simnets}")
    in_channels = model.in_channels
    for index, stage in enumerate(model.stage_specs, start=1):
        layers[f"conv{index}"] = NormalisedConv2d(
            in_channels,
            stage.whitened,
            stage.kernel_size,
            padding=stage.padding,
            groups=stage.groups,
            whiten=whiten and not layers,
        )
        layers[f"relu{index}"] = nn.ReLU()
        layers[f"mix{index}"] = NormalisedConv2d(stage.whitened, stage.templates, 1, groups=stage.similarity_groups)
        pool = model.pools[index - 1]
        if isinstance(pool, MexPool2d):
            layers[f"pool{index}"] = pool
        in_channels = stage.templates
    layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "classifier": dense(in_channels, num_classes)}
    return nn.Sequential(layers)


# The rate that trained the twin of simnet2 best among 0.1, 0.2 and 0.4: the SimNet's own.
_RECIPE = {"learning_rate": 0.2}


@register(name="simnet2_twin", parameters=59_562, macs=7_164_032, recipe=_RECIPE)
def _simnet2_twin(
    num_classes: int = 10, in_channels: int = 3, *, image_size: ImageSize = 32, whiten: bool = False
) -> nn.Module:
    """ReLU twin of simnet2: the ConvNet of its shape (see relu_twin)."""
    return relu_twin("simnet2", num_classes, in_channels, whiten=whiten, image_size=image_size)


@register(name="simnet3_compact_twin", parameters=4_620, macs=1_600_100, recipe=_RECIPE)
def _simnet3_compact_twin(
    num_classes: int = 10, in_channels: int = 3, *, image_size: ImageSize = 32, whiten: bool = False
) -> nn.Module:
    """ReLU twin of simnet3_compact: the ConvNet of its shape (see relu_twin)."""
    return relu_twin("simnet3_compact", num_classes, in_channels, whiten=whiten, image_size=image_size)
