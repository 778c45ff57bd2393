"""Networks that are not simroot's: a user's builder or module, and what installed packages bring.

A name such as ``package.module:builder`` is code. It is imported by ``use`` alone, and ``use`` is called only where a
word of the user's own arrives. A name out of a file is looked up among those that have been used: whoever writes a
config.yaml decides nothing about what is imported.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from simroot import installed
from simroot.errors import ConfigError, SimrootError, nearest, quoted
from simroot.models.registry import INSTALLED, SOURCES, ModelEntry, add, model_entry, names_network, registered
from simroot.modules import evaluating

Builder = Callable[..., nn.Module]
# What a training takes: a name, a builder, or the network itself.
Network = str | Builder | nn.Module

# Arguments that every builder may take, with the values of one that has no default.
_COMMON = {"num_classes": 10, "in_channels": 3, "image_size": 32}
# Folders of code that a user does not look into for a mistake; importing goes through Python's own.
_OTHERS = tuple(str(Path(str(module.__file__)).parent) for module in (torch, installed, importlib))
_ADDRESS = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*(?:\.[^\W\d]\w*)*)")


def use(name: str) -> str:
    """Import the builder that a user has named, so that its name goes wherever a network's name goes.

    Args:
        name: ``package.module:builder``; other names pass.

    Returns:
        The name.

    Raises:
        ConfigError: if there is no such module or builder, or it fails when it is imported.
    """
    if not names_network(name) and (address := _ADDRESS.fullmatch(name)):
        _remember(entry(_imported(name, address[1], address[2]), name))
    return name


def entry(network: Builder | nn.Module, name: str | None = None) -> ModelEntry:
    """The entry of a builder, or of a network that is there already, which every call copies.

    Args:
        network: a builder is called as ``register`` says, with those of ``num_classes``, ``in_channels`` and
            ``image_size`` that it names.
        name: its name; None for where it is defined, as in ``package.module:builder``, from where it can be imported
            again, or else a name that says only what it is.

    Raises:
        ConfigError: for anything else.
    """
    if isinstance(network, nn.Module):
        return _entry(name or f"{type(network).__name__}()", _copies(network), network.__doc__)
    if not callable(network):
        raise ConfigError(f"the network is {quoted(network)}; expected a name, a builder or an nn.Module")
    known = name or _address(network)
    found = _entry(known, _adapted(known, network), network.__doc__)
    if name is None and _resolved(known) is network:
        _remember(found)
    return found


def is_own(name: str) -> bool:
    """Whether a name is that of a builder that has been used here."""
    return ":" in name and name in SOURCES


def can_be_imported(name: str) -> bool:
    """Whether another process can import a builder by its name."""
    return bool(_ADDRESS.fullmatch(name)) and not name.startswith("__main__:")


def given(network: Network | None) -> ModelEntry | None:
    """The entry of what a user hands over for a run, whatever form it has; None for what the run itself names."""
    if network is None:
        return None
    return model_entry(use(network)) if isinstance(network, str) else entry(network)


def require_scores(model: nn.Module, name: str, shape: Sequence[int], classes: int) -> None:
    """Make sure that a network gives a score for each class of each image; its lazy layers know their sizes then.

    Args:
        model: the network, on the CPU.
        name: what to call it.
        shape: (C, H, W) of an image.
        classes: how many there are.

    Raises:
        ConfigError: if it gives something else, or fails.
    """
    images = torch.zeros(2, *shape)
    size = " x ".join(map(str, shape))
    with (
        evaluating(model),
        torch.no_grad(),
        torch.random.fork_rng(devices=[]),
        _told(f"{name} fails on images of {size}"),
    ):
        scores: object = model(images)
    if not isinstance(scores, Tensor) or scores.shape != (2, classes):
        found = f"shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else f"type {type(scores).__name__}"
        raise ConfigError(
            f"{name} gives scores of {found} for 2 images of {size}; expected (2, {classes}), one for each class"
        )


def _imported(name: str, module: str, attribute: str) -> Builder:
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise ConfigError(f"{name} needs {error.name}, which is not installed") from error
        raise ConfigError(
            f"{quoted(module)} is no source of networks; expected torchvision:NAME, timm:NAME, a plain name, or "
            "package.module:builder of a module that is installed or lies in the folder of the call"
        ) from error
    except (Exception, SystemExit) as error:  # a module's own code may raise anything
        raise ConfigError(f"{module} cannot be imported: {_reason(error)}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [known for known, value in vars(found).items() if callable(value) and not known.startswith("_")]
            raise ConfigError(f"{module} has no {quoted(part)}; {nearest(part, public)}")
        found = getattr(found, part)
    if isinstance(found, nn.Module) or not callable(found):
        raise ConfigError(
            f"{name} is a {type(found).__name__}; expected a builder, a function or class that gives a network for "
            "num_classes"
        )
    return found


def _installed(name: str) -> ModelEntry:
    """The network of a package: as the package registers it, or of the builder that it names alone."""
    point = installed.networks()[name]
    try:
        build = point.load()
        found = registered(name) or entry(build, name)
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"the network {name} of {installed.source(point)} cannot be used: {_reason(error)}; update the package or "
            "uninstall it"
        ) from error
    add(found)
    return found


def _remember(found: ModelEntry) -> None:
    SOURCES[found.name] = lambda _: found


def _entry(name: str, build: Builder, text: str | None) -> ModelEntry:
    signature = inspect.signature(build).parameters
    sizes = {key: signature[key].default for key in _COMMON}
    return ModelEntry(name, build, inspect.cleandoc(text or "").partition("\n")[0], **sizes)


def _copies(network: nn.Module) -> Builder:
    def build(num_classes: int = 10, in_channels: int = 3, *, image_size: Any = 32) -> nn.Module:
        return copy.deepcopy(network).cpu()

    return build


def _adapted(name: str, builder: Builder) -> Builder:
    """A builder as ``register`` wants it: it is given what it names, and its own arguments are keywords."""
    try:
        takes = inspect.signature(builder).parameters
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name} does not say what it takes: {error}") from error
    anything = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in takes.values())
    if "num_classes" not in takes and not anything:
        raise ConfigError(
            f"{name} takes {', '.join(takes) or 'nothing'}; expected a builder that takes num_classes, and in_channels "
            "and image_size if it needs them"
        )
    passed = _COMMON if "num_classes" not in takes else [key for key in _COMMON if key in takes]

    def build(num_classes: int, in_channels: int, **given: Any) -> nn.Module:
        given = {"num_classes": num_classes, "in_channels": in_channels, **given}
        given = {key: value for key, value in given.items() if key in passed or key not in _COMMON}
        with _told(f"{name} cannot be built"):
            network: object = builder(**given)
        if not isinstance(network, nn.Module):
            raise ConfigError(f"{name} gives a {type(network).__name__}; expected an nn.Module")
        return network

    build.__signature__ = _signature(takes)  # type: ignore[attr-defined]
    return build


def _signature(takes: Mapping[str, inspect.Parameter]) -> inspect.Signature:
    kinds, defaults = inspect.Parameter, {}
    for key, otherwise in _COMMON.items():
        default = takes[key].default if key in takes else otherwise
        defaults[key] = default if isinstance(default, int) else otherwise
    common = [
        kinds(key, kinds.KEYWORD_ONLY if key == "image_size" else kinds.POSITIONAL_OR_KEYWORD, default=default)
        for key, default in defaults.items()
    ]
    own = [
        each.replace(kind=kinds.KEYWORD_ONLY) if each.kind is kinds.POSITIONAL_OR_KEYWORD else each
        for key, each in takes.items()
        if key not in _COMMON and each.kind not in (kinds.POSITIONAL_ONLY, kinds.VAR_POSITIONAL)
    ]
    return inspect.Signature([*common, *own])


def _address(builder: Builder) -> str:
    """Where a builder is defined; of one that does not say, such as a ``functools.partial``, only what it is."""
    name = getattr(builder, "__qualname__", None)
    return f"{builder.__module__}:{name}" if name else f"{type(builder).__name__}()"


def _resolved(address: str) -> Any:
    """What lies at an address in a module that is imported already."""
    module, _, attribute = address.partition(":")
    found: Any = sys.modules.get(module)
    for part in attribute.split("."):
        found = getattr(found, part, None)
    return found


@contextmanager
def _told(failure: str) -> Iterator[None]:
    """Around a user's own code: what it raises is told with the place."""
    try:
        yield
    except SimrootError:
        raise
    except Exception as error:
        raise ConfigError(f"{failure}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """An error in a line, with the last place in code that is neither PyTorch's nor simroot's."""
    if isinstance(error, SimrootError):
        return str(error)
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    own = [(file, line) for file, line in places if not file.startswith(("<", *_OTHERS))]
    where = f" ({Path(own[-1][0]).name}, line {own[-1][1]})" if own else ""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0] or 'no reason given'}{where}"


SOURCES[INSTALLED] = _installed
