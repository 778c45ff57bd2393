"""Trainings that an experiment needs: found where they were made before, resumed where they stopped, or begun."""

from __future__ import annotations

import csv
import json
import logging
import shlex
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import count as numbers
from pathlib import Path
from typing import Annotated, Any, TypedDict, get_type_hints

from filelock import FileLock

from simroot import training  # whose train and resume bring Lightning, which a list of networks does not need
from simroot.data import NAMES, ImageData, loader
from simroot.data.columns import COLUMN_ARGUMENTS
from simroot.data.splits import stratified
from simroot.errors import CheckpointError, ConfigError
from simroot.files import appearing
from simroot.images.preparation import as_image_size, size_name
from simroot.models import create_model, model_entry
from simroot.models.image_sizes import recorded
from simroot.models.registry import of_library
from simroot.pretraining import classify, pretrain
from simroot.pretraining.saved import REPORT
from simroot.training import Recipe, Run, for_data, recipe
from simroot.training.run import (
    CONFIG,
    METRICS,
    SUMMARY,
    WEIGHTS,
    data_change,
    load_weights,
    origin,
    read_config,
    save_weights,
)
from simroot.untrusted.documents import read_json
from simroot.untrusted.schema import Count, Positive, Range, require

log = logging.getLogger(__name__)

# Folder of pre-trained networks among the runs, and what rows call their start.
PRETRAINED = "pre-trained"

_BATCH = 256

# Arguments of `simroot.data.load` that the command line has; the places among them, and the parts of the data.
_PARTS = ("train", "val")
_PLACES = ("data_root", "image_root", *_PARTS)
_COLUMNS = tuple(name for name in COLUMN_ARGUMENTS if name not in _PLACES)
_DATA_OPTIONS = ("image_size", "fit", "pixel_range", "background", "limit", "validation", *_COLUMNS, *_PLACES)

Row = dict[str, Any]

Share = Annotated[float, Range(0, 1)]
Seconds = Annotated[float, Range(0, 1e12)]


class _Figures(TypedDict):
    model: str
    overrides: dict[str, Any]
    seed: Count
    epochs: Positive
    accuracy: Share
    best_accuracy: Share
    parameters: Positive
    macs: Positive
    flops: Positive
    seconds: Seconds
    recipe: dict[str, Any]
    command: str
    validation_accuracy_by_epoch: list[Share]


class Figures(_Figures, total=False):
    """What a row says of a finished run; experiments add figures of their own."""

    start: str
    labels: Positive
    teacher: str
    pretraining_seconds: Seconds


@dataclass(frozen=True)
class Trial:
    """One training that an experiment asks for.

    Attributes:
        model: name in the registry.
        recipe: how to train; its seed is the trial's.
        overrides: arguments of the network's builder.
        initial: safetensors with the weights to start from; random ones if None.
        pretrained: start from what pre-training makes of the training images and their labels, with the recipe's seed.
        labels: train on so many labelled images, a stratified part of the training images; all of them if None.
            Pre-training sees all images, and the labels of these alone.
        teacher: name of the weights that come with simroot which it imitates beside the labels; nobody's if None.
    """

    model: str
    recipe: Recipe
    overrides: Mapping[str, Any] = field(default_factory=dict)
    initial: Path | None = None
    pretrained: bool = False
    labels: int | None = None
    teacher: str | None = None

    @property
    def name(self) -> str:
        """What people call it."""
        overrides = "".join(f" {key}={value}" for key, value in self.overrides.items())
        labels = "" if self.labels is None else f", {self.labels:,} labels"
        start = f"{', pre-trained' * self.pretrained}{labels}"
        teacher = "" if self.teacher is None else f", taught by {self.teacher}"
        return f"{self.model}{overrides}{start}{teacher}, seed {self.recipe.seed}"


