"""``simroot evaluate``: how a trained network does on labelled images."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simroot.cli.datasource import add_data_arguments, data_source, logging_to_stderr
from simroot.cli.output import count_text, percent, print_facts, print_json, print_table
from simroot.errors import ConfigError

if TYPE_CHECKING:
    from simroot.data import Split
    from simroot.training import Run

# Among so few classes, chance alone puts the true one among the five highest scores every other time.
_FEW_CLASSES = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.argument_default = argparse.SUPPRESS
    parser.add_argument("path", metavar="RUN", type=Path, help="a run directory")
    add_data_arguments(parser, default="the validation images of the training; with it, the data's test images")
    parser.add_argument("--json", action="store_true", default=False, help="print JSON instead of tables")


def run(arguments: argparse.Namespace) -> int:
    """Print accuracy and loss, and the accuracy of every class."""
    from simroot.training import evaluate, load_run

    with logging_to_stderr():
        trained = load_run(arguments.path)
        name, split = chosen_images(data_source(arguments), trained)
        found = evaluate(trained, split)
    if arguments.json:
        print_json(
            {
                "run": str(trained.path),
                "data": name,
                "images": found.count,
                "accuracy": found.accuracy,
                "top5": found.top5,
                "loss": found.loss,
                "per_class": {label: None if share != share else share for label, share in found.per_class.items()},
                "confusion": found.confusion.tolist(),
            }
        )
        return 0
    facts = [("accuracy", percent(found.accuracy))]
    if len(found.per_class) > _FEW_CLASSES:
        facts.append(("among the five highest scores", percent(found.top5)))
    facts += [("loss", f"{found.loss:.4f}"), ("images", count_text(found.count))]
    print_facts(f"{trained.model_name} on {name}", facts)
    print()
    images = found.confusion.sum(1).tolist()
    rows = [
        (label, count_text(number), percent(share))
        for (label, share), number in zip(found.per_class.items(), images, strict=True)
    ]
    print_table("By class", ["class", "images", "accuracy"], rows, numbers=["images", "accuracy"])
    return 0


def chosen_images(given: Mapping[str, Any], trained: Run) -> tuple[str, Split]:
    """What to call the images and the images themselves, prepared for a trained network.

    Args:
        given: of ``data_source``: the test images of this data; without data, the validation images of the training.
        trained: the network's run.

    Raises:
        ConfigError: if no data is given and the run does not say where its images came from.
        DataError: if there are no such images, or the validation images are no longer those of the training.
    """
    from simroot.data import load, load_test
    from simroot.training.run import check_same_data, data_arguments

    if "name_or_path" in given:
        split = load_test(**given, classes=trained.classes, **trained.preparation.to_dict())
        return f"{given['name_or_path']}, test images", split
    source = data_arguments(trained.config)
    if source is None:
        raise ConfigError(f"{trained.path} does not say where its images came from; name some with --data")
    data = load(**{**source, **given})
    check_same_data(trained.config, data, trained.path)
    return f"{data.name}, validation images", data.val
