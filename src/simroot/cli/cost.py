"""``simroot cost``: what a network costs, layer by layer, and on demand the time of each."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simroot.cli.device import print_memory
from simroot.cli.output import count_text, percent, print_json, print_table, size_text
from simroot.cli.values import add_model_overrides, image_shape, positive
from simroot.engines import is_network_file, open_file
from simroot.errors import ConfigError, ExportError, counted
from simroot.images.preparation import as_image_size

if TYPE_CHECKING:
    from torch import nn

    from simroot.measure import Cost


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "model",
        metavar="MODEL|RUN|FILE",
        help="name of a network ('simroot models', torchvision:NAME, timm:NAME, package.module:builder), a file of "
        "rootify, a run directory, or an exported file, such as .onnx",
    )
    add_network_arguments(parser)
    parser.add_argument(
        "--time", action="store_true", help="also measure each layer's time: PyTorch eager, one thread, median"
    )
    parser.add_argument(
        "--batch", type=positive, default=1, metavar="N", help="images in a batch for --time (default: %(default)s)"
    )
    parser.add_argument(
        "--device", action="store_true", help="also plan its memory on a device: flash, arena and stack of the C export"
    )
    parser.add_argument("--int8", action="store_true", help="with --device: in whole numbers of 8 bits, not in float32")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Count the deployed network: normalisations folded away, as it would be used."""
    if arguments.int8 and not arguments.device:
        raise ConfigError("--int8 is the precision of --device; give both")
    if is_network_file(path := Path(arguments.model)):
        return _file(path, arguments)
    from simroot.export.c.report import Precision, device_memory
    from simroot.measure import count, time_layers
    from simroot.models import names_network

    is_run = not names_network(arguments.model) and Path(arguments.model).is_dir()
    title, model, size = _run_network(arguments) if is_run else _named_network(arguments)
    cost = count(model, size)
    seconds = time_layers(model, size, batch=arguments.batch) if arguments.time else None
    precision: Precision = "int8" if arguments.int8 else "float32"
    memory = device_memory(model, size, precision, with_stack=True) if arguments.device else None
    if arguments.json:
        device = {} if memory is None else {"device": dataclasses.asdict(memory)}
        print_json({"network": title, **_as_dict(cost, seconds, arguments.batch), **device})
    else:
        _print(title, cost, seconds, arguments.batch)
        print_memory(memory)
    return 0


def _file(path: Path, arguments: argparse.Namespace) -> int:
    """Print what an exported file says of itself; it needs no PyTorch."""
    if any((arguments.input_size, arguments.num_classes, arguments.set, arguments.time, arguments.device)):
        raise ConfigError(
            "--input-size, --num-classes, --set, --time and --device go with a network or a run, not with a file"
        )
    cost = file_cost(path)
    if arguments.json:
        print_json({"network": str(path), **_as_dict(cost, None, 1)})
    else:
        _print(str(path), cost, None, 1)
    return 0


def file_cost(path: Path) -> Cost:
    """The cost of one input that an exported file holds.

    Raises:
        ConfigError, ExportError: as ``simroot.engines.open_file``; also if the file does not say.
    """
    from simroot.export.description import Description
    from simroot.measure import Cost

    known = Description.from_properties(open_file(path, threads=1).properties, str(path)).cost
    if known is None:
        raise ExportError(f"{path} does not say what it costs; export it again, or count the network that it holds")
    return Cost.from_dict(known, str(path))


def _times_of_rows(cost: Cost, seconds: Mapping[str, float]) -> list[float | None]:
    """Seconds of each row; where a module has several, the first of them has the time of all."""
    names = [layer.name for layer in cost.layers]
    return [None if name in names[:index] else seconds[name] for index, name in enumerate(names)]


def _as_dict(cost: Cost, seconds: Mapping[str, float] | None, batch: int) -> dict[str, Any]:
    found = dataclasses.asdict(cost)
    if seconds is None:
        return found
    total = sum(seconds.values())
    for layer, time in zip(found["layers"], _times_of_rows(cost, seconds), strict=True):
        layer |= {"seconds": time, "share": None if time is None else time / total}
    return {**found, "seconds": total, "batch": batch}


def _print(title: str, cost: Cost, seconds: Mapping[str, float] | None, batch: int) -> None:
    columns = ["layer", "kind", "output", "params", "MACs", "FLOPs"]
    total = ["total", "", "", count_text(cost.parameters), count_text(cost.macs), count_text(cost.flops)]
    rows = [
        [
            layer.name,
            layer.kind,
            size_text(layer.output_shape),
            count_text(layer.parameters),
            count_text(layer.macs),
            count_text(layer.flops),
        ]
        for layer in cost.layers
    ]
    if seconds is not None:
        whole = sum(seconds.values())  # with the little that modules without a row take
        columns += [f"ms/{batch}" if batch > 1 else "ms", "share"]
        for row, time in zip(rows, _times_of_rows(cost, seconds), strict=True):
            row += ["", ""] if time is None else [f"{1e3 * time:.3f}", percent(time / whole)]
        total += [f"{1e3 * whole:.3f}", ""]
    # Identities are what folding leaves behind.
    shown = [row for row, layer in zip(rows, cost.layers, strict=True) if layer.kind != "Identity"]
    print_table(title, columns, shown, numbers=columns[2:], total=total, optional=("kind", "share", "output"))


def _run_network(arguments: argparse.Namespace) -> tuple[str, nn.Module, tuple[int, int, int]]:
    from simroot.models import deploy
    from simroot.training import load_run

    if arguments.input_size or arguments.num_classes or arguments.set:
        raise ConfigError("--input-size, --num-classes and --set go with the name of a network, not with a run")
    run = load_run(Path(arguments.model))
    return arguments.model, deploy(run.model), run.preparation.shape


def _named_network(arguments: argparse.Namespace) -> tuple[str, nn.Module, tuple[int, int, int]]:
    from simroot.models import create_model, deploy

    options, size = network_arguments(arguments)
    title = f"{arguments.model}, {size_text(size)} to {counted(options['num_classes'], 'class', 'classes')}"
    return title, deploy(create_model(arguments.model, **options)), size


def add_network_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``network_arguments`` reads."""
    parser.add_argument(
        "--input-size", type=image_shape, metavar="C,H,W", help="shape of one image (default: the network's own)"
    )
    parser.add_argument(
        "--num-classes", type=positive, metavar="N", help="number of classes (default: the network's own)"
    )
    add_model_overrides(parser)


def network_arguments(arguments: argparse.Namespace) -> tuple[dict[str, Any], tuple[int, int, int]]:
    """What ``--input-size``, ``--num-classes`` and ``--set`` say: arguments of ``create_model``, and an image's shape.

    Raises:
        ConfigError: for an unknown network.
    """
    from simroot.models import model_entry

    entry = model_entry(arguments.model)
    channels, *sides = arguments.input_size or entry.input_size
    overrides, size = dict(arguments.set or []), as_image_size(sides)
    return entry.arguments(overrides, num_classes=arguments.num_classes, in_channels=channels, image_size=size)
