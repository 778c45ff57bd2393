"""What a config.yaml says about a training: the same four parts that the command line can set."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from simroot.data import load
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
    return Settings(
        model=model.get("name"),
        overrides=_mapping(model.get("overrides"), f"{path}: model.overrides"),
        source=_mapping(data.get("source"), f"{path}: data.source", tuple(inspect.signature(load).parameters)),
        recipe=_mapping(content.get("recipe"), f"{path}: recipe"),
        initial=model.get("initial"),
    )


def _mapping(value: Any, where: str, known: tuple[str, ...] | None = None) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{where} is {value!r}; expected names and values")
    if known is not None and (unknown := [str(key) for key in value if key not in known]):
        raise ConfigError(f"{where} has no {', '.join(unknown)}; known are {', '.join(known)}")
    return value
