"""What the config.yaml of a run may say: the one place that names its keys. A new key is a line here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypedDict, get_type_hints

from simroot._version import __version__
from simroot.data import load
from simroot.errors import CheckpointError, ConfigError, DataError, SimrootError, quoted
from simroot.images.preparation import Preparation
from simroot.training.recipes import Recipe
from simroot.untrusted.documents import read_yaml, with_numbers
from simroot.untrusted.schema import Count, Positive, Range, UnknownNameError, require

# The arguments of ``simroot.data.load``; those of later versions come by themselves.
_ARGUMENTS = {name: hint for name, hint in get_type_hints(load, include_extras=True).items() if name != "return"}
SOURCE: Any = TypedDict("SOURCE", _ARGUMENTS, total=False)  # type: ignore[misc]


class _Model(TypedDict):
    name: str
    overrides: dict[str, Any]


class Model(_Model, total=False):
    """The network: its name in the registry, the arguments of its builder, the weights that it started from."""

    initial: str | None


_Side = Annotated[int, Range(1, 2**14)]


class _Data(TypedDict):
    classes: list[str]
    image_size: _Side | list[_Side]
    channels: Annotated[int, Range(1, 2**10)]
    mean: list[Annotated[float, Range(-1e6, 1e6)]]
    std: list[Annotated[float, Range(1e-9, 1e6)]]
    train: Positive
    val: Positive


class Data(_Data, total=False):
    """The images: the arguments that load them, and what they were when the training started."""

    name: str
    source: SOURCE | None
    skipped: Count
    multi_label: bool
    fit: str
    pixel_range: str | list[float]
    background: list[int]


class TeacherPlace(TypedDict):
    """What the network learned from beside the labels: a run, a file or a library's network, and its weights."""

    source: str
    weights: str | None


class _Config(TypedDict):
    model: Model
    data: Data
    recipe: dict[str, Any]


class Config(_Config, total=False):
    """A whole config.yaml; ``versions`` record what happened; runs of before hold ``cost``.

    ``integers`` is true of a network that is trained as what it becomes in integers.
    """

    cost: dict[str, Count | None] | None
    teacher: TeacherPlace | None
    integers: bool
    versions: dict[str, Any]


def read_whole(file: Path) -> dict[str, Any]:
    """Read and check the config.yaml of a run.

    Raises:
        CheckpointError: if it is damaged, or says what this version does not know.
        OSError: if it cannot be read.
    """
    config: Any = {}
    try:
        config = read_yaml(file)
        require(config, Config, "")
        # A run of before it could be chosen was trained without kernels, and goes on so.
        config["recipe"] = {"accelerate": False, **with_numbers(config["recipe"])}
        config["model"]["overrides"] = with_numbers(config["model"]["overrides"])
        Recipe.from_dict(config["recipe"])
        data = config["data"]
        # A run of before they could be chosen has no fit, pixel range and background.
        config["data"] = {**data, **Preparation.from_dict(data).to_dict()}
        if not len(data["mean"]) == len(data["std"]) == data["channels"]:
            raise ConfigError(f"data.mean and data.std have no value for each of {data['channels']} channels")
    except UnknownNameError as error:
        raise CheckpointError(by_newer(file, config, error)) from error
    except (ConfigError, DataError) as error:
        if is_newer(config):
            raise CheckpointError(by_newer(file, config, error)) from error
        raise CheckpointError(f"{file} is damaged: {error}") from error
    return {"versions": {}, **config}


def by_newer(file: Path, config: Any, error: SimrootError) -> str:
    """What to say of a file that has names which this version does not know."""
    version = f", {quoted(_version(config))}" if is_newer(config) else ""
    return f"{file} was written by a newer version of simroot{version} (this is {__version__}): {error}; update simroot"


def _version(config: Any) -> Any:
    versions = config.get("versions") if isinstance(config, dict) else None
    return versions.get("simroot") if isinstance(versions, Mapping) else None


def is_newer(config: Any) -> bool:
    """Whether a file says that it was written by a later version than this one."""
    return _numbers(_version(config)) > _numbers(__version__)


def _numbers(version: Any) -> tuple[int, ...]:
    found = re.match(r"\d{1,9}(\.\d{1,9})*", version) if isinstance(version, str) else None
    return tuple(map(int, found[0].split("."))) if found else ()
