"""What a config.yaml says about a training: the same four parts that the command line can set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from simroot.cli.datasource import data_path
from simroot.cli.values import NO_OVERRIDES
from simroot.data import NAMES
from simroot.errors import ConfigError
from simroot.training.config import SOURCE, TeacherPlace, by_newer, is_newer
from simroot.training.recipes import require_fields
from simroot.untrusted.documents import read_yaml, with_numbers
from simroot.untrusted.schema import require


class _Model(TypedDict, total=False):
    name: str | None
    overrides: dict[str, Any] | None
    initial: str | None


class _File(TypedDict, total=False):
    """The sections of a run's config.yaml; the last two record what happened and are not read."""

    model: _Model | None
    data: dict[str, Any] | None  # what the images were is not asked of a training that begins
    recipe: dict[str, Any] | None
    teacher: TeacherPlace | None
    integers: bool
    cost: Any
    versions: Any


@dataclass(frozen=True)
class Settings:
    """The parts of a training that a file sets; what it leaves out is empty.

    Attributes:
        model: name of the network.
        overrides: its ``create_model`` overrides.
        source: arguments of ``simroot.data.load``.
        recipe: fields of the recipe.
        initial: the safetensors that the network's weights start from.
        teacher: where the teacher and its weights are; empty without one.
    """

    model: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    initial: str | None = None
    teacher: Mapping[str, str | None] = field(default_factory=dict)


def read_settings(path: Path) -> Settings:
    """Read a run's config.yaml, or a file with some of its sections.

    Raises:
        ConfigError: if the file is not such YAML.
        OSError: if it cannot be read.
    """
    content = read_yaml(path) or {}
    try:
        require(content, _File, "")
        settings = _settings(content)
    except ConfigError as error:
        newer = by_newer(path, content, error) if is_newer(content) else f"{path}: {error}"
        raise ConfigError(newer) from error
    return settings


def _settings(content: Mapping[str, Any]) -> Settings:
    if content.get("integers"):
        raise ConfigError("integers is true: it is of a network trained in integers; make it again with quantise")
    model, data = content.get("model") or {}, content.get("data") or {}
    overrides = with_numbers(model.get("overrides") or {})
    if taken := NO_OVERRIDES.keys() & overrides.keys():
        raise ConfigError(f"model.overrides has {min(taken)}, which comes from the images; leave it out")
    require(data.get("source"), SOURCE | None, "data.source")
    source = dict(data.get("source") or {})
    if source.get("name_or_path") not in (None, *NAMES):
        source["name_or_path"] = data_path(source["name_or_path"])
    recipe = with_numbers(content.get("recipe") or {})
    require_fields(recipe)
    return Settings(model.get("name"), overrides, source, recipe, model.get("initial"), content.get("teacher") or {})
