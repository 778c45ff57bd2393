"""``simroot export``: a network as a file for a device, checked against the network."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simroot.cli.datasource import add_data_arguments, data_source, logging_to_stderr
from simroot.cli.device import print_memory, print_verified
from simroot.cli.output import percent, print_facts, print_json, print_table, require_folder
from simroot.cli.values import add_model_overrides, positive
from simroot.errors import ConfigError, ExportError, counted
from simroot.export.writers import FORMATS, writer

if TYPE_CHECKING:
    from torch import nn

    from simroot.export import Exported, Options
    from simroot.training import Run

# Columns that a narrow terminal can do without, the first to go first.
_OPTIONAL = ("allowed", "same class", "difference", "precision", "size")
_CALIBRATION = 512


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.argument_default = argparse.SUPPRESS
    parser.add_argument("model", metavar="RUN|MODEL", help="a run directory, or the name of a network (untrained)")
    parser.add_argument(
        "--format",
        type=_formats,
        default=["onnx"],
        metavar="NAME[,NAME]",
        help=f"{', '.join(FORMATS)} (default: onnx)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        help="file to write, its suffix is that of the format, or folder of c and web (default: model, in the run "
        "directory or here; web for a page)",
    )
    parser.add_argument(
        "--int8",
        action="store_true",
        default=False,
        help="in 8 bits: convolutions and dense layers (onnx, openvino), everything (c, web), what bears it (tflite)",
    )
    parser.add_argument(
        "--calibration",
        type=positive,
        default=_CALIBRATION,
        metavar="N",
        help="training images that show the ranges for --int8 (default: %(default)s)",
    )
    parser.add_argument(
        "--custom-operator",
        action="store_true",
        default=False,
        help="similarities of an order other than 2 as simroot's own operator (onnx, openvino): much faster",
    )
    parser.add_argument(
        "--verify",
        type=lambda text: tuple(text.split(",")),
        metavar="CPU[,CPU]",
        help="try C on cortex-m4, cortex-m33, cortex-m55 or riscv32 in an emulator: its bits must be this machine's",
    )
    parser.add_argument(
        "--images",
        type=int,
        metavar="N",
        help="validation images for the check, 0 for random inputs (default: all, or 500 if they are read from files)",
    )
    parser.add_argument(
        "--weights", choices=("best", "last"), default="best", help="of a run: which epoch's (default: %(default)s)"
    )
    add_model_overrides(parser)
    parser.add_argument("--json", action="store_true", default=False, help="print JSON instead of a table")
    add_data_arguments(parser, default="the images of the run's training")


def run(arguments: argparse.Namespace) -> int:
    """Write the files and print what they are."""
    from simroot.models import names_network
    from simroot.training.card import write_card

    for option in ("int8", "custom_operator"):
        if "torch" in arguments.format and getattr(arguments, option):
            raise ConfigError(f"--format torch has no --{option.replace('_', '-')}; leave out one of them")
    if "verify" in arguments and "c" not in arguments.format:
        raise ConfigError("--verify tries C on other processors; give --format c")
    if "out" in arguments:
        require_folder(arguments.out)
    with logging_to_stderr():
        is_run = not names_network(arguments.model)
        prepare = _trained if is_run else _untrained
        title, model, input_size, options, trained = prepare(arguments)
        if arguments.custom_operator:
            options["custom_operator"] = True
        stem = None if is_run else Path(arguments.model).stem.replace(":", "_")
        paths = _paths(arguments, trained.path if trained else Path(), stem)
        exported, refused = [], []
        for name, path in paths.items():
            more = {"verify": arguments.verify} if name == "c" and "verify" in arguments else {}
            try:
                exported.append(writer(name)(model, path, input_size, **options, **more))
            except ExportError as error:  # the other formats may do
                refused.append(str(error))
        cards = [write_card(trained, file) for file in exported] if trained else []
    if exported and arguments.json:
        print_json({"network": title, "files": [_as_dict(file) for file in exported], "cards": list(map(str, cards))})
    elif exported:
        _print(title, exported)
        for card in cards:
            print(f"model card: {card}", file=sys.stderr)
    if refused:
        raise ExportError("; ".join([*refused, *_float_files(paths, arguments)]))
    return 0


def _paths(arguments: argparse.Namespace, folder: Path, stem: str | None) -> dict[str, Path]:
    """Where each format is written: what --out says, else a name in a folder."""
    whole = "-int8" if arguments.int8 else ""
    default = {name: folder / (stem or f"{FORMATS[name].stem}{whole}") for name in arguments.format}
    paths = {name: _with_suffix(vars(arguments).get("out", default[name]), name) for name in arguments.format}
    if same := [name for name in paths if list(paths.values()).count(paths[name]) > 1]:
        raise ConfigError(
            f"{' and '.join(same)} would both be {paths[same[0]]}; export one at a time, or without --out"
        )
    return paths


def _float_files(paths: Mapping[str, Path], arguments: argparse.Namespace) -> list[str]:
    """What is said where int8 files were refused: that the files in float32 stay as they are."""
    files = [path.with_name(FORMATS[name].stem + path.suffix) for name, path in paths.items()]
    kept = [str(file) for file in files if arguments.int8 and file.exists()]
    return [f"{' and '.join(kept)}, in float32, {'stay' if kept[1:] else 'stays'} as before"] if kept else []


def _formats(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in FORMATS]:
        raise argparse.ArgumentTypeError(f"unknown format {', '.join(unknown)}; known are {', '.join(FORMATS)}")
    return list(dict.fromkeys(names))


def _with_suffix(path: Path, name: str) -> Path:
    stem = path.with_suffix("") if path.suffix in [known.suffix for known in FORMATS.values()] else path
    return stem.with_name(stem.name + FORMATS[name].suffix)


def _trained(arguments: argparse.Namespace) -> tuple[str, nn.Module, tuple[int, ...], Options, Run | None]:
    from simroot.training import export_options, load_run

    if "set" in arguments:
        raise ConfigError("--set goes with the name of a network, not with a run")
    trained = load_run(Path(arguments.model), arguments.weights)
    images, calibration = vars(arguments).get("images"), arguments.calibration if arguments.int8 else None
    options = export_options(trained, data_source(arguments), images=images, calibration=calibration)
    size = trained.preparation.shape
    return f"{trained.model_name} of {trained.path}", trained.model, size, options, trained


def _untrained(arguments: argparse.Namespace) -> tuple[str, nn.Module, tuple[int, ...], Options, Run | None]:
    from simroot.measure import count
    from simroot.models import create_model, deploy, model_entry

    if arguments.int8:
        raise ConfigError("--int8 needs the images of a trained network's run")
    entry = model_entry(arguments.model)
    options, size = entry.arguments(dict(vars(arguments).get("set", [])))
    model = create_model(entry.name, **options)
    cost = count(deploy(model), size).as_dict()
    return f"{entry.name}, untrained", model, size, {"name": entry.name, "cost": cost}, None


def _as_dict(file: Exported) -> dict[str, Any]:
    found = dataclasses.asdict(file)
    return {**found, "path": str(file.path)}


def _milliseconds(time: float | None) -> str:
    return "-" if time is None else f"{time:.3f}"


def _print(title: str, exported: list[Exported]) -> None:
    first, task = exported[0], exported[0].description.task
    facts = [("checked on", counted(first.images, "input"))]
    if first.network_accuracy is not None:
        facts.append((f"{task.figure} of the network", percent(first.network_accuracy)))
    print_facts(title, facts)
    print()
    timed = any(file.milliseconds is not None for file in exported)  # C is not
    rows = [
        (
            str(file.path),
            file.description.precision,
            f"{file.size / 1000:,.1f} kB",
            f"{file.difference:.1e}",
            "-" if file.tolerance is None else f"{file.tolerance:g}",
            percent(file.agreement),
            "-" if file.accuracy is None else percent(file.accuracy),
            *(
                "-" if time is None else f"{time:.3f}"
                for time in (file.milliseconds, file.float32_milliseconds)
                if timed
            ),
        )
        for file in exported
    ]
    columns = ["file", "precision", "size", "difference", "allowed", "same class", task.figure]
    if timed:
        columns += ["ms", "ms in float32"]
    print_table("Written", columns, rows, numbers=columns[2:], optional=_OPTIONAL)
    print("difference: the largest of a score from the network's, as a share of the largest score", file=sys.stderr)
    for file in exported:
        print_memory(getattr(file, "memory", None))
        print_verified(getattr(file, "verified", ()))
