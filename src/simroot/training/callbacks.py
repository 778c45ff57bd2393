"""What happens around the epochs of a training: files, progress, and words about several processes."""

from __future__ import annotations

import csv
import io
import logging
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, Checkpoint
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import nn

from simroot.errors import counted
from simroot.export.evaluation import OF_CONFUSION
from simroot.layers import FoldedNorm2d
from simroot.training.module import ClassificationModule, Epoch
from simroot.training.objective import headline
from simroot.training.recipes import Metric, Recipe
from simroot.training.run import BEST, LAST, METRICS, RAW, WEIGHTS, save_weights
from simroot.training.writing import write_text

log = logging.getLogger(__name__)

# Layers whose output depends on the other images of the batch. SyncBatchNorm is none of them: it sees the whole batch.
_BATCH_STATISTICS = (FoldedNorm2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

# With a teacher there is one more: its seconds.
COLUMNS = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds")


class RunWriter(Checkpoint):
    """Brings the run directory up to date after every epoch.

    The best weights go first and the last checkpoint after them: a kill in between repeats the epoch, which gives the
    same weights again, whereas the other order could lose the best ones. metrics.csv is written from the history that
    the last checkpoint holds, so that no epoch is missing or appears twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Do not go on with a training that had stopped moving when it was killed."""
        assert isinstance(pl_module, ClassificationModule)
        trainer.should_stop = stalled(pl_module.history, pl_module.recipe)
        for logger in trainer.loggers:
            logger.log_hyperparams({name: str(value) for name, value in pl_module.recipe.to_dict().items()})

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write what the epoch has brought; every process takes part in making a checkpoint."""
        assert isinstance(pl_module, ClassificationModule)
        history, recipe = pl_module.history, pl_module.recipe
        if best_row(history, recipe.metric) is history[-1]:
            trainer.save_checkpoint(self.path / BEST)
            if trainer.is_global_zero:
                save_weights(self.path / WEIGHTS, pl_module.evaluated)
                if pl_module.average is not None:
                    save_weights(self.path / RAW, pl_module.model)
        trainer.save_checkpoint(self.path / LAST)
        if trainer.is_global_zero:
            write_metrics(self.path / METRICS, history)
            log.info(epoch_line(history[-1], recipe.epochs))
            for logger in trainer.loggers:
                logger.log_metrics(dict(history[-1]), step=len(history))
                logger.save()
        if recipe.patience and stalled(history, recipe) and len(history) < recipe.epochs:
            log.info(
                "ended after epoch %d: nothing has improved for %s", len(history), counted(recipe.patience, "epoch")
            )
            trainer.should_stop = True


class ProgressBar(Callback):
    """A bar over the whole training with the last validation accuracy and the time left."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f}%"),
            TextColumn("{task.fields[accuracy]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        self.progress = Progress(*columns, console=console, refresh_per_second=4)
        self.task = TaskID(0)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the bar, with the epochs before a resumption behind it."""
        assert isinstance(pl_module, ClassificationModule)
        steps, epochs = int(trainer.num_training_batches), pl_module.recipe.epochs
        done = trainer.current_epoch
        self.task = self.progress.add_task(
            "", total=epochs * steps, completed=done * steps, epoch=done, epochs=epochs, accuracy=""
        )
        self.progress.start()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the accuracy of the epoch before."""
        self.progress.update(self.task, epoch=trainer.current_epoch + 1, accuracy=_accuracy(pl_module))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance the bar."""
        self.progress.update(self.task, advance=1)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the bar with the last accuracy."""
        self.progress.update(self.task, accuracy=_accuracy(pl_module))
        self.progress.stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave the bar as it is."""
        self.progress.stop()


class StatisticsWarning(Callback):
    """Says that batch statistics are those of each process's share of the batch, where they are."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Warn if there are several processes and layers whose statistics are not synchronised."""
        if trainer.world_size == 1 or not trainer.is_global_zero:
            return
        kinds = {type(module).__name__ for module in pl_module.modules() if isinstance(module, _BATCH_STATISTICS)}
        if kinds:
            log.warning(
                "%d processes: %s takes its statistics from the images of one process, not of the whole batch, so the "
                "training differs from one process with the same batch_size",
                trainer.world_size,
                ", ".join(sorted(kinds)),
            )


def best_row(history: list[Epoch], metric: Metric = "accuracy") -> Epoch:
    """The first epoch that is the best on the validation images."""
    return max(history, key=lambda row: _goodness(row, metric))


def stalled(history: list[Epoch], recipe: Recipe) -> bool:
    """Whether neither metric nor validation loss was better in the last ``patience`` epochs than before them."""
    patience = recipe.patience
    if patience is None or len(history) <= patience:
        return False
    before, since = history[:-patience], history[-patience:]
    metrics: tuple[Metric, ...] = (recipe.metric, "loss")
    return all(
        max(_goodness(row, metric) for row in since) <= max(_goodness(row, metric) for row in before)
        for metric in metrics
    )


def _goodness(row: Epoch, metric: Metric) -> float:
    return -row["val_loss"] if metric == "loss" else row[f"val_{metric}"]


def write_metrics(path: Path, history: list[Epoch]) -> None:
    """Write metrics.csv, a row per epoch: accuracies as fractions, the rate at its end, seconds with validation."""
    text = io.StringIO()
    columns = [name.replace("accuracy", headline(history[0])) for name in COLUMNS] if history else [*COLUMNS]
    more = [name for name in history[0] if name not in columns] if history else []
    writer = csv.DictWriter(text, [*columns, *more], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: f"{value:.7g}" for name, value in row.items()} for row in history)
    write_text(path, text.getvalue())


def epoch_line(row: Epoch, epochs: int) -> str:
    """One line about an epoch for people."""
    others = "".join(
        f", {name.replace('_', ' ')} {row[f'val_{name}']:.2%}" for name in OF_CONFUSION if f"val_{name}" in row
    )
    figure = headline(row)
    words = figure.replace("_", " ")
    teacher = f", {row['teacher_seconds']:.1f} s of them the teacher's" if "teacher_seconds" in row else ""
    return (
        f"epoch {row['epoch']:.0f}/{epochs}: "
        f"training loss {row['train_loss']:.4f}, {words} {row[f'train_{figure}']:.2%}; "
        f"validation loss {row['val_loss']:.4f}, {words} {row[f'val_{figure}']:.2%}{others}; "
        f"{row['seconds']:.1f} s{teacher}"
    )


def _accuracy(module: L.LightningModule) -> str:
    assert isinstance(module, ClassificationModule)
    figure = module.objective.figure
    words = f"validation {figure.replace('_', ' ')}"
    return f"{words} {module.history[-1][f'val_{figure}']:.2%}" if module.history else ""
