"""The registry of networks: every name with its builder, its declared size and the recipe that trains it well."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from torch import nn

from simroot import installed
from simroot.errors import ConfigError, SimrootError, is_whole, nearest, quoted
from simroot.images.preparation import ImageSize, as_image_size, sides
from simroot.models.building import require_positive
from simroot.models.memory import require_memory
from simroot.roots.regroup import rootify
from simroot.roots.schedules import Topology, root_schedule

log = logging.getLogger(__name__)

Builder = TypeVar("Builder", bound=Callable[..., nn.Module])


@dataclass(frozen=True)
class ModelEntry:
    """One registered network.

    ``image_size``, ``in_channels`` and ``num_classes`` are the defaults of ``build``; ``parameters`` and ``macs`` are
    the size declared for exactly these defaults (None: not declared), as ``simroot.measure.count`` computes them for
    the deployed network. ``recipe`` holds the fields in which the network's recipe differs from the default one.
    """

    name: str
    build: Callable[..., nn.Module]
    summary: str
    image_size: int
    in_channels: int = 3
    num_classes: int = 10
    parameters: int | None = None
    macs: int | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of one example at the entry's defaults."""
        return (self.in_channels, self.image_size, self.image_size)

    @property
    def overrides(self) -> dict[str, Any]:
        """Names and defaults of the keyword arguments that ``create_model`` passes on to the builder."""
        parameters = inspect.signature(self.build).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}

    def arguments(
        self,
        overrides: Mapping[str, Any],
        *,
        num_classes: int | None = None,
        in_channels: int | None = None,
        image_size: ImageSize | None = None,
    ) -> tuple[dict[str, Any], tuple[int, int, int]]:
        """All arguments of ``create_model``, the entry's own where none is given, and the shape (C, H, W) of an image.

        Args:
            overrides: the builder's keyword arguments; an ``image_size`` among them counts more than that below.
            num_classes: number of classes.
            in_channels: channels of the images.
            image_size: their side or (height, width).
        """
        given = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
        own: dict[str, Any] = {key: getattr(self, key) for key, value in given.items() if value is None}
        found = {**given, **own, **overrides}
        return found, (found["in_channels"], *sides(as_image_size(found["image_size"])))

    @property
    def open(self) -> bool:
        """Whether the builder takes other keyword arguments, too: another library's, which it checks itself."""
        return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in inspect.signature(self.build).parameters.values())


# From this number of channels, classes or anything on, a network may not fit into memory.
_MANY = 2000
# What builders raise when they are given values of other types and sizes than they expect.
_UNBUILDABLE = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)

_ENTRIES: dict[str, ModelEntry] = {}

# For names that the registry does not hold: the whole name, what stands before the colon, or the suffix of a file ->
# name -> entry. Names of installed packages have one source together.
SOURCES: dict[str, Callable[[str], ModelEntry]] = {}
INSTALLED = "an installed package"

# Arguments that every network takes: layer -> filter groups, as ``rootify`` takes them, and whether to start from the
# weights that come with simroot.
ROOTIFIED = "rootified"
PRETRAINED = "pretrained"
FEATURES = "features_only"


def register(
    name: str | None = None,
    *,
    parameters: int | None = None,
    macs: int | None = None,
    recipe: Mapping[str, Any] | None = None,
) -> Callable[[Builder], Builder]:
    """Register a builder ``build(num_classes=…, in_channels=…, *, image_size=…, **named overrides) -> nn.Module``.

    In all builders ``num_classes`` is the number of classes, ``in_channels`` the channels of the images, ``image_size``
    their side or (height, width), and ``drawn_for``, where there is one, the image size whose stem and number of stages
    the network has (``simroot.models.image_sizes.plan``), that of the images if None. A builder's docstring tells its
    other overrides.

    Args:
        name: name of the network; the function's own name if None.
        parameters: number of parameters at the builder's defaults.
        macs: multiply-accumulates for one example at the builder's defaults.
        recipe: fields in which the recipe that trains the network well differs from the default recipe.

    A builder that is defined again, as in a notebook or after ``importlib.reload``, takes the place of the one before,
    which is logged.

    Raises:
        ValueError: if the name is taken by another builder, or the builder lacks a docstring or one of the three named
            defaults.
    """

    def decorate(build: Builder) -> Builder:
        key = name or build.__name__
        if key in _ENTRIES:
            before = _ENTRIES[key].build
            if not _same_place(before, build):
                raise ValueError(
                    f"a model named {key!r} is registered already, by {before.__module__}; choose another name"
                )
            log.warning("the model %s is registered again: the new builder takes the place of the one before", key)
        summary = (inspect.getdoc(build) or "").partition("\n")[0]
        signature = inspect.signature(build).parameters
        missing = [
            argument
            for argument in ("num_classes", "in_channels", "image_size")
            if argument not in signature or not isinstance(signature[argument].default, int)
        ]
        if missing or not summary:
            raise ValueError(
                f"the builder of {key!r} needs a docstring and integer defaults for num_classes, in_channels and "
                f"image_size; missing: {', '.join(missing) or 'the docstring'}"
            )
        _ENTRIES[key] = ModelEntry(
            name=key,
            build=build,
            summary=summary,
            image_size=signature["image_size"].default,
            in_channels=signature["in_channels"].default,
            num_classes=signature["num_classes"].default,
            parameters=parameters,
            macs=macs,
            recipe=MappingProxyType(dict(recipe or {})),
        )
        return build

    return decorate


