"""``simroot train``: images, a network and a recipe in, a run directory out."""

from __future__ import annotations

import argparse
import inspect
import os
import re
import shlex
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from simroot.cli.datasource import (
    add_data_arguments,
    add_multi_label_argument,
    add_part_arguments,
    add_preparation_arguments,
    data_source,
    logging_to_stderr,
)
from simroot.cli.output import count_text, percent, print_facts
from simroot.cli.pretrain import add_options as add_pretraining_options
from simroot.cli.pretrain import chosen_options
from simroot.cli.values import add_model_overrides, devices, positive, reader
from simroot.data.crop import WHOLE
from simroot.errors import ConfigError
from simroot.training import RECIPES, Recipe, recipe

if TYPE_CHECKING:
    from simroot.data import ImageData
    from simroot.pretraining import Start
    from simroot.training import Run

DEFAULT_DATA = "digits"
DEFAULT_MODEL = "simnet2_small"
DEFAULT_RECIPE = "default"
_LARGE = 2000  # pixels

# What decides where and how a training runs, but not what comes out of it: also good with --resume.
_PLACE = {"accelerator": "auto", "devices": "auto", "num_nodes": 1, "strategy": "auto"}
_WITH_RESUME = {"resume", "trust", "logger", "data", "data_root", "image_root", "quiet", "threads", "workers", *_PLACE}
_SHARED = "SIMROOT_RUN_DIRECTORY"
# A training has labels: the classification starts from them where the layers below are pre-trained.
_OFFSETS = "labels"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments; one that is left out is absent, so that --config and --resume can tell."""
    parser.argument_default = argparse.SUPPRESS
    parser.usage = "%(prog)s [--data NAME|PATH] [--model NAME] [--recipe.FIELD VALUE ...] [--out DIR] [option ...]"
    data = add_data_arguments(parser, default=DEFAULT_DATA)
    add_part_arguments(data)
    add_preparation_arguments(data)
    add_multi_label_argument(data)
    data.add_argument("--limit", type=positive, metavar="N", help="train on N images (default: all)")
    data.add_argument(
        "--near-duplicates",
        action="store_true",
        help="say which validation images look like a training image, by perceptual hashes (that they have the same "
        "pixels is always said)",
    )
    data.add_argument(
        "--no-check",
        dest="check",
        action="store_false",
        help="start at once on large images in files, without first decoding all of them to leave out corrupt ones",
    )

    model = parser.add_argument_group("network")
    model.add_argument(
        "--model",
        metavar="NAME",
        help="see 'simroot models', or package.module:builder for one of your own (default: chosen by the data, with "
        "its recipe; the log says what and why)",
    )
    add_model_overrides(model)
    model.add_argument(
        "--initial",
        type=Path,
        metavar="RUN|FILE|NAME",
        help="start from the weights of a run, of a safetensors file, or of a name of simroot.list_pretrained(); "
        "network and image size are those of the start, if it says them and --model and --image-size do not; what does "
        "not fit starts anew, such as the last layer for other classes",
    )
    model.add_argument(
        "--teacher",
        metavar="RUN|NAME|FILE",
        help="imitate its scores as well as the labels: a run, torchvision:NAME or timm:NAME, an .onnx file of simroot "
        "export, or a name of simroot.list_pretrained(); see --recipe.distil",
    )
    model.add_argument(
        "--teacher-weights", type=Path, metavar="FILE", help="safetensors of a teacher that is torchvision's or timm's"
    )
    model.add_argument(
        "--pretrain",
        type=Path,
        nargs="?",
        const=None,
        metavar="DIR",
        help="start from a directory of simroot pretrain, or pre-train on the training images first (into DIR of the "
        "run, pretraining)",
    )
    add_pretraining_options(parser.add_argument_group("pre-training with --pretrain alone"), "--pretrain.", _OFFSETS)

    run = parser.add_argument_group("run")
    run.add_argument("--out", type=Path, metavar="DIR", help="new run directory (default: runs/MODEL-DATA-NUMBER)")
    run.add_argument(
        "--resume",
        type=Path,
        metavar="DIR",
        help="go on with an interrupted run as it was started; --data says where its images lie now if they have moved",
    )
    run.add_argument(
        "--config", type=Path, metavar="FILE", help="config.yaml of a run, or parts of one; the command line wins"
    )
    run.add_argument("--quiet", action="store_true", help="no progress bar and no log on the terminal")
    run.add_argument("--threads", type=positive, metavar="N", help="threads inside an operation (default: one a core)")
    run.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="threads that decode images ahead, in each process (default: one a core, at most 8)",
    )
    run.add_argument(
        "--logger",
        type=lambda text: text.split(","),
        metavar="NAME[,NAME]",
        help="tell a logger of Lightning's every epoch, too: tensorboard, csv, wandb, mlflow, comet, lit; files lie in "
        "logs of the run directory",
    )
    for name, default in _PLACE.items():
        run.add_argument(
            f"--{name.replace('_', '-')}",
            type={"num_nodes": positive, "devices": devices}.get(name, str),
            metavar="VALUE",
            help=f"of Lightning's Trainer (default: {default})",
        )
    _add_recipe_arguments(parser)


def _add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "recipe",
        f"Starts from the named recipe, or without --recipe from '{DEFAULT_RECIPE}' with the changes that the network "
        "is registered with, or, without --model either, with those that the data asks for; the defaults below are "
        f"those of '{DEFAULT_RECIPE}'.",
    )
    group.add_argument("--recipe", choices=sorted(RECIPES), help=f"start from this one (default: {DEFAULT_RECIPE})")
    hints, meanings = get_type_hints(Recipe), field_meanings(Recipe)
    for name, default in asdict(RECIPES[DEFAULT_RECIPE]).items():
        shown = ",".join(map(str, default)) or "empty" if isinstance(default, tuple) else str(default).lower()
        names = [f"--recipe.{name}", *(["--seed"] if name == "seed" else [])]
        group.add_argument(
            *names,
            dest=f"recipe.{name}",
            type=reader(hints[name]),
            metavar="VALUE",
            help=f"{meanings[name]} (default: {shown})".replace("%", "%%"),
        )


def run(arguments: argparse.Namespace) -> int:
    """Train, or go on with a training, and print how good and how expensive the network is and where it lies."""
    import torch
    from lightning.pytorch.utilities import rank_zero_only

    from simroot.training.loggers import require_loggers

    given = vars(arguments)
    if "threads" in given:
        torch.set_num_threads(given["threads"])
    options = {name: given[name] for name in (*_PLACE, "workers", "logger") if name in given}
    if "logger" in given:  # before the images are read
        require_loggers(given["logger"])
    options["progress"] = "quiet" not in given
    finished = _resume(arguments, options) if "resume" in given else _start(arguments, options)
    rank_zero_only(_report)(finished)  # several processes may have trained together: one speaks
    return 0


def _start(arguments: argparse.Namespace, options: Mapping[str, Any]) -> Run:
    from simroot.cli.config import Settings, read_settings
    from simroot.data import load
    from simroot.data.forms import moved
    from simroot.images.preparation import sides
    from simroot.models import create_model, model_entry
    from simroot.models.naming import read_rootified
    from simroot.pretraining import read_start
    from simroot.training import Choice, choose, train
    from simroot.training.initial import origin_of, place_of

    given = vars(arguments)
    if "initial" in given and "pretrain" in given:
        raise ConfigError("--initial and --pretrain both say where the training starts; leave one of them out")
    settings = read_settings(given["config"]) if "config" in given else Settings()
    start = read_start(given["pretrain"]) if given.get("pretrain") else None
    origin = origin_of(place_of(given["initial"])) if "initial" in given and "model" not in given else None
    if origin:
        settings = replace(settings, model=None, overrides={})
    named = given.get("model") or (start.model if start else settings.model) or _without_data(given)
    rooted = read_rootified(Path(named)) if named and named.endswith(".safetensors") else None
    weights, named = (named, rooted.model) if rooted else (None, named)
    known = named or (origin.model if origin else None)
    # What is wrong with it is said before the images are read.
    planned = choose_recipe(given, settings.recipe, model_entry(known).recipe if known else {})
    source = moved(settings.source, data_source(arguments, settings.source))
    source.setdefault("name_or_path", DEFAULT_DATA)
    if origin:
        source.setdefault("image_size", origin.image_size)
    if planned.crop != WHOLE:
        source.setdefault("fit", "crop")  # such a recipe says itself what is seen of an image
    if chosen_options(given) and ("pretrain" not in given or start):
        raise ConfigError("--pretrain.OPTION needs --pretrain without a directory, which has its own options")
    with ExitStack() as stack:
        if "out" in given:  # before the images are read, which may take long
            _claim(given["out"], stack)
        if max(sides(source.get("image_size", 1))) >= _LARGE:
            # A network that does not fit into memory is refused before images of this size fill it.
            create_model(known or DEFAULT_MODEL, image_size=source["image_size"])
        with logging_to_stderr(quiet="quiet" in given):
            data = load(**source)
        choice = Choice(named, changes=model_entry(named).recipe) if named else choose(data, given.get("initial"))
        model, chosen = choice.model, choose_recipe(given, settings.recipe, choice.changes)
        set_before = start.overrides if start else settings.overrides
        overrides = {**choice.overrides, **set_before, **dict(given.get("set", []))}
        if rooted:
            overrides = {**rooted.shape, **overrides}
        out = given.get("out") or _free_directory(model, data.name, given, stack)
        if "pretrain" in given and start is None:
            start = _pretrained(data, source, model, overrides, out, chosen.seed, given)
            overrides = dict(start.overrides)
        return train(
            model,
            data,
            chosen,
            out,
            overrides=overrides,
            initial=start.weights if start else given.get("initial") or weights or settings.initial,
            **_teacher(given, settings.teacher),
            data_source=source,
            notes=() if named else choice.notes(chosen, overrides),
            **options,
        )


def _teacher(given: Mapping[str, Any], configured: Mapping[str, Any]) -> dict[str, Any]:
    """The teacher of the command line, or else of a config.yaml, by the names of the arguments of ``train``."""
    if "teacher" not in given and "teacher_weights" not in given:
        return {"teacher": configured.get("source"), "teacher_weights": configured.get("weights")}
    return {name: given.get(name) for name in ("teacher", "teacher_weights")}


def _without_data(given: Mapping[str, Any]) -> str | None:
    """The network that is trained whatever the data, where none is named: pre-training is for SimNets of l_p layers."""
    return DEFAULT_MODEL if "pretrain" in given else None


def _claim(out: Path, stack: ExitStack) -> None:
    from simroot.training.claim import claimed, first_process
    from simroot.training.run import require_free

    stack.enter_context(claimed(out))
    if first_process():
        require_free(out)


def _pretrained(
    data: ImageData,
    source: Mapping[str, Any],
    model: str,
    overrides: Mapping[str, Any],
    out: Path,
    seed: int,
    given: Mapping[str, Any],
) -> Start:
    """A pre-training into the run's own directory, or the one that is there: other processes find that of the first."""
    from simroot.pretraining import pretrain, read_start
    from simroot.training.run import origin

    directory = out / "pretraining"
    if (directory / "config.yaml").exists():
        return read_start(directory)
    options = {"offsets": "keep" if data.multi_label else _OFFSETS, **chosen_options(given)}
    facts, progress = origin(data, source), "quiet" not in given
    start, _ = pretrain(model, data, overrides, directory, seed=seed, facts=facts, progress=progress, **options)
    return start


