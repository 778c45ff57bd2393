"""What deployment_speed.py and root_speed.py share: families of networks timed in several engines, resumable.

A measurement is one engine with one number of threads and one batch size, all networks of the family in turns. After
each the JSON file is rewritten; those that it holds already are skipped, so that an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from simroot.cli.bench import named_candidate, print_comparisons
from simroot.engines import find_engine
from simroot.measure import Candidate, Latency, against_first, compare, plot_latencies
from simroot.measure.timing import with_file
from simroot.training.environment import versions

Row = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """Networks that are compared with the first of them, at these batch sizes."""

    name: str
    networks: tuple[str, ...]
    batches: tuple[int, ...]


def run(
    doc: str | None, families: Sequence[Family], engines: Sequence[str], out: str, argv: Sequence[str] | None
) -> int:
    """Measure what the file does not hold yet, then print tables and draw a picture for each family."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    networks = [name for family in families for name in family.networks]
    parser.add_argument("--models", nargs="+", choices=networks, metavar="NAME", help="besides the first of a family")
    parser.add_argument("--engines", nargs="+", choices=engines, default=list(engines))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=5.0, help="for each network in a measurement")
    parser.add_argument("--out", type=Path, default=Path(out), help="JSON file; the pictures go beside it")
    arguments = parser.parse_args(argv)
    for family in families:
        chosen = [name for name in family.networks if arguments.models is None or name in arguments.models]
        if chosen:
            measure(family, list(dict.fromkeys([family.networks[0], *chosen])), arguments)
            report(family, arguments.out)
    return 0


def measure(family: Family, names: list[str], arguments: argparse.Namespace) -> None:
    """Measure what the file does not hold yet."""
    with tempfile.TemporaryDirectory() as folder:
        for engine, threads, batch in itertools.product(arguments.engines, arguments.threads, family.batches):
            if is_done(read(arguments.out), names, engine, threads, batch):
                continue
            found = compare(
                [candidate(name, engine, Path(folder)) for name in names],
                [engine],
                threads=[threads],
                batches=[batch],
                seconds=arguments.seconds,
                progress=lambda message: print(message, file=sys.stderr, flush=True),
            )
            write(arguments.out, [{"family": family.name, **each.as_dict()} for each in against_first(found)])


@functools.cache
def candidate(name: str, engine: str, folder: Path) -> Candidate:
    """The network, with a file of it for an engine that runs files, which its measurements share."""
    found = named_candidate(name)
    if not find_engine(engine).suffixes:
        return found
    return with_file(found, engine, folder / f"{engine}-{name}".replace(":", "-").replace(".", "-"))


def read(path: Path) -> list[Row]:
    """The rows of a file, none if there is no file."""
    return json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []


def key(row: Row) -> tuple[Any, ...]:
    """What a row is a measurement of."""
    return row["engine"], row["threads"], row["batch"], row["model"]


def is_done(rows: Sequence[Row], names: Sequence[str], engine: str, threads: int, batch: int) -> bool:
    """Whether all networks have been measured in this way."""
    return {(engine, threads, batch, name) for name in names} <= {key(row) for row in rows}


def write(path: Path, rows: Sequence[Row]) -> None:
    """Add the rows of one measurement to the file; they replace earlier ones of the same engine, threads and batch.

    All of them, since rows of two measurements must not be compared.
    """
    measured = {(row["family"], *key(row)[:3]) for row in rows}
    kept = [row for row in read(path) if (row["family"], *key(row)[:3]) not in measured]
    engines = {engine: importlib.metadata.version(engine) for engine in ("onnxruntime", "openvino")}
    temporary = path.with_name(f".{path.name}.tmp")
    content = {"versions": versions() | engines, "rows": [*kept, *rows]}
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def report(family: Family, path: Path) -> None:
    """Tables and a picture of a family's rows."""
    rows = [row for row in read(path) if row["family"] == family.name]
    rows.sort(key=lambda row: (row["threads"], row["batch"]))
    names = [field.name for field in fields(Latency)]
    found = [Latency(**{name: row[name] for name in names}) for row in rows]
    print_comparisons(against_first(found))
    plot_latencies(found, path.with_name(f"{path.stem}_{family.name}.png"))
