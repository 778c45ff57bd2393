"""``simroot reproduce``: the papers' tables and figures, beside what is printed."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from simroot.cli.datasource import add_data_arguments, data_source, logging_to_stderr
from simroot.cli.output import console, count_text, print_facts, print_json, print_table
from simroot.cli.values import positive
from simroot.errors import ConfigError

if TYPE_CHECKING:
    from simroot.experiments import SizeTable

_DEFAULT_DATA = "cifar10"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.argument_default = argparse.SUPPRESS
    parser.add_argument("name", nargs="?", metavar="NAME", help="of a table or figure (default: list their names)")
    parser.add_argument("--json", action="store_true", default=False, help="print JSON instead of a table")
    group = parser.add_argument_group(
        "training",
        "Runs with the same network, recipe and data are taken from --runs, finished or resumed; others are trained.",
    )
    group.add_argument(
        "--train", action="store_true", default=False, help="train the networks of a table that can also be counted"
    )
    group.add_argument("--epochs", type=positive, metavar="N", help="of every training (default: the experiment's)")
    group.add_argument("--seeds", type=_seeds, default=(0,), metavar="N,N", help="a round for each (default: 0)")
    group.add_argument(
        "--quick", action="store_true", default=False, help="try it: one epoch of two networks on a few images"
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
        "--threads", type=positive, metavar="N", help="threads inside an operation (default: one a core)"
    )
    add_data_arguments(parser, default=_DEFAULT_DATA)


def run(arguments: argparse.Namespace) -> int:
    """Print a table's rows, train an experiment, or print the names of all."""
    from simroot.experiments import EXPERIMENTS, TABLES

    name = vars(arguments).get("name")
    if name is None:
        _list(arguments.json)
    elif name in TABLES and not arguments.train:
        table = TABLES[name]()
        if arguments.json:
            print_json([row.as_dict() for row in table.rows])
        else:
            _print(table)
    elif name in EXPERIMENTS:
        _conduct(arguments)
    elif name in TABLES:
        raise ConfigError(f"{name} is counted, not trained; leave out --train")
    else:
        raise ConfigError(f"unknown table or figure {name!r}; known are {', '.join({**TABLES, **EXPERIMENTS})}")
    return 0


def _list(as_json: bool) -> None:
    from simroot.experiments import EXPERIMENTS, TABLES

    counted = [(name, (compute.__doc__ or "").partition("\n")[0]) for name, compute in TABLES.items()]
    trained = [(f"{name}{' --train' * (name in TABLES)}", summary) for name, (_, summary) in EXPERIMENTS.items()]
    if as_json:
        print_json(list({**TABLES, **EXPERIMENTS}))
        return
    print_facts(f"Counted at once: {len(counted)}", counted)
    print_facts(f"Trained: {len(trained)}", trained)


def _conduct(arguments: argparse.Namespace) -> None:
    import torch

    from simroot.data import load
    from simroot.experiments import experiment
    from simroot.experiments.study import conduct

    given = vars(arguments)
    if "threads" in given:
        torch.set_num_threads(given["threads"])
    source = {"name_or_path": _DEFAULT_DATA, **data_source(arguments)}
    with logging_to_stderr():
        data = load(**source)
        path = conduct(
            arguments.name,
            experiment(arguments.name),
            data,
            runs=arguments.runs,
            results=arguments.results,
            source=source,
            epochs=given.get("epochs"),
            seeds=arguments.seeds,
            quick=arguments.quick,
            train=not arguments.report_only,
            progress=False,  # the log says what a bar would
        )
    if arguments.json:
        print_json(json.loads(path.read_text(encoding="utf-8")))
    else:
        print(path.with_suffix(".md").read_text(encoding="utf-8"))


def _seeds(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts) or len(set(map(int, parts))) < len(parts):
        raise argparse.ArgumentTypeError(f"{text!r} are no seeds; expected different whole numbers, as in 0,1,2")
    return tuple(map(int, parts))


def _print(table: SizeTable) -> None:
    columns = ["model", "parameters", "printed", "as here", "MACs", "printed", "as here"]
    rows = []
    for row in table.rows:
        (paper_parameters, paper_macs), (parameters, macs) = table.paper(row), table.printed(row)
        sizes = [count_text(row.parameters), paper_parameters, parameters, count_text(row.macs), paper_macs, macs]
        rows.append([row.model, *sizes])
    print_table(table.title, columns, rows, numbers=columns[1:])
    matching = sum(table.matches(row) for row in table.rows)
    units = f"printed in units of {table.parameter_unit:.0e} parameters and {table.mac_unit:.0e} MACs"
    console().print(f"{matching} of {len(rows)} rows agree in every printed digit; {units}. {table.reading}")
    true = [
        [row.model, count_text(row.true_parameters), count_text(row.true_macs)]
        for row in table.rows
        if row.true_parameters is not None
    ]
    if true:
        print_table(
            "What the networks truly have", ["model", "parameters", "MACs"], true, numbers=["parameters", "MACs"]
        )
