"""Statistics of normalisations, gathered at the weights that are evaluated.

Running averages describe the activations of weights that have moved on since. Where these move fast, at a high learning
rate, the statistics lag behind so far that validation collapses while the training goes well.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from simroot.borrowed.from_torch import AnyBatchNorm
from simroot.layers import FoldedNorm2d
from simroot.modules import evaluating
from simroot.training.module import ClassificationModule

# More batches change nothing: see docs/training-simnets.md.
BATCHES = 16


class FreshStatistics(Callback):
    """Before every validation, the statistics of 16 training batches take the place of the running averages.

    They stay, so that checkpoints hold what was validated; the training's averages go on from there. The batches are
    the first of the epoch once more, so that a resumed training gathers the same. If there are several processes, the
    first one's statistics are taken.
    """

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Gather them."""
        assert isinstance(pl_module, ClassificationModule)
        model = pl_module.evaluated
        if not (modules := normalisations(model)):
            return
        assert trainer.train_dataloader is not None
        batches = islice(trainer.train_dataloader, BATCHES)
        with trainer.precision_plugin.forward_context():
            gather_statistics(model, (trainer.strategy.batch_to_device(images) for images, _ in batches))
        if trainer.world_size > 1:
            for module in modules:
                for statistic in module.buffers():
                    torch.distributed.broadcast(statistic, 0)


@torch.no_grad()
def gather_statistics(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics of a network's normalisations by the means of the batches' statistics.

    All else runs as in evaluation: no noise, no dropout, and whitened filters keep the coordinates they are learned in.

    Args:
        model: any network with ``FoldedNorm2d``, ``FoldedWhitening2d`` or torch's batch normalisations.
        batches: images (N, C, H, W), each batch with the same weight; without one nothing changes.
    """
    modules = normalisations(model)
    momenta = [module.momentum for module in modules]
    with evaluating(model):
        try:
            for number, images in enumerate(batches, 1):
                for module in modules:
                    module.training, module.momentum = True, 1 / number
                model.forward(images)  # as written: compiled, it would be compiled again for every momentum
        finally:
            for module, momentum in zip(modules, momenta, strict=True):
                module.momentum = momentum


def normalisations(model: nn.Module) -> list[FoldedNorm2d | AnyBatchNorm]:
    """The layers that take statistics of their input."""
    return [module for module in model.modules() if isinstance(module, FoldedNorm2d | AnyBatchNorm)]
