"""``simroot cost``: what a network costs, layer by layer."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simroot.cli.output import count_text, print_json, print_table, size_text
from simroot.cli.values import add_model_overrides, image_shape, positive
from simroot.errors import ConfigError

if TYPE_CHECKING:
    from simroot.measure import Cost


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", metavar="MODEL|RUN", help="name of a network ('simroot models') or a run directory")
    parser.add_argument(
        "--input-size", type=image_shape, metavar="C,H,W", help="shape of one image (default: the network's own)"
    )
    parser.add_argument(
        "--num-classes", type=positive, metavar="N", help="number of classes (default: the network's own)"
    )
    add_model_overrides(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Count the deployed network: normalisations folded away, as it would be used."""
    from simroot.models import list_models

    is_run = arguments.model not in list_models() and Path(arguments.model).is_dir()
    title, cost = _run_cost(arguments) if is_run else _model_cost(arguments)
    if arguments.json:
        print_json({"network": title, **dataclasses.asdict(cost)})
        return 0
    columns = ["layer", "kind", "output", "params", "MACs", "FLOPs"]
    rows = [
        (
            layer.name,
            layer.kind,
            size_text(layer.output_shape),
            count_text(layer.parameters),
            count_text(layer.macs),
            count_text(layer.flops),
        )
        for layer in cost.layers
        if layer.kind != "Identity"  # what folding leaves behind
    ]
    total = ("total", "", "", count_text(cost.parameters), count_text(cost.macs), count_text(cost.flops))
    print_table(title, columns, rows, numbers=columns[2:], total=total)
    return 0


def _run_cost(arguments: argparse.Namespace) -> tuple[str, Cost]:
    from simroot.measure import count
    from simroot.models import deploy
    from simroot.training import load_run

    if arguments.input_size or arguments.num_classes or arguments.set:
        raise ConfigError("--input-size, --num-classes and --set go with the name of a network, not with a run")
    run = load_run(Path(arguments.model))
    return arguments.model, count(deploy(run.model), (run.channels, run.image_size, run.image_size))


def _model_cost(arguments: argparse.Namespace) -> tuple[str, Cost]:
    from simroot.models import model_entry

    entry = model_entry(arguments.model)
    channels, height, width = arguments.input_size or entry.input_size
    if height != width:
        raise ConfigError(f"--input-size is {size_text((channels, height, width))}; the networks take square images")
    num_classes = arguments.num_classes or entry.num_classes
    overrides = {"image_size": height, **dict(arguments.set or [])}
    title = f"{entry.name}, {size_text((channels, height, width))} to {num_classes} classes"
    return title, deployed_cost(entry.name, num_classes, channels, overrides)


def deployed_cost(name: str, num_classes: int, in_channels: int, overrides: Mapping[str, Any]) -> Cost:
    """Count a registered network as it would be used: normalisations folded away, one image of its ``image_size``."""
    from simroot.measure import count
    from simroot.models import create_model, deploy, model_entry

    size = overrides.get("image_size", model_entry(name).image_size)
    return count(deploy(create_model(name, num_classes, in_channels, **overrides)), (in_channels, size, size))