class Runs:
    """A folder of run directories: those that are there already are taken up, whoever made them.

    A run is a trial's if network, overrides, initial weights, recipe and data are the same; where it lies and what it
    is called does not matter.

    Args:
        folder: holds run directories; new ones are made in it.
        data: what all trials train on.
        source: arguments of ``simroot.data.load`` that give the data; None if none do.
    """

    def __init__(self, folder: Path, data: ImageData, source: Mapping[str, Any] | None) -> None:
        self.folder, self.data, self.source = folder, data, source
        self._parts: dict[int | None, ImageData] = {None: data}

    def find(self, trial: Trial) -> Path | None:
        """The trial's run directory, a finished one if there are several; None if there is none."""
        found = [path.parent for path in sorted(self.folder.glob(f"*/{CONFIG}")) if self._is(path.parent, trial)]
        return next((path for path in found if (path / SUMMARY).exists()), found[0] if found else None)

    def finished(self, trial: Trial) -> Path | None:
        """The trial's run directory if it is complete, else None."""
        path = self.find(trial)
        return path if path is not None and (path / SUMMARY).exists() else None

    def complete(self, trial: Trial, out: Path | None = None, **options: Any) -> Path:
        """The trial's run directory, after whatever training is left to do.

        Args:
            trial: what to train.
            out: the directory that a new run gets; a free one if None.
            **options: where and how, as for ``simroot.training.train``: ``progress``, ``devices`` and so on.

        Raises:
            ConfigError, DataError, CheckpointError, TrainingError, TrainingInterrupted: as ``train`` and ``resume``.
        """
        path = self.find(trial)
        if path is None:
            if trial.pretrained:
                self._pretrain(trial)
            return self._train(trial, out or self.place(trial), options).path
        if (path / SUMMARY).exists():
            log.info("%s: taken from %s", trial.name, path)
            return path
        return training.resume(path, data=self._data(trial), **options).path

    def start(self, trial: Trial) -> Row:
        """What a row says of what the trial's training is given: weights, labels, a teacher; and what those took."""
        found: Row = {"start": PRETRAINED if trial.pretrained else "random"}
        if trial.labels is not None:
            found["labels"] = trial.labels
        if trial.teacher is not None:
            found["teacher"] = trial.teacher
        if trial.pretrained and (report := self._start(replace(trial, labels=None)) / REPORT).exists():
            content = read_json(report)
            require(content, dict, "")
            require(content.get("seconds"), Seconds, "seconds")
            found["pretraining_seconds"] = content["seconds"]
        return found

    def _data(self, trial: Trial) -> ImageData:
        """The images that the trial trains on and is judged by."""
        if trial.labels not in self._parts:
            assert trial.labels is not None
            if trial.labels > (count := len(self.data.train)):
                raise ConfigError(f"it asks for {trial.labels:,} labelled images; {self.data.name} has {count:,}")
            labelled = stratified(self.data.train.labels, trial.labels, seed=0)[0]
            self._parts[trial.labels] = replace(self.data, train=self.data.train.subset(labelled))
        return self._parts[trial.labels]

    def _start(self, trial: Trial) -> Path:
        """Where the trial's pre-trained network lies, or will lie."""
        data = self.data
        overrides = "".join(f"-{key}-{value}" for key, value in trial.overrides.items()).replace(" ", "")
        images = f"{data.name}-{len(data.train)}-{size_name(data.image_size)}px"
        labels = "" if trial.labels is None else f"-{trial.labels}-labels"
        return self.folder / PRETRAINED / f"{trial.model}{overrides}-{images}-seed-{trial.recipe.seed}{labels}"

    def _initial(self, trial: Trial) -> Path | None:
        return self._start(trial) / WEIGHTS if trial.pretrained else trial.initial

    def _pretrain(self, trial: Trial) -> None:
        """Make the trial's start, once for all trials that share it, also for those that run beside it."""
        if (start := self._start(trial)).exists():
            return
        start.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(start.with_name(f".{start.name}.lock")):
            if not start.exists():
                self._make_start(trial, start)

    def _make_start(self, trial: Trial, start: Path) -> None:
        if trial.labels is not None:
            self._pretrain(replace(trial, labels=None))
            self._relabel(trial, start)
            return
        facts = origin(self.data, self.source)
        seed, offsets = trial.recipe.seed, "labels"  # as `train --pretrain` does
        pretrain(trial.model, self.data, trial.overrides, start, seed=seed, facts=facts, offsets=offsets)
        log.info("%s: start in %s", trial.name, start)

    def _relabel(self, trial: Trial, start: Path) -> None:
        """The pre-trained network with classification offsets from the trial's labelled images alone."""
        data = self._data(trial)
        overrides = {"image_size": data.image_size, **trial.overrides}
        model = create_model(trial.model, len(data.classes), data.channels, **overrides)
        load_weights(self._start(replace(trial, labels=None)) / WEIGHTS, model)
        classify(model, loader(data.train, _BATCH, mean=data.mean, std=data.std, train=False), "labels")
        with appearing(start) as temporary:
            temporary.mkdir()
            save_weights(temporary / WEIGHTS, model)

    def place(self, trial: Trial, taken: Container[Path] = ()) -> Path:
        """A directory for the trial's run that does not exist and is not taken."""
        stem = f"{trial.model}-{self.data.name}-{trial.recipe.epochs}-epochs-seed-{trial.recipe.seed}"
        paths = (self.folder / (stem if number == 1 else f"{stem}-{number}") for number in numbers(1))
        return next(path for path in paths if not path.exists() and path not in taken)

    def _train(self, trial: Trial, out: Path, options: Mapping[str, Any]) -> Run:
        return training.train(
            trial.model,
            self._data(trial),
            trial.recipe,
            out,
            overrides=trial.overrides,
            data_source=self.source if trial.labels is None else None,  # no source knows its labelled part
            initial=self._initial(trial),
            teacher=trial.teacher,
            **options,
        )

    def _is(self, path: Path, trial: Trial) -> bool:
        try:
            config = read_config(path)
        except CheckpointError as error:
            log.warning("left out a run: %s", error)
            return False
        model, expected, data = dict(config["model"]), self._initial(trial), self._data(trial)
        # The name of a pre-trained start in its folder says which it is, wherever the folder lies.
        last = -3 if trial.pretrained else 0
        starts = [path and Path(path).resolve().parts[last:] for path in (model.pop("initial", None), expected)]
        return (
            model == {"name": trial.model, "overrides": recorded(trial.model, data.image_size, trial.overrides)}
            and starts[0] == starts[1]
            and (config.get("teacher") or {}).get("source") == trial.teacher
            and Recipe.from_dict(config["recipe"]) == for_data(trial.recipe, data.named, data.image_size)
            and data_change(config, data, path) is None
        )


