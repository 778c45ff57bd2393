"""What can be done with any network: evaluate it, call it safely, put other modules into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn

from simroot.errors import ConfigError, SimrootError

# What a network that is given something else than it takes may raise.
_NETWORK_ERRORS = (RuntimeError, ValueError, IndexError, AssertionError, TypeError, AttributeError, KeyError)


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
