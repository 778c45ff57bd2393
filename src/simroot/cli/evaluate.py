"""``simroot evaluate``: how a trained network does on labelled images."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simroot.cli.datasource import add_data_arguments, data_source, logging_to_stderr
from simroot.cli.output import count_text, percent, print_facts, print_json, print_table
from simroot.engines import is_network_file
from simroot.errors import ConfigError

if TYPE_CHECKING:
    from simroot.export import Predictor
    from simroot.export.evaluation import Batch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.argument_default = argparse.SUPPRESS
    parser.add_argument("path", metavar="RUN|FILE", type=Path, help="a run directory, or an exported file of one")
    add_data_arguments(parser, default="the validation images of the training; with it, the data's test images")
    parser.add_argument("--json", action="store_true", default=False, help="print JSON instead of tables")


def run(arguments: argparse.Namespace) -> int:
    """Print accuracy and loss, and how every class does."""
    is_file = is_network_file(arguments.path)
    with logging_to_stderr():
        title, data, left_out, found = (_file if is_file else _run)(arguments)
    if arguments.json:
        print_json(
            {
                "file" if is_file else "run": str(arguments.path),
                "data": data,
                "images": found.count,
                "left_out": left_out,
                **found.as_dict(),
            }
        )
        return 0
    facts = [(name, percent(share)) for name, share in found.shares().items()]
    facts += [("loss", f"{found.loss:.4f}"), ("images", count_text(found.count))]
    print_facts(f"{title} on {data}", facts)
    print()
    rows = [
        (label, count_text(own["images"]), *(percent(own[name]) for name in found.columns))
        for label, own in found.by_class().items()
    ]
    numbers = ["images", *found.columns.values()]
    print_table("By class", ["class", *numbers], rows, numbers=numbers)
    return 0


def _run(arguments: argparse.Namespace) -> tuple[str, str, int | None, Any]:
    """The names of a run's network and of the images, how many it was trained on, and how it does on the others."""
    from simroot.training import chosen_images, evaluate, load_run

    trained = load_run(arguments.path)
    chosen = chosen_images(trained, data_source(arguments))
    return trained.model_name, chosen.title, chosen.left_out, evaluate(trained, chosen.split)


def _file(arguments: argparse.Namespace) -> tuple[str, str, None, Any]:
    """Likewise of an exported file, which knows no images; without PyTorch, unless they are those of a named set."""
    from simroot.data.columns import Columns
    from simroot.data.folders import labelled_test
    from simroot.export import Predictor, evaluate_file
    from simroot.export.evaluation import read_batches

    source, title = data_source(arguments), str(arguments.path)
    if "name_or_path" not in source:
        raise ConfigError(f"{title} does not say where its images came from; name some with --data")
    predictor, images = Predictor(arguments.path), source["name_or_path"]
    if isinstance(images, str):
        Columns.of(source).require_none(f"{images} is a named set")
        return title, f"{images}, test images", None, evaluate_file(predictor, _named(predictor, source))
    columns = Columns.of({**source, "multi_label": predictor.description.thresholds is not None})
    _, part = labelled_test(images, predictor.classes, columns)
    found = evaluate_file(predictor, read_batches(predictor, part.files, part.labels))
    return title, f"{images}, images of {part.where} (a file does not know which it was trained on)", None, found


def _named(predictor: Predictor, source: Mapping[str, Any]) -> Iterator[Batch]:
    """The test images of a named set, whose files PyTorch's packages know."""
    import torch

    from simroot.data import load_test

    channels, height, width = predictor.description.input_size
    split = load_test(**source, classes=predictor.classes, image_size=(height, width), channels=channels)
    for indices in torch.arange(len(split)).split(256):
        yield split.read(indices).numpy(), split.labels[indices].numpy()
