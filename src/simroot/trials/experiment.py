"""Experiments that train: what they train, what they make of it, and the files that they leave."""

from __future__ import annotations

import json
import logging
import shlex
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simroot.data import ImageData
from simroot.data.splits import Split, stratified
from simroot.errors import CheckpointError, ConfigError, TrainingError
from simroot.files import write_atomic, write_text
from simroot.training import Recipe, for_data
from simroot.training.environment import versions
from simroot.trials.clusters import Jobs
from simroot.trials.runs import PRETRAINED, Row, Runs, Trial, data_words, require_figures, row
from simroot.untrusted.documents import read_json
from simroot.untrusted.schema import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

_QUICK_IMAGES = 256
_QUICK_TRIALS = 2
_QUICK_LABELS = 128


@dataclass(frozen=True)
class Finished:
    """A trial with its figures, and its run directory if that is here."""

    trial: Trial
    path: Path | None
    row: Row


@dataclass(frozen=True)
class Report:
    """What an experiment makes of its runs.

    Attributes:
        markdown: a table, and what there is to say about it.
        figure: the plot.
        facts: what goes into the JSON file beside the rows.
    """

    markdown: str
    figure: Figure | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """A table or figure that needs trained networks.

    Attributes:
        title: what it is.
        epochs: of every training, unless another number is asked for.
        trials: epochs and seed -> what to train, the most important first.
        report: the finished runs and their data -> table and plot.
        part: the part of the data that it uses, if not all.
    """

    title: str
    epochs: int
    trials: Callable[[int, int], Sequence[Trial]]
    report: Callable[[Sequence[Finished], ImageData], Report]
    part: Callable[[ImageData], ImageData] | None = None


def conduct(
    name: str,
    experiment: Experiment,
    data: ImageData,
    *,
    runs: Path,
    results: Path,
    source: Mapping[str, Any] | None = None,
    epochs: int | None = None,
    seeds: Sequence[int] = (0,),
    quick: bool = False,
    train: bool = True,
    jobs: Jobs | None = None,
    **options: Any,
) -> Path:
    """Train what is not trained yet, then write ``NAME.json``, ``NAME.md`` and ``NAME.png``.

    Killed and called again it goes on where it stopped. Rows that ``NAME.json`` has already, of any seed, stay where
    their runs are not here: what several machines trained comes together in one file. A trial that cannot be trained,
    or whose run is damaged, is left out and named in the log.

    Args:
        name: of the files.
        experiment: what to do.
        data: images to train on and to validate with.
        runs: folder of run directories, those that are there already and those to come.
        results: folder of the files.
        source: arguments of ``simroot.data.load`` that give the data.
        epochs: of every training; the experiment's own number if None.
        seeds: each a round of all trials.
        quick: one epoch of the first two trials that can be trained, a SimNet and a ConvNet among them if there are
            such, on a few images, to see that everything works: the figures mean nothing, and the files are called
            ``NAME-quick``.
        train: False to report the finished runs alone, and what has been reported before.
        jobs: how many trainings at a time, and where; one after the other in this process if None.
        **options: where and how to train, as for ``simroot.training.train``.

    Returns:
        The JSON file.

    Raises:
        ConfigError: if there is nothing to report.
    """
    named = data_words(source or {"name_or_path": data.name})
    if experiment.part is not None:
        data, source = experiment.part(data), None
    if quick:
        name, epochs, seeds, source = f"{name}-quick", 1, seeds[:1], None
        data = replace(data, train=_few(data.train), val=_few(data.val))
    folder = Runs(runs, data, source)
    reported = [] if quick else _reported(results / f"{name}.json", data)
    length = "" if epochs in (None, experiment.epochs) else f" --epochs {epochs}"
    finished: list[Finished] = []
    failed: list[Trial] = []
    if train and jobs is not None and jobs.side_by_side:
        planned = [trial for seed in seeds for trial in experiment.trials(epochs or experiment.epochs, seed)]
        from simroot.trials.jobs import complete_all  # with Lightning, which takes seconds

        failed = complete_all(folder, _quick_ones(planned) if quick else planned, jobs, options)
    for seed in [*seeds, *sorted({found["seed"] for found in reported} - set(seeds))]:
        for trial in experiment.trials(epochs or experiment.epochs, seed):
            if quick and _enough([each.trial for each in finished], trial):
                continue
            trial = _with_few_labels(trial) if quick else trial
            done = _completed(folder, trial, options if train and seed in seeds and trial not in failed else None)
            if done is not None:
                path, figures = done
                # `simroot train` alone does not know parts.
                again = experiment.part is not None or trial.labels is not None
                changed = {"command": _command(name, length, named, seed)} if again else {}
                finished.append(Finished(trial, path, figures | changed))
            else:
                finished += [Finished(trial, None, found) for found in reported if _is_of(found, trial, data)]
    if not finished and train:
        raise ConfigError(f"no training of {experiment.title} could be completed; the log says why")
    if not finished:
        raise ConfigError(
            f"{runs} holds no finished run of {experiment.title}; expected one with the same network, recipe, epochs "
            "and data: leave out --report-only to train"
        )
    report = experiment.report(finished, data)
    return _write(results / name, experiment.title, finished, report, data, commands=not quick)


