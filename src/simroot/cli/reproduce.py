"""``simroot reproduce``: the papers' tables, computed, beside what is printed."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from simroot.cli.output import console, count_text, print_facts, print_json, print_table
from simroot.errors import ConfigError

if TYPE_CHECKING:
    from simroot.experiments import SizeTable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("table", nargs="?", metavar="TABLE", help="name of a table (default: list their names)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Print the table's rows, or the names of all tables."""
    from simroot.experiments import TABLES

    if arguments.table is None:
        summaries = [(name, (compute.__doc__ or "").partition("\n")[0]) for name, compute in TABLES.items()]
        if arguments.json:
            print_json(list(TABLES))
        else:
            print_facts(f"Tables: {len(TABLES)}", summaries)
        return 0
    if arguments.table not in TABLES:
        raise ConfigError(f"unknown table {arguments.table!r}; known are {', '.join(TABLES)}")
    table = TABLES[arguments.table]()
    if arguments.json:
        print_json([row.as_dict() for row in table.rows])
    else:
        _print(table)
    return 0


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
