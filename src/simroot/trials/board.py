"""What trainings side by side and the process that waits for them tell each other: files in a folder that all see."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from simroot.files import write_text
from simroot.training.fit import StopTraining
from simroot.training.module import ClassificationModule

_STOP = "stop"
_PAUSE = 0.5  # seconds between two looks


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Attributes:
        done: the share of its steps.
        epoch: how many epochs are complete.
        epochs: how many there will be.
        accuracy: on the validation images after the last complete epoch.
    """

    done: float
    epoch: int
    epochs: int
    accuracy: float | None = None

    def __str__(self) -> str:
        accuracy = "" if self.accuracy is None else f", validation accuracy {self.accuracy:.2%}"
        return f"epoch {self.epoch}/{self.epochs}{accuracy}"


@dataclass(frozen=True)
class Board:
    """A folder with a file for each training that has begun, and one that stops all."""

    folder: Path

    def stop(self) -> None:
        """Ask all trainings to stop."""
        (self.folder / _STOP).touch()

    @property
    def stopped(self) -> bool:
        """Whether they are asked to stop, or nobody waits for them any more."""
        return (self.folder / _STOP).exists() or not self.folder.exists()

    def write(self, number: int, progress: Progress) -> None:
        """Say how far the training of a number is."""
        write_text(self.folder / f"{number}.json", json.dumps(asdict(progress)))

    def read(self, number: int) -> Progress | None:
        """How far the training of a number is; None before its first step."""
        try:
            return Progress(**json.loads((self.folder / f"{number}.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None


class Reporter(Callback):
    """Writes on the board how far a training is, and ends it when the board says so or its starter has gone."""

    def __init__(self, board: Board, number: int) -> None:
        self.board, self.number = board, number
        self._starter, self._next = os.getppid(), 0.0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look, and report, every half second."""
        self._look(trainer, pl_module, (batch_idx + 1) / max(1, int(trainer.num_training_batches)))

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *batch: Any) -> None:
        """Look also while the epoch's validation goes on."""
        self._look(trainer, pl_module, 1.0)

    def _look(self, trainer: L.Trainer, module: L.LightningModule, part: float) -> None:
        if (now := time.monotonic()) < self._next:
            return
        self._next = now + _PAUSE
        if self.board.stopped or os.getppid() != self._starter:
            raise StopTraining
        assert isinstance(module, ClassificationModule)
        history, epochs = module.history, module.recipe.epochs
        accuracy = history[-1]["val_accuracy"] if history else None
        done = min(1.0, (trainer.current_epoch + part) / epochs)
        self.board.write(self.number, Progress(done, len(history), epochs, accuracy))
