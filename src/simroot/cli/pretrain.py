"""``simroot pretrain``: images in, a SimNet with filters and templates of their statistics out."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from simroot.cli.datasource import (
    add_data_arguments,
    add_multi_label_argument,
    add_part_arguments,
    add_preparation_arguments,
    data_source,
    logging_to_stderr,
)
from simroot.cli.output import console, percent, print_facts, print_table, size_text
from simroot.cli.values import add_model_overrides, positive, seed
from simroot.errors import ConfigError, counted

if TYPE_CHECKING:
    from simroot.pretraining import Report

_MODEL = "simnet2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments; one that is left out is absent."""
    parser.argument_default = argparse.SUPPRESS
    data = add_data_arguments(parser, default="digits")
    add_part_arguments(data)
    add_preparation_arguments(data)
    add_multi_label_argument(data)
    data.add_argument("--limit", type=positive, metavar="N", help="use N of the training images (default: all)")
    model = parser.add_argument_group("network")
    model.add_argument("--model", metavar="NAME", help=f"a SimNet (default: {_MODEL})")
    add_model_overrides(model)
    parser.add_argument("--out", type=Path, metavar="DIR", help="new directory for weights, report and pictures")
    add_options(parser.add_argument_group("pre-training"), "--")
    parser.add_argument("--seed", type=seed, metavar="N", help="of patches and estimators (default: 0)")
    parser.add_argument("--quiet", action="store_true", help="no progress on the terminal")


def add_options(group: argparse._ActionsContainer, prefix: str, offsets: str = "keep") -> None:
    """Declare the options of ``simroot.pretraining.build``, each named with a prefix; ``offsets`` is the default."""
    from simroot.pretraining import DIMENSIONS, PATCHES, Method, Offsets, Scale

    def add(name: str, **how: Any) -> None:
        group.add_argument(f"{prefix}{name}", dest=f"pretrain.{name}", **how)

    add("scale", choices=get_args(Scale), help="of templates and weights (default: tempered)")
    add("whitening", choices=get_args(Method), help="which whitening gives the filters (default: ica)")
    add("offsets", choices=get_args(Offsets), help=f"of the classification; keep: the random ones (default: {offsets})")
    add("patches", type=positive, metavar="N", help=f"patches sampled for every layer (default: {PATCHES:,})")
    add("layers", type=positive, metavar="N", help="initialise the first N layers only (default: all)")
    add("channels", choices=("auto",), help="choose the numbers of filters and templates from the data")
    add(
        "dimension",
        type=_dimension,
        metavar="CRITERION",
        help=f"of the number of filters with auto channels: {', '.join(DIMENSIONS)} or a share of the variance "
        "such as 0.95 (default: bayes)",
    )
    add("components", choices=("nec", "bic", "aic"), help="criterion of the number of templates (default: bic)")


def _dimension(text: str) -> str | float:
    from simroot.pretraining import DIMENSIONS

    if text in DIMENSIONS:
        return text
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not {', '.join(DIMENSIONS)} or a share between 0 and 1")
    return share


def chosen_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of ``add_options`` that were given, by name."""
    chosen = {name.removeprefix("pretrain."): value for name, value in given.items() if name.startswith("pretrain.")}
    if "channels" not in chosen and (idle := [name for name in ("dimension", "components") if name in chosen]):
        raise ConfigError(f"--{idle[0]} says how to choose channels; add --channels auto")
    return chosen


def run(arguments: argparse.Namespace) -> int:
    """Pre-train, write the directory and print what was found."""
    from simroot.data import load
    from simroot.pretraining import pretrain
    from simroot.training.run import origin
    from simroot.trials.runs import data_words

    given = vars(arguments)
    if "out" not in given:
        raise ConfigError("--out is missing; name a new directory for the pre-trained network")
    quiet = "quiet" in given
    source = {"name_or_path": "digits", **data_source(arguments)}
    with logging_to_stderr(quiet=quiet):
        data = load(**source)
    name, overrides = given.get("model", _MODEL), dict(given.get("set", []))
    options = {"seed": given.get("seed", 0), **chosen_options(given)}
    facts = origin(data, source)
    _, report = pretrain(name, data, overrides, given["out"], facts=facts, progress=not quiet, **options)
    _print(name, data.name, report, given["out"])
    again = ["simroot", "train", "--pretrain", str(given["out"]), *data_words(source)]
    print(f"\nNext:\n  {shlex.join(again)}")
    return 0


def _print(name: str, data: str, report: Report, out: Path) -> None:
    columns = ["layer", "patch", "groups", "filters", "variance", "templates", "shape", "EM steps", "seconds"]
    rows = [
        [
            str(number),
            size_text(layer.patch),
            str(layer.groups),
            str(layer.whitened),
            percent(sum(layer.explained) / len(layer.explained)),
            str(layer.templates),
            ", ".join(f"{shape:.2f}" for shape in layer.shape),
            f"{max(layer.iterations)}{'' if all(layer.converged) else '+'}",
            f"{layer.seconds:.1f}",
        ]
        for number, layer in enumerate(report.layers, start=1)
    ]
    print_table(f"{name}, pre-trained on {counted(report.images, 'image')} of {data}", columns, rows, numbers=columns)
    if not all(all(layer.converged) for layer in report.layers):
        console().print("+: EM was stopped before it converged")
    for curve in report.curves:
        console().print(f"{curve.layer}: {curve.chosen} {curve.what} by {curve.criterion}")
    print_facts("", [("seconds", f"{report.seconds:.1f}"), ("directory", str(out))])