def row(path: Path) -> Row:
    """The figures of a finished run.

    ``accuracy`` is the last epoch's, on the validation images: the best epoch's would favour whoever's curve is
    rougher.

    Raises:
        CheckpointError: if a file of the run is missing or damaged.
    """
    kept = ("model", "overrides", "seed", "epochs")
    sizes = ("parameters", "macs", "flops", "seconds", "recipe", "versions", "commit")
    try:
        summary = read_json(path / SUMMARY)
        with (path / METRICS).open(encoding="utf-8") as file:
            curve = [float(line["val_accuracy"]) for line in csv.DictReader(file)]
        found = {
            **{key: summary[key] for key in kept},
            "accuracy": summary["last_accuracy"],
            "best_accuracy": summary["accuracy"],
            **{key: summary[key] for key in sizes},
        }
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise CheckpointError(f"{SUMMARY} or {METRICS} of {path} is missing or damaged ({error!r})") from error
    if len(curve) != found["epochs"]:
        raise CheckpointError(f"{METRICS} of {path} has {len(curve)} epochs; expected {found['epochs']}")
    figures = {**found, "command": command(read_config(path)), "validation_accuracy_by_epoch": curve}
    try:
        require_figures(figures)
    except ConfigError as error:
        raise CheckpointError(f"{SUMMARY} or {METRICS} of {path} is damaged ({error})") from error
    return figures


def require_figures(figures: Mapping[str, Any]) -> None:
    """Refuse a row of a report that is not of a finished run.

    Raises:
        ConfigError: naming the figure.
    """
    require({name: value for name, value in figures.items() if name in get_type_hints(Figures)}, Figures, "")
    Recipe.from_dict(figures["recipe"])
    if len(figures["validation_accuracy_by_epoch"]) != figures["epochs"]:
        raise ConfigError(f"validation_accuracy_by_epoch has no value for each of {figures['epochs']} epochs")


def command(config: Mapping[str, Any]) -> str:
    """What to type to make a run again, from its config.yaml; paths lead on from the current directory."""
    model, data, used = config["model"], config["data"], config["recipe"]
    source = data["source"] or {"name_or_path": data["name"]}
    words = ["simroot", "train", *data_words(source), "--model", model["name"]]
    if (start := Path(model.get("initial") or "")).name == WEIGHTS:  # of simroot pretrain
        words += ["--pretrain"] if start.parent.parent.name == PRETRAINED else ["--pretrain", _place(start.parent)]
    elif model.get("initial"):
        words += ["--initial", _place(start)]
    if teacher := config.get("teacher"):
        source_of, weights = teacher["source"], teacher["weights"]
        words += ["--teacher", source_of if of_library(source_of) else _place(Path(source_of))]
        words += ["--teacher-weights", _place(Path(weights))] if weights else []
    words += settings(model["overrides"])
    usual = for_data(
        recipe(**model_entry(model["name"]).recipe), source.get("name_or_path"), as_image_size(data["image_size"])
    )
    chosen = Recipe.from_dict(used)
    for known in fields(Recipe):
        value = getattr(chosen, known.name)
        if value != getattr(usual, known.name):
            words += [f"--recipe.{known.name}", _word(value)]
    return shlex.join(words)


def data_words(source: Mapping[str, Any]) -> list[str]:
    """The words of a command line that name data, from the arguments of ``simroot.data.load``."""
    name = source["name_or_path"]
    words = ["--data", name if name in NAMES else _place(name)]
    for key in _DATA_OPTIONS:
        if (value := source.get(key)) is None:
            continue
        text = _word(tuple(value)) if isinstance(value, list | tuple) else str(value)
        if key in _PLACES and Path(text).is_absolute():
            text = _place(text)
        option = f"--{key.replace('_', '-')}{'-part' * (key in _PARTS)}"
        words += [f"{option}={text}"] if text.startswith("-") else [option, text]
    return words


def _place(path: str | Path) -> str:
    """A path from the current directory if it lies in there, else as it is."""
    path = Path(path)
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def settings(overrides: Mapping[str, Any]) -> list[str]:
    """The words of a command line that override a network's arguments."""
    return [word for key, value in overrides.items() for word in ("--set", f"{key}={json.dumps(value)}")]


def _word(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value).lower()