def _completed(folder: Runs, trial: Trial, options: Mapping[str, Any] | None) -> tuple[Path, Row] | None:
    """The trial's run and its figures, without options only if it is complete already; None if that fails."""
    try:
        path = folder.finished(trial) if options is None else folder.complete(trial, **options)
        return None if path is None else (path, row(path) | folder.start(trial))
    except (TrainingError, ConfigError, CheckpointError) as error:
        log.warning("%s is left out: %s", trial.name, error)
        return None


def _with_few_labels(trial: Trial) -> Trial:
    return trial if trial.labels is None else replace(trial, labels=_QUICK_LABELS)


def _quick_ones(trials: Sequence[Trial]) -> list[Trial]:
    """Those that are tried, if none fails."""
    chosen: list[Trial] = []
    for trial in trials:
        if not _enough(chosen, trial):
            chosen.append(trial)
    return [_with_few_labels(trial) for trial in chosen]


def _enough(tried: Sequence[Trial], trial: Trial) -> bool:
    """Whether a quick try can do without a trial."""
    return len(tried) >= _QUICK_TRIALS and _is_simnet(trial) in map(_is_simnet, tried)


def _is_simnet(trial: Trial) -> bool:
    """The two kinds of networks: SimNets, and ConvNets, among them those of a SimNet's shape."""
    return trial.model.startswith("simnet") and "twin" not in trial.model


def _command(name: str, length: str, data: Sequence[str], seed: int) -> str:
    return f"simroot reproduce {name} {shlex.join(data)}{length}{f' --seeds {seed}' if seed else ''}"


def _reported(path: Path, data: ImageData) -> list[Row]:
    """The rows of an earlier report on the same data; none if there is no such report."""
    if not path.exists():
        return []
    try:
        content = read_json(path)
        require(content, dict, "")
        if missing := {"rows", "data", "split"} - content.keys():
            raise ConfigError(f"it lacks {min(missing)}")
        if (content["data"], content["split"]) != (data.name, _sizes(data)):
            return []
        require(content["rows"], list[dict[str, Any]], "rows")
        for found in content["rows"]:
            require_figures(found)
    except ConfigError as error:
        raise ConfigError(
            f"{path} is no report of an experiment ({error}); remove it or name other --results"
        ) from error
    rows: list[Row] = content["rows"]
    return rows


def _is_of(row: Row, trial: Trial, data: ImageData) -> bool:
    """Whether a row's run had the trial's network, start and recipe; what early reports left out is as usual."""
    planned = for_data(trial.recipe, data.named, data.image_size)
    pretrained = row.get("start", "random") == PRETRAINED
    theirs = (row["model"], row["overrides"], pretrained, row.get("labels"), row.get("teacher"))
    mine = (trial.model, dict(trial.overrides), trial.pretrained, trial.labels, trial.teacher)
    return theirs == mine and Recipe.from_dict(row["recipe"]) == planned


def _few(split: Split) -> Split:
    return split.subset(stratified(split.labels, min(_QUICK_IMAGES, len(split)), seed=0)[0])


def _write(
    stem: Path, title: str, finished: Sequence[Finished], report: Report, data: ImageData, *, commands: bool
) -> Path:
    stem.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "title": title,
        "data": data.name,
        "split": _sizes(data),
        "versions": versions(),
        "rows": [each.row for each in finished],
        **report.facts,
    }
    path = stem.with_name(f"{stem.name}.json")
    write_text(path, json.dumps(content, indent=1) + "\n")
    origin = f"Made from {path.name}"
    if commands:
        words = "\n".join(dict.fromkeys(f"    {each.row['command']}" for each in finished))
        origin += f", whose runs these commands make again:\n\n{words}"
    write_text(stem.with_name(f"{stem.name}.md"), f"# {title}\n\n{report.markdown}\n\n{origin}\n")
    if (figure := report.figure) is not None:
        write_atomic(stem.with_name(f"{stem.name}.png"), lambda file: figure.savefig(file, format="png"))
    return path


def _sizes(data: ImageData) -> dict[str, int]:
    return {"training": len(data.train), "validation": len(data.val), "classes": len(data.classes)}


def by_model(finished: Sequence[Finished]) -> dict[str, list[Finished]]:
    """The runs of each network, all seeds together, in the order in which the networks first occur."""
    found: dict[str, list[Finished]] = {}
    for each in finished:
        found.setdefault(each.row["model"], []).append(each)
    return found


def accuracy_text(runs: Sequence[Finished]) -> str:
    """Mean accuracy in per cent; with several seeds its standard deviation and their number."""
    values = [100 * each.row["accuracy"] for each in runs]
    mean = f"{statistics.fmean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.2f} ({len(values)} seeds)"


def draw_runs(axes: Axes, places: Sequence[float], values: Sequence[Sequence[float]], **style: Any) -> None:
    """A line through the means of runs, and a bar of one standard deviation where there are several of them."""
    (line,) = axes.plot(places, [statistics.fmean(each) for each in values], **style)
    for place, each in zip(places, values, strict=True):
        if len(each) > 1:
            spread = statistics.stdev(each)
            axes.errorbar(place, statistics.fmean(each), spread, fmt="none", ecolor=line.get_color(), capsize=3)


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers. ValueError if a row is too long or too short."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    cells = ([cell for cell, _ in zip(line, columns, strict=True)] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
