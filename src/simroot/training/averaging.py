"""An exponential moving average of the weights: what is evaluated and kept where the recipe has ``ema``.

After every step each parameter's average moves towards the parameter,

    average += (1 - d) * (parameter - average),    d = min(ema, (1 + step) / (10 + step)),

so that the first steps, which are soon forgotten, do not weigh for long. Buffers are the training's own: what they
hold is no weight, and the statistics of normalisations are gathered anew for the averaged weights before every
validation (``simroot.training.statistics``).
"""

from __future__ import annotations

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from simroot.training.module import ClassificationModule


def decay(ema: float, step: int) -> float:
    """Of the average after so many steps, from 1."""
    return min(ema, (1 + step) / (10 + step))


@torch.no_grad()
def update(average: nn.Module, model: nn.Module, ema: float, step: int) -> None:
    """Move the average's parameters after a step."""
    move = get_ema_multi_avg_fn(decay(ema, step))
    move(list(average.parameters()), list(model.parameters()), step)


@torch.no_grad()
def copy_buffers(average: nn.Module, model: nn.Module) -> None:
    """Give the average the network's buffers."""
    for own, buffer in zip(average.buffers(), model.buffers(), strict=True):
        own.copy_(buffer)


class Averaging(Callback):
    """Keeps the module's average up to date; does nothing where there is none."""

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """After a step."""
        assert isinstance(pl_module, ClassificationModule)
        if pl_module.average is not None:
            update(pl_module.average, pl_module.model, pl_module.recipe.ema, trainer.global_step)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Before the statistics are gathered."""
        assert isinstance(pl_module, ClassificationModule)
        if pl_module.average is not None:
            copy_buffers(pl_module.average, pl_module.model)
