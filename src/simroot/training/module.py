"""The network in training, as Lightning sees it."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric, SumMetric

from simroot.data import BatchLoader, ImageData, loader
from simroot.data.mixing import Mixing
from simroot.errors import TrainingError, counted
from simroot.models import AuxiliaryScores
from simroot.modules import processing
from simroot.training.checkpoint_file import restored
from simroot.training.objective import objective
from simroot.training.optim import build_optimizer, build_schedule
from simroot.training.recipes import Recipe
from simroot.training.teacher import Teacher, distillation

if TYPE_CHECKING:
    from simroot.export.c.straight import Integers

# Of the random numbers of an epoch: those of mixtures are apart.
_MIXING = 2

Batch = tuple[Tensor, Tensor]
Epoch = dict[str, float]


class ClassificationModule(L.LightningModule):
    """Trains a classifier of images by the loss of its ``objective``: see ``simroot.training.objective``.

    Images that the recipe mixes have a probability for each class instead of a label; the training accuracy goes by
    the largest. ``average`` is the moving average of the weights, if the recipe has one, else None.

    ``history`` has one row per epoch (see ``COLUMNS``); it is kept in the checkpoints, so that a resumed training goes
    on with it.

    Args:
        model: (N,C,H,W) float32 -> class scores (N,classes).
        data: training and validation images.
        recipe: how to train, with shift and mirror decided.
        workers: threads that decode images ahead, per process; None leaves it to the loader.
        teacher: what the network imitates beside the labels; None for the labels alone.
        integers: the form in which the network computes its scores; None for float, as it is.
    """

    def __init__(
        self,
        model: nn.Module,
        data: ImageData,
        recipe: Recipe,
        workers: int | None = None,
        teacher: Teacher | None = None,
        integers: Integers | None = None,
    ) -> None:
        super().__init__()
        self.teacher, self.integers = teacher, integers
        self.model = model
        self.average = copy.deepcopy(model).requires_grad_(False) if recipe.ema else None
        self.data, self.recipe, self.workers = data, recipe, workers
        self.history: list[Epoch] = []
        # Nothing is checked or synchronised in a step: the values are read once an epoch.
        self.train_loss, self.val_loss = (SumMetric(nan_strategy="disable") for _ in range(2))
        self.objective = objective(data, recipe)
        self._last_loss: Tensor | None = None
        self._started = 0.0
        self._mixing, self._draws = Mixing(), np.random.default_rng()

    @property
    def evaluated(self) -> nn.Module:
        """The network that is validated and kept: the average of the weights if there is one."""
        return self.model if self.average is None else self.average

    @property
    def train_accuracy(self) -> Metric:
        """What counts the training images that are right, or their average precision."""
        return self.objective.train_figure

    def train_dataloader(self) -> EpochLoader:
        """The shuffled, augmented training images of this process."""
        recipe = self.recipe
        assert recipe.shift is not None
        assert recipe.mirror is not None
        return self._loader(
            train=True,
            shift=recipe.shift,
            mirror=recipe.mirror,
            augmentation=recipe.augmentation,
            augmented_epochs=recipe.settled_from,
            balanced=recipe.balance == "sampler",
            seed=recipe.seed,
        )

    def val_dataloader(self) -> EpochLoader:
        """The validation images of this process, in order."""
        return self._loader(train=False)

    def _loader(self, *, train: bool, **augmentation: Any) -> EpochLoader:
        batches = loader(
            self.data.train if train else self.data.val,
            self.recipe.batch_size,
            mean=self.data.mean,
            std=self.data.std,
            train=train,
            rank=self.global_rank,
            world_size=self.trainer.world_size,
            workers=self.workers,
            crop=self.recipe.crop,
            channels_last=self.recipe.channels_last,
            device=self.trainer.strategy.root_device,
            **augmentation,
        )
        return EpochLoader(batches, self.trainer)

    def configure_optimizers(self) -> Any:
        """The recipe's optimizer, with its schedule advanced after every step."""
        optimizer = build_optimizer(self.model, self.recipe)
        steps = int(self.trainer.estimated_stepping_batches) // self.recipe.epochs
        schedule = build_schedule(optimizer, self.recipe, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Draws from torch's generator (noise layers), and of mixtures, depend on seed, epoch and process alone."""
        torch.manual_seed(epoch_seed(self.recipe.seed, self.current_epoch, self.global_rank))
        self._mixing = self.recipe.mixing(self.current_epoch)
        self._draws = np.random.default_rng([self.recipe.seed, self.current_epoch, self.global_rank, _MIXING])
        self.train_loss.reset()
        self.train_accuracy.reset()
        self._last_loss = None
        self._started = time.perf_counter()
        if self.teacher is not None:
            self.teacher.seconds = 0.0

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Mean loss of this process's share of the batch; the shares are equal, so their mean is the batch's."""
        images, labels = batch
        targets = labels
        if self._mixing:
            mixture = self._mixing.draw(len(labels), (images.shape[2], images.shape[3]), self._draws)
            images, targets = mixture.images(images), mixture.targets(labels, len(self.data.classes))
            labels = self.objective.hard(targets)
        # The previous step's loss: by now it is known, and asking for it does not stall a device that runs ahead.
        self._check(batch_idx)
        # What the network cannot bear shows in the first step: statistics of one number, windows that do not fit.
        failure = f"the network cannot be trained on {counted(len(images), 'image')} of {tuple(images.shape[1:])}"
        with processing(failure) if self.global_step == 0 else nullcontext():
            output = self._run(self.model, images)
        scores, others, weight = output if isinstance(output, AuxiliaryScores) else (output, (), 0.0)
        loss = self._loss(scores, targets)
        if self.teacher is not None:
            recipe, known = self.recipe, self.teacher.scores(images)
            apart = labels if recipe.distillation == "dkd" else None
            imitation = distillation(scores, known, recipe.temperature, standardise=recipe.standardise, labels=apart)
            loss = (1 - recipe.distil) * loss + recipe.distil * imitation
        for other in others:
            loss = loss + weight * self._loss(other, targets)
        self._last_loss = loss.detach()
        self.train_loss.update(self._last_loss)
        self.train_accuracy.update(scores.detach(), labels)
        return loss * self.objective.factor

    def _run(self, model: nn.Module, images: Tensor) -> Any:
        return model(images) if self.integers is None else self.integers(model, images)

    def _loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        return self.objective.loss(scores, targets)

    def on_validation_epoch_start(self) -> None:
        """Start counting anew."""
        self.val_loss.reset()
        self.objective.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the validation loss and figures."""
        images, labels = batch
        if len(labels) == 0:  # this process has no share of the last batch
            return
        scores = self._run(self.evaluated, images).float()
        self.val_loss.update(self.objective.total(scores, labels))
        self.objective.validated(scores, labels)

    def on_train_epoch_end(self) -> None:
        """Complete the epoch's row of the history."""
        steps, goal = int(self.trainer.num_training_batches), self.objective
        self._check(steps)
        row = {
            "epoch": self.current_epoch + 1,
            "train_loss": float(self.train_loss.compute()) / (steps * self.trainer.world_size),
            f"train_{goal.figure}": float(goal.train_figure.compute()),
            "val_loss": float(self.val_loss.compute()) / len(self.data.val),
            f"val_{goal.figure}": float(goal.val_figure.compute()),
            "learning_rate": self._base_rate(),
            "seconds": time.perf_counter() - self._started,
        }
        if self.teacher is not None:
            row["teacher_seconds"] = self.teacher.seconds
        row.update({f"val_{name}": value for name, value in goal.chosen_by().items()})
        if not math.isfinite(row["train_loss"] + row["val_loss"]):
            raise TrainingError(_diverged(f"the validation loss is {row['val_loss']} after epoch {row['epoch']}"))
        # A similarity takes NaN for a missing coordinate: a network can be dead behind a loss that is finite.
        held = {**self.evaluated.state_dict(), **self.model.state_dict()}
        if broken := [name for name, tensor in held.items() if not tensor.isfinite().all()]:
            raise TrainingError(_diverged(f"{broken[0]} is not finite after epoch {row['epoch']}"))
        self.history.append(row)

    def _base_rate(self) -> float:
        """The recipe's rate times the schedule's factor for the next step."""
        (schedule,) = [config.scheduler for config in self.trainer.lr_scheduler_configs]
        group = schedule.optimizer.param_groups[0]
        factor = group["lr"] / group["initial_lr"] if group["initial_lr"] else 0.0
        return float(self.recipe.learning_rate * factor)

    def _check(self, step: int) -> None:
        """Stop if the loss of the step before is not finite."""
        if self._last_loss is not None and not math.isfinite(loss := float(self._last_loss)):
            raise TrainingError(_diverged(f"the loss is {loss} in epoch {self.current_epoch + 1}, step {step}"))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the history with the weights."""
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put what this run goes on with in the place of what the file says; take up the history."""
        counters = self.trainer.fit_loop.state_dict()
        checkpoint.update(restored(checkpoint, self.model, self.recipe, counters))
        self.history = checkpoint["history"]


class EpochLoader:
    """The batches of the epoch that the trainer is in when the first of them is asked for.

    Lightning makes its iterators early, in part before it knows the epoch: hence the late look.
    """

    def __init__(self, batches: BatchLoader, trainer: L.Trainer) -> None:
        self.batches, self.trainer = batches, trainer

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        self.batches.set_epoch(self.trainer.current_epoch)
        yield from self.batches


def epoch_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """A seed for torch's generator in one epoch of one process, unrelated to that of any other."""
    return int(np.random.SeedSequence([seed, epoch, rank]).generate_state(1, np.uint64)[0])


def _diverged(what: str) -> str:
    return (
        f"{what}; the checkpoint of the epoch before is untouched. Try a lower learning_rate, clip_norm 1, a longer "
        'warmup or precision "32"'
    )
