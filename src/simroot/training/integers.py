"""Training a network as what it becomes in integers: what the exported network computes is what was trained."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from simroot import data as datasets
from simroot.data import ImageData
from simroot.data.crop import window
from simroot.data.splits import evenly
from simroot.errors import CheckpointError, ConfigError, counted
from simroot.export.c.ranges import Ranges
from simroot.export.c.straight import Integers
from simroot.export.description import Description
from simroot.export.multi_label import THRESHOLD
from simroot.export.task import task_of
from simroot.models.image_sizes import read_back
from simroot.training.claim import first_process
from simroot.training.recipes import INTEGER_EPOCHS, Recipe
from simroot.training.run import RANGES, Run, check_same_data, data_arguments, read_config
from simroot.training.writing import write_text
from simroot.untrusted.documents import read_json

RATE = 1 / 20
"""Share of the learning rate that the network was trained with."""

_CALIBRATION = 512
_CHECKED = 2000
_BATCH = 256

log = logging.getLogger(__name__)


def quantise(
    run_dir: str | Path,
    out: str | Path,
    *,
    epochs: int = INTEGER_EPOCHS,
    learning_rate: float | None = None,
    data: ImageData | None = None,
    data_source: Mapping[str, Any] | None = None,
    **options: Any,
) -> Run:
    """Go on training a run's network as what ``to_c`` makes of it in int8, and leave a new run directory.

    Outputs, loss and validation are those of the network in integers, to the bit; gradients are those of the network in
    float, at the activations that the integers have. The ranges of activations are those of 512 training images before
    the training. The new run keeps them, and its export in int8 takes them. Normalisations keep their statistics.

    Args:
        run_dir: the run whose best weights are taken.
        out: the run directory to make.
        epochs: passes over the training images; the rate falls to zero along a cosine.
        learning_rate: the first one; None for a twentieth of the recipe's.
        data: what the run was trained on; None loads it from where it was.
        data_source: where it lies now, if that is another place.
        **options: ``accelerator``, ``workers``, ``progress``, ``callbacks`` and others of ``train``.

    Raises:
        CheckpointError: if ``run_dir`` holds no run.
        ConfigError: for a wrong argument, or a network that has no integer form.
        DataError: if the data is not what the run was trained on.
        TrainingError, TrainingInterrupted: as ``train``; the new run is resumed as any other.
    """
    from simroot.training.fit import train

    path = Path(run_dir)
    config = read_config(path)
    recipe = Recipe.from_dict(config["recipe"])
    recipe = replace(
        recipe,
        epochs=epochs,
        learning_rate=recipe.learning_rate * RATE if learning_rate is None else learning_rate,
        schedule="cosine",
        warmup=0.0,
        settle=1.0 if recipe.settle else 0.0,  # as its last epochs
        ramp=0.0,
        ema=0.0,
        precision="32",
        compile=False,
        accelerate=False,
        patience=None,
    )
    source = data_arguments(config) if data_source is None else dict(data_source)
    if data is None:
        if source is None:
            raise CheckpointError(f"{path} does not say where its data came from; name it with --data")
        data = datasets.load(**source)
    check_same_data(config, data, path)
    model = config["model"]
    return train(
        model["name"],
        data,
        recipe,
        out,
        overrides=read_back(model["name"], model["overrides"]),
        data_source=source,
        initial=path,
        integers=True,
        **options,
    )


def open_integers(path: Path, model: nn.Module, data: ImageData, recipe: Recipe, *, begun: bool) -> Integers:
    """The form in integers of a run's network: calibrated now, or as it was when the training began.

    Raises:
        CheckpointError: if what it was calibrated to is missing or damaged.
        ConfigError: if the network has no integer form.
    """
    description = Description(data.preparation.shape, mean=tuple(data.mean), std=tuple(data.std))
    seen = window(recipe.crop, train=False)
    images = data.train.read(evenly(len(data.train), _CALIBRATION), seen)
    integers = Integers(model, description, images, read_ranges(path) if begun else None)
    if not begun and first_process():
        write_text(path / RANGES, json.dumps(integers.ranges.to_dict()) + "\n")
        chosen = evenly(len(data.val), _CHECKED)
        task, of = task_of([THRESHOLD] if data.multi_label else None), counted(len(chosen), "validation image")
        scores = _scores(integers, model, data.val.read(chosen, seen))
        share = 100 * task.quality(scores.numpy(), data.val.labels[chosen].numpy())
        log.info("in integers before the training: %s %.2f%% on %s", task.figure, share, of)
    return integers


def read_ranges(path: Path) -> Ranges:
    """What the network of a run that was trained in integers was calibrated to.

    Raises:
        CheckpointError: if the file is missing or damaged.
    """
    file = path / RANGES
    if not file.exists():
        raise CheckpointError(f"{file} does not exist; it held the ranges of the network's activations in integers")
    try:
        return Ranges.from_dict(read_json(file))
    except ConfigError as error:
        raise CheckpointError(f"{file} is damaged: {error}") from error


@torch.no_grad()
def _scores(integers: Integers, model: nn.Module, pixels: Tensor) -> Tensor:
    batches = pixels.split(_BATCH)
    return torch.cat([integers(model, (batch / 255 - integers.mean) / integers.std) for batch in batches])