def registered(name: str) -> ModelEntry | None:
    """The entry of a registered network; None if the name is of none."""
    return _ENTRIES.get(name)


def add(entry: ModelEntry) -> None:
    """Make an entry known that ``register`` has no builder for."""
    _ENTRIES[entry.name] = entry


def _same_place(before: Callable[..., Any], now: Callable[..., Any]) -> bool:
    """Whether a builder was written where another is: both by hand, or the same function of one module."""
    if before.__module__ != now.__module__:
        return False
    return now.__module__ == "__main__" or before.__qualname__ == now.__qualname__


def list_models(pattern: str = "*") -> list[str]:
    """Sorted names of the registered networks that match a shell pattern, as in ``list_models("simnet*")``.

    Those of installed packages are among them, entry points of the group ``simroot.models``.
    """
    return sorted(name for name in {*_ENTRIES, *installed.networks()} if fnmatchcase(name, pattern))


def model_entry(name: str) -> ModelEntry:
    """The registry's entry of a network.

    Raises:
        ConfigError: if no network has this name; the message lists the nearest names.
    """
    if name in _ENTRIES:
        return _ENTRIES[name]
    if (make := _source(name)) is not None:
        return make(name)
    if name.endswith(("()", ">")) or name.startswith("__main__:"):
        raise ConfigError(
            f"the network {quoted(name)} was handed over in Python, and no name imports it; hand it over again, as in "
            "simroot.training.load_run(path, model=...)"
        )
    if ":" in name:
        shown = quoted(name)
        raise ConfigError(
            f"{shown} is no name of simroot's, torchvision's or timm's but code from elsewhere, which is imported only "
            f"if you say so: --trust {shown[1:-1]}, or in Python load_run(path, model={shown})"
        )
    raise ConfigError(f"unknown model {quoted(name)}; {nearest(name, list_models())}")


def of_library(name: str) -> bool:
    """Whether a word names a network that is not simroot's, such as ``torchvision:resnet18``."""
    return ":" in name and _source(name) is not None


def names_network(name: str) -> bool:
    """Whether a word names a network: a registered one, another library's, or a file of ``simroot rootify``."""
    return name in _ENTRIES or _source(name) is not None


def name_and_overrides(words: str) -> tuple[str, list[str]]:
    """The name and the overrides of a word such as ``simnet2:order=1`` or ``torchvision:resnet18:width=2``."""
    first, *others = words.split(":")
    if others and first not in _ENTRIES and "=" not in others[0]:
        first, others = f"{first}:{others[0]}", others[1:]
    return first, others


def _source(name: str) -> Callable[[str], ModelEntry] | None:
    if name in SOURCES:
        return SOURCES[name]
    before, colon, _ = name.partition(":")
    key = before if colon else INSTALLED if name in installed.networks() else Path(name).suffix
    return SOURCES.get(key)


