"""The page: what is said about a run, and the writing of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import torch
from torch import Tensor

from simroot.data.crop import window
from simroot.data.splits import Split
from simroot.engines import is_network_file, readers
from simroot.errors import CheckpointError, SimrootError, UnknownOperatorError, counted, one_line
from simroot.files import write_text
from simroot.measure import Cost, count, latency
from simroot.models import deploy
from simroot.report.looked import Looked, looked_at
from simroot.report.pictures import drawn, of_file, plotted, thumbnail
from simroot.report.several import LookedSeveral
from simroot.training import Evaluation, Run, chosen_images
from simroot.training.evaluation import collected, evaluated, scored
from simroot.training.plots import CURVES, plot_confusion

PAGE = "report.html"


@dataclass(frozen=True)
class Picture:
    """An image on the page: its picture, which file it is, its class, and what the network takes it for.

    ``share`` is the probability of what it is taken for, ``own`` that of its class. Where images may have several
    classes, ``which`` is the one that says most, and ``share`` its probability.
    """

    address: str
    name: str
    label: str
    predicted: str
    share: float
    own: float = 0.0
    which: str = ""


@dataclass(frozen=True)
class ExportedFile:
    """A file of the network: its size in bytes, and milliseconds an image, or why there are none."""

    name: str
    size: int
    engine: str
    milliseconds: float | None
    why: str = ""


def write_report(
    run: Run,
    out: str | Path | None = None,
    *,
    data: Mapping[str, Any] | None = None,
    images: int = 24,
    seconds: float = 1.0,
) -> Path:
    """Write a page about a run: HTML in one file, with its pictures inside.

    Args:
        run: a trained network.
        out: the file; None for ``report.html`` in the run directory.
        data: where labelled images are, as ``simroot.training.chosen_images`` takes it; None for the run's own.
        images: how many of those that it gets most wrong, and is least sure of, are shown.
        seconds: how long each exported file in the run directory is timed; 0 for not at all.

    Returns:
        The file.

    Raises:
        CheckpointError: if the training is not complete.
        ConfigError, DataError: if there are no images, or the file cannot be written.
    """
    if not run.summary:
        raise CheckpointError(f"{run.path} has no summary.json: its training is not complete; go on with it first")
    chosen = chosen_images(run, data)
    batches = list(scored(run, chosen.split))
    looked, evaluation = _looked(run, batches), evaluated(run, batches)
    trust, several = looked.calibration(), run.thresholds is not None
    text = _template().render(
        run=run,
        title=f"{run.model_name} on {run.summary['data']['name']}",
        images_title=chosen.title,
        evaluation=evaluation,
        epochs=counted(run.summary["epochs"], "epoch"),
        curves=of_file(run.path / CURVES),
        confusion=drawn(partial(_confusion, run, evaluation)) if isinstance(evaluation, Evaluation) else None,
        most_wrong=_pictures(run, chosen.split, looked, looked.most_wrong(images), unsure=False),
        least_sure=_pictures(run, chosen.split, looked, looked.least_sure(images), unsure=True),
        calibration=trust,
        several=several,
        calibration_picture=plotted(trust, several=several),
        cost=_cost(run),
        files=list(_files(run, seconds)),
    )
    path = run.path / PAGE if out is None else Path(out)
    write_text(path, text)
    return path


def _confusion(run: Run, evaluation: Evaluation, path: Path) -> None:
    title = f"{run.model_name}: accuracy {evaluation.accuracy:.2%}"
    plot_confusion(path, torch.from_numpy(evaluation.confusion), run.classes, title)


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, finalize=_writable
    )
    environment.filters.update(percent=_percent, thousands=lambda number: f"{number:,}")
    source = resources.files("simroot.report").joinpath("page.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(source)


def _writable(value: Any) -> Any:
    """Names of files may be any bytes: what is no letter becomes a question mark."""
    return value.encode("utf-8", "replace").decode() if type(value) is str else value


def _percent(share: float | None) -> str:
    return "-" if share is None or math.isnan(share) else f"{share:.1%}"


def _looked(run: Run, batches: list[tuple[Tensor, Tensor]]) -> Looked | LookedSeveral:
    if run.thresholds is None:
        return looked_at(batches)
    scores, labels = collected(batches)
    return LookedSeveral(scores.double().sigmoid(), labels, torch.tensor(run.thresholds, dtype=torch.float64))


def _pictures(
    run: Run, split: Split, looked: Looked | LookedSeveral, indices: Tensor, *, unsure: bool
) -> Sequence[Picture]:
    if not len(indices):
        return ()
    pixels = split.read(indices, window(run.recipe.crop, train=False))
    found = []
    for image, index in zip(pixels, indices.tolist(), strict=True):
        name = f"image {index}" if split.names is None else split.names[index]
        found.append(Picture(thumbnail(image), name, **looked.said(index, run.classes, unsure=unsure)))
    return found


def _cost(run: Run) -> Cost | None:
    """None of a network with an operator that is not counted."""
    try:
        return count(deploy(run.model), run.preparation.shape)
    except UnknownOperatorError:
        return None


def _files(run: Run, seconds: float) -> Iterator[ExportedFile]:
    """The files of the network in its directory, each in the first engine that reads it."""
    for path in sorted(run.path.rglob("*")):
        if path.is_file() and is_network_file(path):
            name, size = str(path.relative_to(run.path)), path.stat().st_size
            engine = readers(path)[0].name
            try:
                if not seconds:
                    yield ExportedFile(name, size, engine, None, "not timed")
                else:
                    taken = latency(path, run.preparation.shape, engine, seconds=seconds)
                    yield ExportedFile(name, size, engine, 1000 * taken.median)
            except SimrootError as error:
                yield ExportedFile(name, size, engine, None, one_line(str(error)))
