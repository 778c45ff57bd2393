"""``simroot models``: the registry as a table, without waiting for PyTorch."""

from __future__ import annotations

import argparse
import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import simroot
from simroot import installed
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
    # Written by simroot.models.catalogue, which is not imported: the package around it needs PyTorch.
    text = Path(simroot.__file__).with_name("models").joinpath("catalogue.json").read_text(encoding="utf-8")
    known = json.loads(text)
    taken = {entry["name"] for entry in known}
    known += [_of_package(name) for name in sorted(installed.networks()) if name not in taken]
    entries = [entry for entry in known if fnmatchcase(entry["name"], arguments.pattern)]
    if not entries:
        raise ConfigError(f"no model matches {arguments.pattern!r}; 'simroot models' lists them all")
    if arguments.json:
        print_json(entries)
        return 0
    rows = [
        (
            entry["name"],
            count_text(entry["parameters"]),
            count_text(entry["macs"]),
            size_text(entry["input_size"]) or "-",
            entry["summary"],
        )
        for entry in entries
    ]
    print_table(
        f"Networks: {len(rows)}",
        ["name", "parameters", "MACs", "input", "summary"],
        rows,
        numbers=["parameters", "MACs", "input"],
    )
    return 0


def _of_package(name: str) -> dict[str, Any]:
    """What is known of a package's network without importing the package."""
    summary = f"of {installed.source(installed.networks()[name])}"
    unknown = dict.fromkeys(("parameters", "macs", "num_classes"))
    return {"name": name, **unknown, "input_size": [], "summary": summary, "overrides": {}}
