"""Loss, accuracy and confusion matrix of a trained network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from simroot.data import Split, loader
from simroot.errors import DataError
from simroot.training.run import Run


@dataclass(frozen=True)
class Evaluation:
    """How a network does on labelled images.

    Attributes:
        accuracy: share of the images whose highest score is that of their class.
        top5: share of the images whose class has one of the five highest scores.
        loss: mean softmax cross-entropy.
        per_class: class name -> share of its images that are right; NaN for a class without images.
        confusion: int64 (classes, classes), rows the true classes, columns the predicted ones.
        count: number of images.
    """

    accuracy: float
    top5: float
    loss: float
    per_class: dict[str, float]
    confusion: Tensor
    count: int


@torch.inference_mode()
def evaluate(
    run: Run, split: Split, *, batch_size: int = 256, device: str | torch.device = "cpu", workers: int | None = None
) -> Evaluation:
    """Run a network over a split.

    Args:
        run: of ``train`` or ``load_run``; its mean and std normalise the images.
        split: labelled images of the run's size, channels and classes.
        batch_size: images at a time.
        device: where to compute; the network is moved there and stays there.
        workers: threads that decode images ahead; None leaves it to the loader.

    Raises:
        DataError: if the split is empty or its images or labels do not fit the network.
    """
    if len(split) == 0:
        raise DataError("there is no image to evaluate on")
    classes = len(run.classes)
    if int(split.labels.max()) >= classes:
        raise DataError(f"a label is {int(split.labels.max())}; the network of {run.path} knows {classes} classes")
    shape = tuple(split.read(torch.tensor([0])).shape[1:])
    expected = run.preparation.shape
    if shape != expected:
        raise DataError(f"the images are {shape}, expected {expected} (channels, height, width) as in training")
    model = run.model.eval().to(device)
    # Each process evaluates on its own, also where several have trained together.
    loss, among_five = torch.zeros((), dtype=torch.float64), 0
    pairs = torch.zeros(classes * classes, dtype=torch.int64)
    batches = loader(
        split,
        batch_size,
        mean=run.mean,
        std=run.std,
        train=False,
        workers=workers,
        crop=run.recipe.crop,
        channels_last=run.recipe.channels_last,
    )
    for images, labels in batches:
        scores, targets = model(images.to(device)).float(), labels.to(device)
        pairs += torch.bincount((classes * targets + scores.argmax(1)).cpu(), minlength=len(pairs))
        among_five += int((scores.topk(min(5, classes)).indices == targets[:, None]).sum())
        loss += functional.cross_entropy(scores, targets, reduction="sum").cpu()
    matrix = pairs.view(classes, classes)
    right = matrix.diagonal()
    shares = (right / matrix.sum(1)).tolist()
    return Evaluation(
        accuracy=int(right.sum()) / len(split),
        top5=among_five / len(split),
        loss=float(loss) / len(split),
        per_class=dict(zip(run.classes, shares, strict=True)),
        confusion=matrix,
        count=len(split),
    )