def create_model(name: str | ModelEntry, num_classes: int = 10, in_channels: int = 3, **overrides: Any) -> nn.Module:
    """Build a registered network with freshly drawn weights (from torch's global generator).

    Args:
        name: a name of ``list_models()``, ``torchvision:NAME``, ``timm:NAME``, or a file of ``simroot rootify``; also
            ``package.module:builder`` after ``simroot.models.use``; or an entry.
        num_classes: number of outputs, the class scores; 0 for the features that they are computed from, (N, c): a
            ``simroot.models.features.Pooled``.
        in_channels: channels of the input images.
        **overrides: the builder's own keyword arguments, such as ``image_size``; see ``model_entry(name).overrides``.
            Every network takes ``rootified``: layer -> filter groups, as ``simroot.roots.rootify`` takes them. With
            ``pretrained=True`` and a name of ``list_pretrained()`` the network has those weights, is in evaluation
            mode, and its attribute ``pretrained`` says what they are (``simroot.models.pretrained``). With
            ``features_only=True`` it gives a list of feature maps, the last one before each reduction of the grid; its
            ``feature_info`` has their channels and reductions (``simroot.models.features.Features``).

    Raises:
        ConfigError: for an unknown name or override, or a value that the network cannot be built with; for a network
            without weights, those that have some are named.
    """
    given, name = name, name.name if isinstance(name, ModelEntry) else name
    maps = overrides.pop(FEATURES, False)
    _require_truth_or_number(f"{FEATURES} of {name}", maps, False)
    if maps or (is_whole(num_classes, 0) and num_classes == 0):
        from simroot.models.features import backbone  # which builds its networks here

        return backbone(given, in_channels, overrides, maps=maps)
    wanted = overrides.pop(PRETRAINED, False)
    _require_truth_or_number(f"{PRETRAINED} of {name}", wanted, False)
    if wanted:
        from simroot.models.pretrained import load_pretrained  # which builds its networks here

        return load_pretrained(name, num_classes, in_channels, overrides)
    entry = given if isinstance(given, ModelEntry) else model_entry(name)
    require_positive(name, num_classes=num_classes, in_channels=in_channels)
    groups = overrides.pop(ROOTIFIED, None)
    known = entry.overrides
    for override, value in overrides.items():
        if override in known:
            _require_truth_or_number(f"{override} of {name}", value, known[override])
        elif not entry.open:
            raise ConfigError(f"{name} has no override {quoted(override)}; {nearest(override, sorted(known))}")
    model = _built(entry, num_classes, in_channels, overrides)
    if groups is None:
        return model
    size = sides(overrides.get("image_size", entry.image_size))
    return rootify(model, groups, example_input=torch.zeros(1, in_channels, *size))


def _built(entry: ModelEntry, num_classes: int, in_channels: int, overrides: Mapping[str, Any]) -> nn.Module:
    name, build = entry.name, functools.partial(entry.build, num_classes, in_channels, **overrides)
    try:
        if any(number >= _MANY for number in _numbers([num_classes, in_channels, overrides])):
            size = sides(overrides.get("image_size", entry.image_size))
            require_memory(name, build, (in_channels, *size))
        return build()
    except SimrootError:
        raise
    except ImportError as error:
        raise ConfigError(f"{name} needs a library that is not installed: {error}; install it with pip") from error
    except _UNBUILDABLE as error:
        given = ", ".join(f"{override}={quoted(value)}" for override, value in overrides.items())
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ConfigError(f"{name} cannot be built with {given or 'its defaults'}: {reason}") from error


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _numbers(item)


def _require_truth_or_number(what: str, value: object, default: object) -> None:
    """Refuse a word or number for True or False, which would be as good as True, and True or False for a number."""
    if isinstance(default, bool) and not isinstance(value, bool):
        raise ConfigError(f"{what} is {quoted(value)}; expected True or False")
    if isinstance(value, bool) and isinstance(default, int | float) and not isinstance(default, bool):
        raise ConfigError(f"{what} is {quoted(value)}; expected a number")


Sizes = Mapping[int, tuple[int, int]]


def register_variant(
    name: str,
    build: Callable[..., nn.Module],
    size: tuple[int, int],
    summary: str,
    recipe: Mapping[str, Any] | None = None,
    **overrides: Any,
) -> None:
    """Register ``build`` under another name with some of its keyword arguments preset.

    Args:
        name: the variant's name.
        build: a registered builder.
        size: parameters and multiply-accumulates of the variant.
        summary: one line that says what it is.
        recipe: fields in which its recipe differs from the default one.
        **overrides: the preset arguments, which become the variant's defaults.
    """
    variant = functools.partial(build, **overrides)
    variant.__doc__ = summary
    register(name, parameters=size[0], macs=size[1], recipe=recipe)(variant)


def register_roots(
    base: str, build: Callable[..., nn.Module], sizes: Sizes, stages: int, where: str, topology: Topology = "root"
) -> None:
    """Register ``{base}_{topology}{degree}`` for every degree, with the groups of ``root_schedule``.

    Args:
        base: name of the network without groups.
        build: its builder, which takes ``groups``, one number a stage.
        sizes: degree -> parameters and multiply-accumulates.
        stages: number of stages.
        where: the section or tables of Deep Roots.
        topology: how the number of groups changes with depth.
    """
    for degree, size in sizes.items():
        groups = root_schedule(degree, stages, topology)
        summary = f"{base} with {', '.join(map(str, groups))} filter groups by stage (Deep Roots, {where})."
        register_variant(f"{base}_{topology}{degree}", build, size, summary, groups=groups)
