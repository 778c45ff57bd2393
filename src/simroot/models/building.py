"""What the builders of networks share: checks of their arguments, and dense layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from simroot.errors import ConfigError, is_whole

# Size of the images that a network takes: the side of a square, or height and width.
ImageSize = int | Sequence[int]


def require_image_size(model: str, image_size: ImageSize, smallest: int) -> tuple[int, int]:
    """Height and width of an image size: the side of a square, or a sequence of two.

    Raises:
        ConfigError: naming the model, the size received and the smallest that works, if it is neither or below that.
    """
    sides = tuple(image_size) if isinstance(image_size, list | tuple) else (image_size, image_size)
    if len(sides) != 2 or not all(is_whole(side, smallest) for side in sides):
        raise ConfigError(f"image_size of {model} is {image_size!r}; the smallest that works is {smallest}")
    height, width = sides
    return height, width


def require_positive(model: str, **values: int) -> None:
    """Refuse an argument that is no integer of at least one.

    Raises:
        ConfigError: naming the model, the argument and what was received.
    """
    for argument, value in values.items():
        if not is_whole(value, 1):
            raise ConfigError(f"{argument} of {model} is {value!r}; expected an integer of at least 1")


def require_group_list(model: str, groups: object, count: int, where: str) -> None:
    """Refuse groups that are no sequence with an entry for each of ``count`` places.

    Raises:
        ConfigError: naming the model, what was received and the places.
    """
    if not isinstance(groups, Sequence) or isinstance(groups, str) or len(groups) != count:
        raise ConfigError(f"groups of {model} is {groups!r}; expected {count} numbers, for {where}")


def dense(in_features: int, out_features: int) -> nn.Linear:
    """A linear layer with weights from N(0, 2 / in_features) (He) and biases of zero."""
    layer = nn.Linear(in_features, out_features)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer
