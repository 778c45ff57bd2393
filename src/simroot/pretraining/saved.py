"""A pre-trained network in a directory: what training starts from, and what people look at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from safetensors import SafetensorError
from safetensors.torch import save_model
from torch import nn

from simroot.errors import CheckpointError, ConfigError
from simroot.files import appearing
from simroot.pretraining.plots import pictures
from simroot.pretraining.report import Report
from simroot.untrusted.documents import read_yaml, with_numbers, write_yaml
from simroot.untrusted.schema import require

CONFIG, WEIGHTS, REPORT = "config.yaml", "model.safetensors", "report.json"


class Model(TypedDict):
    """What config.yaml says of the network."""

    name: str
    overrides: dict[str, Any]


class Start(NamedTuple):
    """Where a training starts: a network's name and overrides, and the file of its weights."""

    model: str
    overrides: Mapping[str, Any]
    weights: Path


def save(
    path: Path, name: str, overrides: Mapping[str, Any], model: nn.Module, report: Report, facts: Mapping[str, Any]
) -> Start:
    """Write a directory with config.yaml, model.safetensors, report.json and the pictures, whole or not at all.

    Args:
        path: the directory to make.
        name: of the network in the registry.
        overrides: arguments of its builder.
        model: the network.
        report: of ``initialise`` or ``build``.
        facts: what else config.yaml says, such as data and options; plain values.

    Raises:
        ConfigError: if the directory is in use.
        SimrootError: if it cannot be written.
    """
    require_unused(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with appearing(path) as temporary:
        temporary.mkdir()
        config = {"model": {"name": name, "overrides": dict(overrides)}, **facts}
        (temporary / CONFIG).write_text(write_yaml(config), encoding="utf-8")
        (temporary / REPORT).write_text(json.dumps(report.as_dict(), indent=1) + "\n", encoding="utf-8")
        try:
            save_model(model, str(temporary / WEIGHTS))
        except SafetensorError as error:
            raise OSError(str(error)) from error
        for title, figure in pictures(report).items():
            figure.savefig(temporary / f"{title}.png")
    return Start(name, overrides, path / WEIGHTS)


def require_unused(path: Path) -> None:
    """Refuse a path that is taken; an empty directory is free.

    Raises:
        ConfigError: naming the path.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConfigError(f"{path} is in use; choose another directory for the pre-trained network")


def read_start(path: Path) -> Start:
    """What a directory of ``save`` holds.

    Raises:
        CheckpointError: if it is none, or damaged.
    """
    file = path / CONFIG
    if not file.is_file() or not (path / WEIGHTS).is_file():
        raise CheckpointError(f"{path} holds no pre-trained network; expected a directory made by simroot pretrain")
    try:
        config = read_yaml(file)
        require(config, dict, "")
        require(config.get("model"), Model, "model")
    except ConfigError as error:
        raise CheckpointError(f"{file} is damaged: {error}") from error
    return Start(config["model"]["name"], with_numbers(config["model"]["overrides"]), path / WEIGHTS)
