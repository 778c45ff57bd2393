"""``simroot report``: one page about a run, which opens in any browser without a network."""

from __future__ import annotations

import argparse
from pathlib import Path

from simroot.cli.datasource import add_data_arguments, data_source, logging_to_stderr
from simroot.cli.output import require_folder
from simroot.cli.values import positive

_IMAGES = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.argument_default = argparse.SUPPRESS
    parser.add_argument("path", metavar="RUN", type=Path, help="a run directory")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the page (default: report.html, in the run directory)"
    )
    parser.add_argument(
        "--images",
        type=positive,
        default=_IMAGES,
        metavar="N",
        help="of those that it gets most wrong, and is least sure of (default: %(default)s of each)",
    )
    parser.add_argument(
        "--no-times", action="store_true", default=False, help="do not time the exported files in the run directory"
    )
    add_data_arguments(parser, default="the validation images of the training; with it, the data's test images")


def run(arguments: argparse.Namespace) -> int:
    """Write the page and print where it is."""
    from simroot.report import write_report
    from simroot.training import load_run

    out = vars(arguments).get("out")
    if out is not None:
        require_folder(out)
    with logging_to_stderr():
        path = write_report(
            load_run(arguments.path),
            out,
            data=data_source(arguments),
            images=arguments.images,
            seconds=0.0 if arguments.no_times else 1.0,
        )
    print(path)
    return 0
