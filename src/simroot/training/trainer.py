"""Lightning's Trainer for a recipe, and what it raises in words that say what to change."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, Checkpoint

from simroot.borrowed.from_lightning import leave_other_signals
from simroot.data import ImageData
from simroot.errors import ConfigError, TrainingError
from simroot.training.checkpoints import AtomicCheckpoints
from simroot.training.recipes import Recipe

# Parts of what torch says where batch statistics are of one value, and where the processor's memory runs out.
_SINGLE_VALUE = "Expected more than 1 value per channel"
_NO_MEMORY = "can't allocate memory"


def make_trainer(
    path: Path, recipe: Recipe, callbacks: list[Callback], trainer_options: Mapping[str, Any]
) -> L.Trainer:
    """Lightning's Trainer for a recipe: silent, without files of its own but those of loggers.

    Raises:
        ConfigError: for devices or a strategy that it does not know or this machine does not have.
    """
    try:
        trainer = L.Trainer(
            **trainer_options,
            max_epochs=recipe.epochs,
            precision="bf16-mixed" if recipe.precision == "bf16" else "32-true",
            gradient_clip_val=recipe.clip_norm,
            callbacks=callbacks,
            plugins=[AtomicCheckpoints()],
            default_root_dir=path,
            log_every_n_steps=1,  # nothing is logged in a step; without it Lightning warns of short epochs
            enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,  # the loader shares the batches out
            sync_batchnorm=torch.cuda.is_available(),
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        chosen = ", ".join(f"{name} {value}" for name, value in trainer_options.items() if name != "logger")
        raise ConfigError(f"Lightning cannot train with {chosen}: {' '.join(str(error).split())}") from error
    leave_other_signals(trainer)
    return trainer


def require_processors(trainer: L.Trainer) -> None:
    """Refuse more processes on a processor than it has cores: Lightning would start them all."""
    cores = max(os.cpu_count() or 1, 2)
    if trainer.strategy.root_device.type == "cpu" and trainer.num_devices > cores:
        raise ConfigError(f"devices is {trainer.num_devices}: that many processes do not fit on {cores} cores")


@contextmanager
def failures_told(name: str, recipe: Recipe, data: ImageData) -> Iterator[None]:
    """What torch and Lightning raise where a training cannot be done, in words that say what to change.

    Raises:
        ConfigError: for devices that are not there, and for batches too small for batch statistics.
        TrainingError: where memory runs out.
    """
    try:
        yield
    except MisconfigurationException as error:
        raise ConfigError(f"Lightning cannot train like this: {' '.join(str(error).split())}") from error
    except (MemoryError, RuntimeError, ValueError) as error:
        if _SINGLE_VALUE in str(error):
            raise ConfigError(
                f"recipe field batch_size is {recipe.batch_size}: {name} normalises by the statistics of a batch, "
                "which one image of this size does not have; choose at least 2 for each process"
            ) from error
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or _NO_MEMORY in str(error):
            size = " x ".join(map(str, data.preparation.size))
            raise TrainingError(
                f"memory does not suffice to train {name} with batches of {recipe.batch_size} images of {size}; "
                "choose a smaller recipe.batch_size, image size or network"
            ) from error
        raise
