"""What a config.yaml says about a training: the same four parts that the command line can set."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from simroot.cli.datasource import data_path
from simroot.cli.values import NO_OVERRIDES
from simroot.data import NAMES, load
from simroot.errors import ConfigError

# The sections of a run's config.yaml; the last two record what happened and are not read.
_SECTIONS = ("model", "data", "recipe", "cost", "versions")


@dataclass(frozen=True)
class Settings:
    """The parts of a training that a file sets; what it leaves out is empty.

    Attributes:
        model: name of the network.
        overrides: its ``create_model`` overrides.
        source: arguments of ``simroot.data.load``.
        recipe: fields of the recipe.
        initial: the safetensors that the network's weights start from.
    """

    model: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    initial: str | None = None


def read_settings(path: Path) -> Settings:
    """Read a run's config.yaml, or a file with some of its sections.

    Raises:
        ConfigError: if the file is not such YAML.
        OSError: if it cannot be read.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    content = _mapping(content, str(path), _SECTIONS)
    model = _mapping(content.get("model"), f"{path}: model", ("name", "overrides", "initial"))
    data = _mapping(content.get("data"), f"{path}: data")
    overrides = _mapping(model.get("overrides"), f"{path}: model.overrides")
    if taken := NO_OVERRIDES.keys() & overrides.keys():
        raise ConfigError(f"{path}: model.overrides has {min(taken)}, which comes from the images; leave it out")
    for name in ("name", "initial"):
        _check(model.get(name), str | None, f"{path}: model.{name}")
    return Settings(
        model=model.get("name"),
        overrides=overrides,
        source=_source(data.get("source"), f"{path}: data.source"),
        recipe=_mapping(content.get("recipe"), f"{path}: recipe"),
        initial=model.get("initial"),
    )


def _source(value: Any, where: str) -> dict[str, Any]:
    hints = get_type_hints(load)
    source = _mapping(value, where, tuple(inspect.signature(load).parameters))
    for name, given in source.items():
        _check(given, hints[name], f"{where}.{name}")
    if source.get("name_or_path") not in (None, *NAMES):
        source["name_or_path"] = data_path(source["name_or_path"])
    return source


def _check(value: Any, kind: Any, where: str) -> None:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        expected = getattr(kind, "__name__", str(kind)).replace(" | None", " or null")
        raise ConfigError(f"{where} is {value!r}; expected {expected}")


def _mapping(value: Any, where: str, known: tuple[str, ...] | None = None) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{where} is {value!r}; expected names and values")
    if wrong := [key for key in value if not isinstance(key, str)]:
        raise ConfigError(f"{where} has the name {wrong[0]!r}; expected words")
    if known is not None and (unknown := [str(key) for key in value if key not in known]):
        raise ConfigError(f"{where} has no {', '.join(unknown)}; known are {', '.join(known)}")
    return value
