"""``simroot models``: the registry as a table."""

from __future__ import annotations

import argparse

from simroot.cli.output import count_text, print_json, print_table, size_text
from simroot.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "pattern", nargs="?", default="*", help="shell pattern for the names, such as 'simnet*' (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Print name, declared size, input and summary of every network that matches."""
    from simroot.models import list_models, model_entry

    entries = [model_entry(name) for name in list_models(arguments.pattern)]
    if not entries:
        raise ConfigError(f"no model matches {arguments.pattern!r}; 'simroot models' lists them all")
    if arguments.json:
        keys = ("name", "parameters", "macs", "input_size", "num_classes", "summary")
        print_json([{**{key: getattr(entry, key) for key in keys}, "overrides": entry.overrides} for entry in entries])
        return 0
    rows = [
        (entry.name, count_text(entry.parameters), count_text(entry.macs), size_text(entry.input_size), entry.summary)
        for entry in entries
    ]
    print_table(
        f"Networks: {len(rows)}",
        ["name", "parameters", "MACs", "input", "summary"],
        rows,
        numbers=["parameters", "MACs", "input"],
    )
    return 0
