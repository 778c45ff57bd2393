"""What networks and their builders share: checks of arguments, dense layers, modules that take others' places."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from simroot.errors import ConfigError, SimrootError

# Of the images that a network takes: the side of a square, or height and width.
ImageSize = int | Sequence[int]

# What a network that is given something else than it takes may raise.
_NETWORK_ERRORS = (RuntimeError, ValueError, IndexError, AssertionError, TypeError, AttributeError, KeyError)


def is_whole(value: object, least: int) -> bool:
    """Whether a value is an integer of at least ``least``; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def nearest(word: str, known: Iterable[str]) -> str:
    """What to say of an unknown word: the known ones that are most like it, or all."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=3)
    return f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(known)}"


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


@contextmanager
def processing(failure: str) -> Iterator[None]:
    """Around the call of any network with an input that it may not be able to process.

    Args:
        failure: what to say then, as in "Sequential cannot process an example of shape (3, 8, 8)".

    Raises:
        ConfigError: the failure with the network's own reason; errors of simroot pass as they are.
    """
    try:
        yield
    except SimrootError:
        raise
    except _NETWORK_ERRORS as error:
        raise ConfigError(f"{failure}: {str(error).strip().partition(chr(10))[0] or type(error).__name__}") from error


def replace_modules(
    module: nn.Module,
    replacement: Callable[[nn.Module], nn.Module | None],
    done: dict[nn.Module, nn.Module] | None = None,
) -> nn.Module:
    """Put other modules in the places of a network's, in place: each once, under all names that it is held by.

    Args:
        module: the network.
        replacement: gives what takes a module's place, maybe the module itself, and is not asked about the modules
            inside; None to go on with those.
        done: what has taken the place of which module already.

    Returns:
        The network, or what takes its place.
    """
    done = {} if done is None else done
    if module not in done:
        found = replacement(module)
        done[module] = module if found is None else found
        if found is None:
            for name, child in module._modules.items():
                if child is not None:
                    setattr(module, name, replace_modules(child, replacement, done))
    return done[module]