def _resume(arguments: argparse.Namespace, options: Mapping[str, Any]) -> Run:
    given = vars(arguments)
    if others := sorted(set(given) - _WITH_RESUME - {"command", "run"}):
        words = {"check": "no-check"}
        names = ", ".join(
            f"--{words.get(name, name.replace('_', '-') if '.' not in name else name)}" for name in others
        )
        raise ConfigError(f"--resume goes on with a run as it was started; leave out {names}")
    from simroot.data import load
    from simroot.data.forms import moved
    from simroot.training import resume
    from simroot.training.claim import claimed
    from simroot.training.run import data_arguments, read_config

    if not (given_data := data_source(arguments)):
        return resume(given["resume"], **options)
    with claimed(given["resume"]):
        config = read_config(given["resume"])
        with logging_to_stderr(quiet="quiet" in given):
            data = load(**moved(data_arguments(config) or {}, given_data))
        source = moved(config["data"].get("source") or {}, given_data)
        return resume(given["resume"], data=data, data_source=source, **options)


def choose_recipe(given: Mapping[str, Any], configured: Mapping[str, Any], registered: Mapping[str, Any]) -> Recipe:
    """The recipe of the words of a command line, the recipe of a config.yaml and the changes of a network's entry.

    ``--recipe.FIELD`` goes over all; the rest is ``--recipe NAME``, or else the file over the entry over the default.
    """
    fields = {name.removeprefix("recipe."): value for name, value in given.items() if name.startswith("recipe.")}
    if "recipe" in given:
        return recipe(given["recipe"], **fields)
    return recipe(DEFAULT_RECIPE, **{**registered, **configured, **fields})


