"""``simroot rootify``: any network with filter groups in its spatial convolutions."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simroot.cli.cost import add_network_arguments, network_arguments
from simroot.cli.output import console, count_text, percent, print_json, print_table, require_folder
from simroot.cli.values import positive, seed
from simroot.errors import CheckpointError, ConfigError
from simroot.files import appearing

if TYPE_CHECKING:
    from torch import nn

    from simroot.roots.regroup import RootLayer, RootReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "model",
        metavar="MODEL|RUN",
        help="name of a network ('simroot models'), torchvision:NAME, timm:NAME where timm is installed, "
        "package.module:builder, or a run directory, whose weights --weights slice keeps",
    )
    parser.add_argument("--degree", type=positive, required=True, metavar="N", help="filter groups of the first stage")
    parser.add_argument(
        "--topology",
        choices=("root", "column", "tree"),
        default="root",
        help="groups halve, stay or double from stage to stage (default: %(default)s)",
    )
    parser.add_argument(
        "--weights",
        choices=("random", "slice"),
        default="random",
        help="new filters, or the block diagonal of the old ones (default: %(default)s)",
    )
    parser.add_argument("--load", type=Path, metavar="FILE", help="safetensors file with the network's weights")
    add_network_arguments(parser)
    parser.add_argument("--seed", type=seed, default=0, help="seed of new weights (default: %(default)s)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.safetensors",
        help="where to save the root network's weights (default: MODEL_root16.safetensors and the like); FILE.json "
        "beside it says how to build it",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Rootify, print the report, save."""
    import torch

    from simroot.models import rootify_with_report

    variant = f"{arguments.topology}{arguments.degree}"
    out = arguments.out or Path(f"{arguments.model.replace(':', '_')}_{variant}.safetensors")
    _require_place(out)
    torch.manual_seed(arguments.seed)
    model, config = _build(arguments)
    if arguments.load is not None:
        _load(model, arguments.load)
    result, report = rootify_with_report(
        model,
        arguments.degree,
        topology=arguments.topology,
        weights=arguments.weights,
        example_input=torch.zeros(1, *config["input_size"]),
    )
    config |= {name: getattr(arguments, name) for name in ("degree", "topology", "weights", "seed")}
    config["groups"] = {layer.name: layer.groups for layer in report.layers if layer.groups != layer.groups_before}
    if config["groups"]:
        _save(result, config, out)
    if arguments.json:
        print_json({**config, **dataclasses.asdict(report), "saved": str(out) if config["groups"] else None})
    else:
        _print(f"{arguments.model}, {variant}", report)
        saved = f"Saved as {out}, a name for simroot train --model, cost, bench, export and correlation."
        console().print(saved if config["groups"] else "No layer was grouped: nothing was saved.")
    return 0


def _require_place(out: Path) -> None:
    if out.suffix != ".safetensors":
        raise ConfigError(f"--out is {out}; expected a name that ends in .safetensors (the .json file lies beside it)")
    require_folder(out)


def _build(arguments: argparse.Namespace) -> tuple[nn.Module, dict[str, Any]]:
    """The network, and what it takes to build it again."""
    from simroot.models import create_model, names_network
    from simroot.training import load_run

    if not names_network(arguments.model) and Path(arguments.model).is_dir():
        run = load_run(Path(arguments.model))
        config = {"model": run.model_name, "arguments": run.arguments, "input_size": list(run.preparation.shape)}
        return run.model, config
    options, input_size = network_arguments(arguments)
    config = {"model": arguments.model, "arguments": options, "input_size": list(input_size)}
    return create_model(arguments.model, **options), config


def _load(model: nn.Module, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        model.load_state_dict(load_file(path))
    except SafetensorError as error:
        raise CheckpointError(f"{path} is no safetensors file: {error}") from error
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit the network: {str(error).splitlines()[-1].strip()}") from error


def _save(model: nn.Module, config: dict[str, Any], path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_model

    with appearing(path) as temporary:
        temporary.with_suffix(".json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        try:
            save_model(model, str(temporary))
        except SafetensorError as error:
            raise OSError(str(error)) from error


def _print(title: str, report: RootReport) -> None:
    columns = ["layer", "groups", "params before", "params", "MACs before", "MACs", "remark"]
    rows = [
        (
            layer.name,
            str(layer.groups),
            count_text(layer.parameters_before),
            count_text(layer.parameters),
            count_text(layer.macs_before),
            count_text(layer.macs),
            _remark(layer),
        )
        for layer in report.layers
    ]
    sizes = (report.parameters_before, report.parameters, report.macs_before, report.macs)
    total = ("network", "", *map(count_text, sizes), "")
    print_table(title, columns, rows, numbers=columns[1:-1], total=total, optional=("MACs before", "params before"))
    grouped = sum(layer.groups != layer.groups_before for layer in report.layers)
    console().print(
        f"{grouped} of {len(rows)} spatial convolutions grouped: "
        f"{_left(report.parameters, report.parameters_before)} of the parameters, "
        f"{_left(report.macs, report.macs_before)} of the MACs."
    )


def _left(after: int, before: int) -> str:
    return percent(after / before if before else math.nan)


def _remark(layer: RootLayer) -> str:
    if layer.note or layer.kept is None:
        return layer.note
    return f"{percent(layer.kept)} kept, permuted: {layer.permuted or 'nothing'}"
