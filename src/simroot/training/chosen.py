"""The images that a run is evaluated or exported with, and what to call them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from simroot import data as datasets
from simroot.data import NAMES, ImageData, Split
from simroot.data.choices import Asked
from simroot.data.columns import Columns
from simroot.data.forms import moved
from simroot.data.loading import load_labelled
from simroot.errors import CheckpointError, ConfigError, DataError
from simroot.training.images import Known, kept_images, read_known
from simroot.training.run import Run, check_same_data, data_arguments

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Chosen:
    """Labelled images for a run.

    Attributes:
        title: what they are, for people.
        split: the images.
        calibration: images that show the ranges of activations: ones that were trained on where there are any.
        left_out: number of images that were left out of ``split`` since the run was trained on them.
    """

    title: str
    split: Split
    calibration: Split
    left_out: int = 0


def chosen_images(run: Run, given: Mapping[str, Any] | None = None) -> Chosen:
    """The validation images of a run's training, or others without those that it was trained on.

    Where the data of the training is given, at whichever place, its validation images are found again. Other data
    gives its test part, or else its validation part, or else all class folders. Its classes go by their names.

    Args:
        run: the trained network.
        given: arguments of ``simroot.data.load`` that say where the images are; without ``name_or_path`` they are
            where they were.

    Raises:
        ConfigError: if no data is given and the run neither says where its images came from nor keeps some.
        DataError: if there are no such images, all of them were trained on, a class is unknown to the network, or the
            data of the training has changed.
        CheckpointError: if what the run knows of its images is damaged.
    """
    given = given or {}
    source = data_arguments(run.config)
    if "name_or_path" in given:
        return _of_other(run, given, source)
    if source is None:
        return _kept(run)
    data = datasets.load(**moved(source, given))
    check_same_data(run.config, data, run.path)
    return _own(data)


def _own(data: ImageData) -> Chosen:
    return Chosen(f"{data.name}, validation images", data.val, data.train)


def _kept(run: Run) -> Chosen:
    several = run.thresholds is not None
    kept = kept_images(run.path, run.preparation.shape, len(run.classes), multi_label=several)
    if kept is None:
        raise ConfigError(
            f"{run.path} does not say where its images came from and keeps none of them; name some with --data"
        )
    data, (calibration, val) = run.config["data"], kept
    some = "" if len(val) == data["val"] else f"{len(val)} of {data['val']} "
    return Chosen(f"{data.get('name', 'arrays')}, {some}validation images", val, calibration)


def _of_other(run: Run, given: Mapping[str, Any], source: Mapping[str, Any] | None) -> Chosen:
    name, known = str(given["name_or_path"]), read_known(run.path)
    asked = Asked.of(**run.preparation.to_dict())
    try:
        columns = Columns.of(moved({**_columns(source), "multi_label": run.thresholds is not None}, given))
        part, split = load_labelled(given["name_or_path"], run.classes, asked, given.get("data_root"), columns=columns)
    except DataError:  # as of digits, or of folders that only the run's own arguments can tell apart
        own = _at_another_place(run, given, source, known)
        if own is None:
            raise
        return _own(own)
    if known is not None:
        indices = known.validation(split, all_of_it=part == "whole")
        if indices is None and part == "whole" and source and source.get("limit") is not None:
            own = _at_another_place(run, given, source, known)
            if own is not None:
                return _own(own)
        if indices is not None:
            rest = known.trained_on(split)
            assert rest is not None
            calibration = split.subset(rest.nonzero().flatten()) if part == "whole" else _training(run, given, split)
            return Chosen(f"{name}, validation images", split.subset(indices), calibration)
    title = f"{name}, test images" if part == "test" else f"images of {name}"
    return _without_trained(run, Chosen(title, split, split), known, official=name in NAMES)


def _columns(source: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What the training called the columns of its table: another table is likely to be alike, but lies elsewhere."""
    return {name: value for name, value in (source or {}).items() if name in ("image_column", "label_column")}


def _without_trained(run: Run, chosen: Chosen, known: Known | None, *, official: bool) -> Chosen:
    """The images that a run was not trained on; of an official test part all, as everybody takes all."""
    seen = None if known is None else known.trained_on(chosen.split)
    if seen is None:
        log.warning("%s does not know its training images: some of these may be among them", run.path)
        return chosen
    count, images = int(seen.sum()), len(seen)
    if count and official:
        log.warning("%d of the %d test images are training images, too: the same pixels", count, images)
    if not count or official:
        return chosen
    if count == images:
        raise DataError(
            f"all {images} {chosen.title} were trained on, which says nothing about others; name other images, or "
            "leave out --data for the validation images of the training"
        )
    return Chosen(
        f"{chosen.title}, {count} left out since they were trained on",
        chosen.split.subset((~seen).nonzero().flatten()),
        chosen.split.subset(seen.nonzero().flatten()),
        count,
    )


def _training(run: Run, given: Mapping[str, Any], fallback: Split) -> Split:
    """The training images beside a validation part that was found again."""
    own = _at_another_place(run, given, data_arguments(run.config), read_known(run.path))
    return fallback if own is None else own.train


def _at_another_place(
    run: Run, given: Mapping[str, Any], source: Mapping[str, Any] | None, known: Known | None
) -> ImageData | None:
    """The data of the training if that is what the arguments lead to; if not, the log says nothing of the try."""
    with _held_back() as records:
        try:
            data = datasets.load(**{"image_size": run.image_size, **moved(source or {}, given)})
            check_same_data(run.config, data, run.path)
        except (DataError, CheckpointError):
            return None
    if known is None:
        return None
    for record in records:
        logging.getLogger(record.name).handle(record)
    return data


@contextmanager
def _held_back() -> Iterator[list[logging.LogRecord]]:
    """What is logged inside of data sets, which does not appear."""
    records: list[logging.LogRecord] = []

    def keep(record: logging.LogRecord) -> bool:
        records.append(record)
        return False

    logger = logging.getLogger("simroot")
    logger.addFilter(keep)
    try:
        yield records
    finally:
        logger.removeFilter(keep)
