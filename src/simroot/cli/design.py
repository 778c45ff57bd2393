"""``simroot design``: the networks within a budget, and which of them is best on one's own images."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from simroot.cli.datasource import (
    add_data_arguments,
    add_part_arguments,
    add_preparation_arguments,
    data_source,
    logging_to_stderr,
)
from simroot.cli.output import count_text, print_json, print_table
from simroot.cli.trials import add_trial_arguments, asks_for_runs, conduct_and_print
from simroot.cli.values import memory, positive, positive_number, quantity
from simroot.errors import ConfigError

if TYPE_CHECKING:
    from simroot.data import ImageData
    from simroot.design.budgets import Budget
    from simroot.design.search import Design
    from simroot.design.tasks import Task

# Of every training of a search.
_EPOCHS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.argument_default = argparse.SUPPRESS
    parser.add_argument(
        "--family", action="append", dest="families", metavar="NAME", help="only this one of the table; may be repeated"
    )
    parser.add_argument("--json", action="store_true", default=False, help="print JSON instead of a table")
    budget = parser.add_argument_group("budget", "At least one of these, for the network as it is deployed.")
    budget.add_argument("--parameters", type=quantity, metavar="N", help="at most N parameters, as in 20K")
    budget.add_argument("--macs", type=quantity, metavar="N", help="at most N multiply-accumulates an image, as in 3M")
    budget.add_argument(
        "--milliseconds",
        type=positive_number,
        metavar="T",
        help="at most T milliseconds an image, on one thread in ONNX Runtime, measured here",
    )
    budget.add_argument(
        "--ram",
        type=memory,
        metavar="N",
        help="at most N bytes of RAM for its C export, as in 32K: arena, image, and 1K of stack",
    )
    budget.add_argument("--flash", type=memory, metavar="N", help="at most N bytes of constants there, as in 64K")
    budget.add_argument(
        "--precision", choices=("int8", "float32"), help="of the C export, for --ram and --flash (default: int8)"
    )
    data = add_data_arguments(parser, default="none, networks are sized only")
    add_part_arguments(data, short=False)
    add_preparation_arguments(data, size_help="N x N pixels, or height H and width W (default: the data's, or 32)")
    data.add_argument("--num-classes", type=positive, metavar="N", help="without --data (default: 10)")
    data.add_argument("--in-channels", type=positive, metavar="N", help="of the images, without --data (default: 3)")
    add_trial_arguments(parser, "train all networks on --data in the same way and say which is best")
    search = parser.add_argument_group(
        "search",
        "Networks and learning rates are proposed, trained on a part of the training images and judged on the rest; "
        "those that lag behind end early. The same command goes on with what was stopped, up to N trials.",
    )
    search.add_argument("--search", type=positive, metavar="N", help="train N networks that a search proposes")
    search.add_argument(
        "--study",
        metavar="URL",
        help="database that several machines can share, as in sqlite:///FILE (default: search.journal in --results)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the networks within the budget, or train and rank them."""
    from simroot.design.budgets import Budget
    from simroot.design.search import CANDIDATES, comparison, design

    given = vars(arguments)
    budget = Budget(**{field.name: given[field.name] for field in fields(Budget) if field.name in given})
    if "precision" in given and not budget.on_device:
        raise ConfigError("--precision is that of the C export, for --ram and --flash; give one of them")
    trained = asks_for_runs(arguments)
    source = data_source(arguments)
    searched = given.get("search")
    if (trained or searched) and "name_or_path" not in source:
        raise ConfigError("there is nothing to train on; --data names the images")
    if (searched and (arguments.train or arguments.quick)) or ("study" in given and not searched):
        raise ConfigError("--search N trains by itself, and --study URL is a search's; leave out --train and --quick")
    if searched and given.keys() & {"jobs", "cluster"}:
        raise ConfigError("--search trains one network at a time; start the command several times to share the work")
    with logging_to_stderr():
        data, task = _data_and_task(given, source)
        if searched and data is not None:
            _search(arguments, budget, data, source)
            return 0
        found = design(budget, task, given.get("families", tuple(CANDIDATES)))
        if trained and data is not None:
            plan = comparison(budget, [each.network for each in found])
            conduct_and_print(arguments, "design", plan, data, source)
        elif arguments.json:
            print_json([_as_dict(each) for each in found])
        else:
            _print(budget, found, given.get("families", ()), source)
    return 0


