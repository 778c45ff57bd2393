"""A run as a file for a device: what ``simroot.export`` is told about it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from simroot.data import Split
from simroot.data.crop import window
from simroot.data.splits import evenly
from simroot.errors import UnknownOperatorError
from simroot.measure import count
from simroot.models import deploy
from simroot.training.chosen import chosen_images
from simroot.training.integers import read_ranges
from simroot.training.run import Run

if TYPE_CHECKING:
    from simroot.export import Options

log = logging.getLogger(__name__)

# How many of the images that are read from files serve for the check, unless told otherwise.
_STREAMED = 500


def export_options(
    run: Run, data: Mapping[str, Any] | None = None, *, images: int | None = None, calibration: int | None = None
) -> Options:
    """The arguments with which ``simroot.export``'s functions write a run's network, and check it on its images.

    Args:
        run: the trained network.
        data: where its images are, as ``chosen_images`` takes it.
        images: how many of them are for the check; 0 for random inputs; None for all, or some that are read from files.
        calibration: how many training images show the ranges for int8; None for float32.

    Raises:
        ConfigError, DataError, CheckpointError: as ``chosen_images``, unless no images are asked for.
    """
    options: Options = {
        "classes": run.classes,
        "mean": run.mean,
        "std": run.std,
        "preparation": run.preparation,
        "name": run.model_name,
        "data": str(run.config["data"].get("name", "")),
        "thresholds": run.thresholds,
    }
    try:
        options["cost"] = count(deploy(run.model), run.preparation.shape).as_dict()
    except UnknownOperatorError as error:  # as of a network of the user's own
        log.warning("the file does not say what the network costs: %s", error)
    if images == 0 and calibration is None:
        return options
    chosen = chosen_images(run, data)
    log.info("the check is on %s", chosen.title)
    if images != 0:
        default = len(chosen.split) if chosen.split.images is not None else _STREAMED
        options["images"], options["labels"] = _some(chosen.split, default if images is None else images, run)
    if calibration is not None:
        options["calibration"], _ = _some(chosen.calibration, calibration, run)
        options["ranges"] = read_ranges(run.path) if run.config.get("integers") else None
    return options


def _some(split: Split, count: int, run: Run) -> tuple[Tensor, Tensor]:
    chosen = evenly(len(split), count)
    return split.read(chosen, window(run.recipe.crop, train=False)), split.labels[chosen]
