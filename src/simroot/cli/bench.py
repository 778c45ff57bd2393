"""``simroot bench``: the time of networks, side by side, in one or more engines."""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simroot.cli.output import console, print_json, print_table
from simroot.cli.values import image_size, override, positive, positive_number, positives
from simroot.engines import ENGINES, is_network_file, readers
from simroot.errors import ConfigError, SimrootError, counted
from simroot.files import write_text
from simroot.images.preparation import ImageSize

if TYPE_CHECKING:
    from simroot.measure import Candidate, Comparison, Latency

_COLUMNS = (
    *("network", "ms a\nbatch", "spread", "ms an\nimage", "images\na second"),
    *("speed-up", "MAC\nratio", "efficiency", "MB"),
)
# What a narrow terminal can do without, the first to go first.
_OPTIONAL = ("MB", "images\na second", "spread", "ms a\nbatch", "efficiency", "MAC\nratio")
_LEGEND = (
    "Medians; spread: ms a batch between the quartiles. Speed-up: against the first network in the same engine; "
    "MAC ratio: MACs of the first network / MACs of this one; efficiency: speed-up / MAC ratio. MB: peak memory for "
    "weights, activations and workspace."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "networks",
        metavar="MODEL|RUN|FILE",
        nargs="+",
        help="name of a network, with overrides as in simnet2:order=1, also torchvision:NAME, timm:NAME and "
        "package.module:builder; a file of rootify; a run directory; an exported file. The others are compared with "
        "the first",
    )
    parser.add_argument(
        "--engine",
        type=lambda text: text.split(","),
        metavar="NAME[,NAME]",
        help=f"{', '.join(ENGINES)} (default: eager; for files alone the engines that read them)",
    )
    parser.add_argument(
        "--threads", type=positives, default=[1], metavar="N[,N]", help="threads inside an operation (default: 1)"
    )
    parser.add_argument("--batch", type=positives, default=[1], metavar="N[,N]", help="images in a batch (default: 1)")
    parser.add_argument(
        "--seconds",
        type=positive_number,
        default=2.0,
        metavar="S",
        help="how long to measure each network in each engine (default: %(default)s)",
    )
    parser.add_argument(
        "--image-size", type=image_size, metavar="N|H,W", help="of the named networks (default: each network's own)"
    )
    parser.add_argument(
        "--num-classes", type=positive, metavar="N", help="of the named networks (default: each network's own)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write bench.json and bench.png into this folder")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(arguments: argparse.Namespace) -> int:
    """Time the networks, print and save what came out."""
    from simroot.measure import against_first, compare, plot_latencies

    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
    candidates = [_candidate(word, arguments) for word in dict.fromkeys(arguments.networks)]
    latencies = compare(
        candidates,
        arguments.engine or _engines(candidates),
        threads=arguments.threads,
        batches=arguments.batch,
        seconds=arguments.seconds,
        progress=_say,
    )
    comparisons = against_first(latencies)
    document = {"versions": _versions(latencies), "results": [each.as_dict() for each in comparisons]}
    if arguments.out is not None:
        write_text(arguments.out / "bench.json", json.dumps(document, indent=2) + "\n")
        plot_latencies(latencies, arguments.out / "bench.png")
    if arguments.json:
        print_json(document)
    else:
        print_comparisons(comparisons)
    return 0


def print_comparisons(comparisons: Sequence[Comparison]) -> None:
    """Print a table for each engine, number of threads and batch size."""

    def group(each: Comparison) -> tuple[str, str, int, int]:
        return each.latency.engine, each.latency.precision, each.latency.threads, each.latency.batch

    for (engine, precision, threads, batch), members in itertools.groupby(comparisons, group):
        title = f"{engine} ({precision}), {counted(threads, 'thread')}, batch {batch}"
        print_table(title, _COLUMNS, map(_row, members), numbers=_COLUMNS[1:], optional=_OPTIONAL)
    console().print(_LEGEND)


def _row(comparison: Comparison) -> list[str]:
    latency = comparison.latency
    memory = None if latency.peak_memory is None else latency.peak_memory / 1e6
    return [
        latency.model,
        f"{1e3 * latency.median:.4g}",
        f"{1e3 * latency.spread:.2g}",
        f"{latency.milliseconds_per_image:.4g}",
        f"{latency.images_per_second:,.0f}",
        *(_optional(value, ".2f") for value in (comparison.speedup, comparison.mac_ratio, comparison.efficiency)),
        _optional(memory, ".1f"),
    ]


def _optional(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _engines(candidates: Sequence[Candidate]) -> list[str]:
    """Where nothing is asked for: PyTorch for networks; for files alone the first engine that reads each."""
    files = [each.file for each in candidates if each.network is None and each.file is not None]
    return list(dict.fromkeys(readers(file)[0].name for file in files)) if len(files) == len(candidates) else ["eager"]


def _candidate(word: str, arguments: argparse.Namespace) -> Candidate:
    from simroot.measure import Candidate, file_input_size

    path = Path(word)
    if is_network_file(path):  # it runs without PyTorch
        return Candidate(word, file_input_size(path), file=path, macs=_file_macs(path))
    from simroot.models import name_and_overrides, names_network
    from simroot.training import load_run

    named = names_network(name_and_overrides(word)[0])
    if not named and path.is_dir():
        trained = load_run(path)
        size = trained.preparation.shape
        return Candidate(word, size, network=trained.model, macs=_macs(trained.model, size))
    if not named and path.suffix:
        return Candidate(word, file_input_size(path), file=path)
    return named_candidate(word, arguments.image_size, arguments.num_classes)


def named_candidate(word: str, image_size: ImageSize | None = None, num_classes: int | None = None) -> Candidate:
    """A network with overrides, such as ``simnet2:order=1``, always with the same initial weights."""
    import torch

    from simroot.measure import Candidate
    from simroot.models import create_model, model_entry, name_and_overrides

    name, overrides = name_and_overrides(word)
    entry = model_entry(name)
    try:
        given = dict(map(override, overrides))
    except argparse.ArgumentTypeError as error:
        raise ConfigError(f"{word}: {error}") from error
    options, size = entry.arguments(given, num_classes=num_classes, image_size=image_size)
    torch.manual_seed(0)
    model = create_model(name, **options)
    return Candidate(word, size, network=model, macs=_macs(model, size))


def _file_macs(path: Path) -> int | None:
    """What the file says; nothing if it was written by others."""
    from simroot.cli.cost import file_cost

    try:
        return file_cost(path).macs
    except SimrootError:
        return None


def _macs(model: Any, size: tuple[int, ...]) -> int:
    from simroot.measure import count
    from simroot.models import deploy

    return count(deploy(model), size).macs


def _versions(latencies: Sequence[Latency]) -> dict[str, Any]:
    from simroot.training.environment import versions

    packages = {ENGINES[each.engine].package for each in latencies} - {""}
    return {package: importlib.metadata.version(package) for package in sorted(packages)} | versions()


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