def _search(arguments: argparse.Namespace, budget: Budget, data: ImageData, source: Mapping[str, Any]) -> None:
    """Go on with the search up to the number of trials, and print what it found."""
    import torch

    from simroot.design.search import CANDIDATES
    from simroot.design.study import open_study, search
    from simroot.design.study_report import report_study

    given = vars(arguments)
    if "threads" in given:
        torch.set_num_threads(given["threads"])
    (seed, *_) = arguments.seeds
    study = open_study(given.get("study"), arguments.results, seed)
    if not arguments.report_only:
        search(
            study,
            budget,
            data,
            given.get("families", tuple(CANDIDATES)),
            number=arguments.search,
            epochs=given.get("epochs", _EPOCHS),
            seed=seed,
            runs=arguments.runs,
            source=source,
            progress=False,  # the log says what a bar would
        )
    path = report_study(study, arguments.results)
    if arguments.json:
        print_json(json.loads(path.read_text(encoding="utf-8")))
    else:
        print(path.with_suffix(".md").read_text(encoding="utf-8"))


def _data_and_task(given: Mapping[str, Any], source: Mapping[str, Any]) -> tuple[ImageData | None, Task]:
    from simroot.data import load
    from simroot.design.tasks import Task, task_of

    sizes = {name: given[name] for name in ("num_classes", "in_channels", "image_size") if name in given}
    if "name_or_path" not in source:
        return None, Task(**sizes)
    if sizes.keys() - {"image_size"}:
        raise ConfigError("--num-classes and --in-channels are what --data says; leave them out")
    data = load(**source)
    return data, task_of(data)


def _print(budget: Budget, found: Sequence[Design], families: Sequence[str], source: Mapping[str, Any]) -> None:
    from simroot.design.search import CANDIDATES

    rows = [
        [
            each.network.name,
            count_text(each.parameters),
            count_text(each.macs),
            *_time(each),
            *_memory(each),
            _command(each),
        ]
        for each in found
    ]
    timed = ["ms", "predicted"] if budget.milliseconds is not None else []
    held = ["RAM", "flash"] if budget.on_device else []
    numbers = ["parameters", "MACs", *timed, *held]
    print_table(f"Networks within {budget}", ["family", *numbers, "simroot train"], rows, numbers=numbers)
    if found[0].network.name == next(iter(CANDIDATES)):
        print("\nThe first was the most accurate of those that have been trained to the end (docs/experiments.md).")
    print(f"\nNext, to train all of them and see which is best:\n  {shlex.join(_again(budget, families, source))}")


def _again(budget: Budget, families: Sequence[str], source: Mapping[str, Any]) -> list[str]:
    """The words that train the same networks, on the data that was named, or else on PATH."""
    from simroot.trials.runs import data_words

    limits = [
        (f"--{name}", str(limit))
        for name, limit in asdict(budget).items()
        if limit is not None and (name != "precision" or budget.on_device)
    ]
    chosen = [("--family", name) for name in families]
    words = [word for pair in (*limits, *chosen) for word in pair]
    return ["simroot", "design", *words, *data_words({"name_or_path": "PATH", **source}), "--train"]


def _time(each: Design) -> list[str]:
    return [f"{time:.3f}" for time in (each.milliseconds, each.predicted) if time is not None]


def _memory(each: Design) -> list[str]:
    return [] if each.memory is None else [count_text(each.memory.ram), count_text(each.memory.flash)]


def _command(each: Design) -> str:
    """The arguments that name the network."""
    from simroot.trials.runs import settings

    return shlex.join(["--model", each.network.model, *settings(each.network.overrides)])


def _as_dict(each: Design) -> dict[str, Any]:
    network = {"family": each.network.name, "model": each.network.model, "overrides": dict(each.network.overrides)}
    times = {"milliseconds": each.milliseconds, "predicted_milliseconds": each.predicted}
    held = {} if each.memory is None else {"ram": each.memory.ram, "flash": each.memory.flash}
    return network | {"parameters": each.parameters, "macs": each.macs, **times, **held}
