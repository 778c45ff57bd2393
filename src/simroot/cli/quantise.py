"""``simroot quantise``: a trained network in, one that loses less in integers out."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from simroot.cli.datasource import add_data_arguments, data_source, logging_to_stderr
from simroot.cli.output import percent, print_facts
from simroot.cli.values import positive, positive_number

if TYPE_CHECKING:
    from simroot.training import Run

_OPTIONS = ("epochs", "learning_rate", "workers", "accelerator")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    from simroot.training.recipes import INTEGER_EPOCHS

    parser.argument_default = argparse.SUPPRESS
    parser.add_argument("path", metavar="RUN", type=Path, help="a run directory, whose best weights are taken")
    parser.add_argument(
        "--epochs", type=positive, metavar="N", help=f"passes over the training images (default: {INTEGER_EPOCHS})"
    )
    parser.add_argument(
        "--learning-rate",
        type=positive_number,
        metavar="RATE",
        help="the first one, which falls to zero (default: a twentieth of the run's)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="new run directory (default: RUN-int8)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no log on the terminal")
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="threads inside an operation (default: one a core)"
    )
    parser.add_argument("--workers", type=positive, metavar="N", help="threads that decode images ahead")
    parser.add_argument("--accelerator", metavar="VALUE", help="of Lightning's Trainer (default: auto)")
    add_data_arguments(parser, default="the images of the run's training, where they were")


def run(arguments: argparse.Namespace) -> int:
    """Go on training, and print what the network does in integers and in float."""
    import torch

    from simroot.data import load
    from simroot.data.forms import moved
    from simroot.training import load_run, quantise
    from simroot.training.run import data_arguments, read_config, require_free

    given, path = vars(arguments), arguments.path
    if "threads" in given:
        torch.set_num_threads(given["threads"])
    config = read_config(path)
    out = given.get("out", path.with_name(f"{path.resolve().name}-int8"))
    require_free(out)  # before the images are read, which may take long
    data = source = None
    if given_data := data_source(arguments):
        with logging_to_stderr(quiet="quiet" in given):
            data = load(**moved(data_arguments(config) or {}, given_data))
        source = moved(config["data"].get("source") or {}, given_data)
    options = {name: given[name] for name in _OPTIONS if name in given}
    done = quantise(path, out, data=data, data_source=source, progress="quiet" not in given, **options)
    _report(load_run(path), done)
    return 0


def _report(before: Run, done: Run) -> None:
    from simroot.training.objective import headline

    where = shlex.quote(str(done.path))
    figure = headline(done.summary)
    facts = [(f"{figure.replace('_', ' ')} in integers", percent(done.summary["integers"][figure]))]
    facts.append(("in float32", percent(done.summary[figure])))
    if before.summary:
        facts.append(("in float32 before", percent(before.summary[figure])))
    facts += [("seconds", f"{done.summary['seconds']:.1f}"), ("run directory", str(done.path))]
    print_facts(f"{done.model_name} on {done.config['data']['name']}", facts)
    print(f"\nNext:\n  simroot export {where} --format c --int8")
