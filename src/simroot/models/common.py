"""What the builders of networks share: checks of their arguments, dense layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from simroot.errors import ConfigError


def require_image_size(model: str, image_size: int, smallest: int) -> None:
    """Refuse an image size that is no integer or below the smallest that the network can process.

    Raises:
        ConfigError: naming the model, the size received and the smallest that works.
    """
    if not isinstance(image_size, int) or image_size < smallest:
        raise ConfigError(f"image_size of {model} is {image_size!r}; the smallest that works is {smallest}")


def require_positive(model: str, **values: int) -> None:
    """Refuse an argument that is no integer of at least one.

    Raises:
        ConfigError: naming the model, the argument and what was received.
    """
    for argument, value in values.items():
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"{argument} of {model} is {value!r}; expected an integer of at least 1")


def dense(in_features: int, out_features: int) -> nn.Linear:
    """A linear layer with weights from N(0, 2 / in_features) (He) and biases of zero."""
    layer = nn.Linear(in_features, out_features)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The network in evaluation mode, every module back in its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
