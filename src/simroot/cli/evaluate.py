"""``simroot evaluate``: how a trained network does on labelled images."""

from __future__ import annotations

import argparse
from pathlib import Path

from simroot.cli.datasource import add_data_arguments, data_source, logging_to_stderr
from simroot.cli.output import count_text, percent, print_facts, print_json, print_table

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
    from simroot.training import chosen_images, evaluate, load_run

    with logging_to_stderr():
        trained = load_run(arguments.path)
        chosen = chosen_images(trained, data_source(arguments))
        found = evaluate(trained, chosen.split)
    if arguments.json:
        print_json(
            {
                "run": str(trained.path),
                "data": chosen.title,
                "images": found.count,
                "left_out": chosen.left_out,
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
    print_facts(f"{trained.model_name} on {chosen.title}", facts)
    print()
    images = found.confusion.sum(1).tolist()
    rows = [
        (label, count_text(number), percent(share))
        for (label, share), number in zip(found.per_class.items(), images, strict=True)
    ]
    print_table("By class", ["class", "images", "accuracy"], rows, numbers=["images", "accuracy"])
    return 0