def _free_directory(model: str, data: str, given: Mapping[str, Any], stack: ExitStack) -> Path:
    """A new directory below ``runs``, the same one in all processes that Lightning starts on this machine."""
    if given.get("num_nodes", 1) > 1 or ("LOCAL_RANK" in os.environ and _SHARED not in os.environ):
        raise ConfigError("processes that are started one by one need --out DIR, the same for all of them")
    if "LOCAL_RANK" in os.environ:
        return Path(os.environ[_SHARED])
    path = _reserved(Path("runs"), f"{model}-{data}", stack)
    # Lightning starts the others with the same command line, and they inherit the choice.
    os.environ[_SHARED] = str(path)
    return path


def _reserved(folder: Path, name: str, stack: ExitStack) -> Path:
    """A new directory, which no other training can have before the stack is left."""
    from simroot.training.claim import InUseError

    for number in count(1):
        path = folder / f"{name}-{number}"
        with suppress(InUseError):
            if not path.exists():
                _claim(path, stack)
                return path
    raise AssertionError("numbers do not end")


def _report(run: Run) -> None:
    from simroot.training.objective import headline

    summary, where = run.summary, shlex.quote(str(run.path))
    figure = headline(summary)
    print_facts(
        f"{run.model_name} on {run.config['data']['name']}",
        [
            (f"validation {figure.replace('_', ' ')}", percent(summary[figure])),
            *_chosen_by(summary),
            ("parameters", count_text(summary["parameters"])),
            ("MACs", count_text(summary["macs"])),
            ("FLOPs", count_text(summary["flops"])),
            ("seconds", f"{summary['seconds']:.1f}"),
            ("run directory", str(run.path)),
        ],
    )
    print(
        f"\nNext:\n  simroot evaluate {where}\n  simroot report {where}\n  simroot predict {where} IMAGE...\n"
        f"  simroot export {where} --format onnx --int8\n  simroot bench {where}\n  simroot cost {where}"
    )


def _chosen_by(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figure by which the epoch was chosen, where it is another than accuracy and loss."""
    metric = summary["recipe"].get("metric")
    names = {"balanced_accuracy": "balanced accuracy", "f1": "F1"}
    return [(f"validation {names[metric]}", percent(summary[metric]))] if metric in names else []


def field_meanings(documented: type) -> dict[str, str]:
    """Field -> text, from the ``Attributes:`` of a class's docstring."""
    _, _, attributes = inspect.cleandoc(documented.__doc__ or "").partition("Attributes:\n")
    attributes = re.split(r"^\S", attributes, maxsplit=1, flags=re.MULTILINE)[0]  # up to the next section
    found = re.findall(r"^    (\w+): ((?:.+\n?)(?:^     +.+\n?)*)", attributes, re.MULTILINE)
    return {name: " ".join(text.replace("``", "").split()).rstrip(".") for name, text in found}
