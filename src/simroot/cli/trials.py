"""The arguments of commands that train many networks and report them, and what they do with them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simroot.cli.output import print_json
from simroot.cli.values import positive

if TYPE_CHECKING:
    from simroot.data import ImageData
    from simroot.trials.experiment import Experiment


def add_trial_arguments(parser: argparse.ArgumentParser, train_help: str) -> None:
    """Declare how networks are trained and where runs and results lie; in a group of their own.

    Args:
        parser: receives the arguments.
        train_help: of ``--train``.
    """
    group = parser.add_argument_group(
        "training",
        "Runs with the same network, recipe and data are taken from --runs, finished or resumed; others are trained.",
    )
    group.add_argument("--train", action="store_true", default=False, help=train_help)
    group.add_argument("--epochs", type=positive, metavar="N", help="of every training (default: the experiment's)")
    group.add_argument("--seeds", type=_seeds, default=(0,), metavar="N,N", help="a round for each (default: 0)")
    group.add_argument(
        "--quick",
        action="store_true",
        default=False,
        help="try it: one epoch of a SimNet and a ConvNet, or of two, on a few images",
    )
    group.add_argument(
        "--report-only",
        action="store_true",
        default=False,
        help="train nothing, report the runs that are finished and keep the rows of an earlier report",
    )
    group.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="of runs (default: runs)")
    group.add_argument(
        "--results",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="for NAME.json, .md and .png (default: results)",
    )
    group.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="threads of each training (default: one a core, shared by the jobs; 1 with --cluster)",
    )
    group.add_argument(
        "--jobs",
        type=positive,
        metavar="N",
        help="trainings at a time, each in a process (default: 1, or with --cluster one for each worker)",
    )
    group.add_argument(
        "--cluster",
        metavar="KIND:ADDRESS",
        help="train on the machines of a Dask or Ray cluster that see the same folders, as in dask:tcp://host:8786 or "
        "ray:host:6379",
    )


def asks_for_runs(arguments: argparse.Namespace) -> bool:
    """Whether trainings, or what they left, are wanted: by ``--train`` or an option that says how."""
    return bool(arguments.train or arguments.quick or arguments.report_only)


def conduct_and_print(
    arguments: argparse.Namespace, name: str, plan: Experiment, data: ImageData, source: Mapping[str, Any]
) -> None:
    """Train what is not trained yet, write the results and print them: as JSON, or the Markdown."""
    import torch

    from simroot.training import TrainingInterrupted
    from simroot.trials.clusters import Jobs
    from simroot.trials.experiment import conduct

    given = vars(arguments)
    jobs = Jobs(given.get("jobs"), given.get("threads"), given.get("cluster"))
    if jobs.threads is not None and not jobs.side_by_side:
        torch.set_num_threads(jobs.threads)
    try:
        path = conduct(
            name,
            plan,
            data,
            runs=arguments.runs,
            results=arguments.results,
            source=source,
            epochs=given.get("epochs"),
            seeds=arguments.seeds,
            quick=arguments.quick,
            train=not arguments.report_only,
            jobs=jobs,
            progress=False,  # the log says what a bar would
        )
    except TrainingInterrupted as stopped:
        if stopped.path == arguments.runs:  # several at a time
            raise
        more = "or, with the trainings that are left, the same command again"
        raise TrainingInterrupted(f"{stopped}, {more}", stopped.path, stopped.signal) from stopped
    if arguments.json:
        print_json(json.loads(path.read_text(encoding="utf-8")))
    else:
        print(path.with_suffix(".md").read_text(encoding="utf-8"))


def _seeds(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts) or len(set(map(int, parts))) < len(parts):
        raise argparse.ArgumentTypeError(f"{text!r} are no seeds; expected different whole numbers, as in 0,1,2")
    return tuple(map(int, parts))
