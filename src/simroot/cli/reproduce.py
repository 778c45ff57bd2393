"""``simroot reproduce``: the papers' tables and figures, beside what is printed."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from simroot.cli.datasource import add_data_arguments, add_part_arguments, data_source, logging_to_stderr
from simroot.cli.output import console, count_text, print_facts, print_json, print_table
from simroot.cli.trials import add_trial_arguments, asks_for_runs, conduct_and_print
from simroot.errors import ConfigError

if TYPE_CHECKING:
    from simroot.reproduce import SizeTable

_DEFAULT_DATA = "cifar10"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.argument_default = argparse.SUPPRESS
    parser.add_argument("name", nargs="?", metavar="NAME", help="of a table or figure (default: list their names)")
    parser.add_argument("--json", action="store_true", default=False, help="print JSON instead of a table")
    add_trial_arguments(parser, "train the networks of a table that can also be counted")
    add_part_arguments(add_data_arguments(parser, default=_DEFAULT_DATA), short=False)


def run(arguments: argparse.Namespace) -> int:
    """Print a table's rows, train an experiment, or print the names of all."""
    from simroot.reproduce import EXPERIMENTS, TABLES

    name = vars(arguments).get("name")
    if name is None:
        _list(arguments.json)
    elif name in TABLES and not (arguments.train or (name in EXPERIMENTS and asks_for_runs(arguments))):
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
    from simroot.reproduce import EXPERIMENTS, TABLES

    counted = [(name, (compute.__doc__ or "").partition("\n")[0]) for name, compute in TABLES.items()]
    trained = [(f"{name}{' --train' * (name in TABLES)}", summary) for name, (_, summary) in EXPERIMENTS.items()]
    if as_json:
        print_json(list({**TABLES, **EXPERIMENTS}))
        return
    print_facts(f"Counted at once: {len(counted)}", counted)
    print_facts(f"Trained: {len(trained)}", trained)


def _conduct(arguments: argparse.Namespace) -> None:
    from simroot.data import load
    from simroot.reproduce import experiment

    source = {"name_or_path": _DEFAULT_DATA, **data_source(arguments)}
    with logging_to_stderr():
        conduct_and_print(arguments, arguments.name, experiment(arguments.name), load(**source), source)


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
