"""Loss, accuracy and confusion matrix of a trained network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from simroot.data import Split, loader
from simroot.data.labels import is_multi_label
from simroot.errors import DataError
from simroot.export.evaluation import Evaluation as Evaluation
from simroot.export.multi_label import MultiLabelEvaluation
from simroot.training.run import Run


@torch.inference_mode()
def evaluate(
    run: Run, split: Split, *, batch_size: int = 256, device: str | torch.device = "cpu", workers: int | None = None
) -> Any:
    """Run a network over a split.

    Args:
        run: of ``train`` or ``load_run``; its mean and std normalise the images.
        split: labelled images of the run's size, channels and classes.
        batch_size: images at a time.
        device: where to compute; the network is moved there and stays there.
        workers: threads that decode images ahead; None leaves it to the loader.

    Returns:
        An ``Evaluation``, or a ``MultiLabelEvaluation`` of a run with ``thresholds``.

    Raises:
        DataError: if the split is empty or its images or labels do not fit the network.
    """
    # Each process evaluates on its own, also where several have trained together.
    return evaluated(run, scored(run, split, batch_size=batch_size, device=device, workers=workers))


def evaluated(run: Run, batches: Iterable[tuple[Tensor, Tensor]]) -> Evaluation | MultiLabelEvaluation:
    """From scores and labels, batch by batch.

    Raises:
        DataError: if there is no image.
    """
    if run.thresholds is not None:
        scores, labels = collected(batches)
        return MultiLabelEvaluation.of(run.classes, run.thresholds, scores.numpy(), labels.numpy())
    return of_one_class(run, batches)


def collected(batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """All scores and all labels, on the CPU."""
    scores, labels = (torch.cat(parts).cpu() for parts in zip(*batches, strict=True))
    return scores, labels


def of_one_class(run: Run, batches: Iterable[tuple[Tensor, Tensor]]) -> Evaluation:
    """``evaluated`` where each image has one class."""
    classes = len(run.classes)
    loss, among_five = torch.zeros((), dtype=torch.float64), 0
    pairs = torch.zeros(classes * classes, dtype=torch.int64)
    for scores, targets in batches:
        pairs += torch.bincount((classes * targets + scores.argmax(1)).cpu(), minlength=len(pairs))
        among_five += int((scores.topk(min(5, classes)).indices == targets[:, None]).sum())
        loss += functional.cross_entropy(scores, targets, reduction="sum").cpu()
    return Evaluation.counted(run.classes, pairs.view(classes, classes).numpy(), among_five, float(loss))


@torch.inference_mode()
def scored(
    run: Run, split: Split, *, batch_size: int = 256, device: str | torch.device = "cpu", workers: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """The scores, float32 (N, classes), and the labels of a split's images, batch by batch; as ``evaluate``."""
    if len(split) == 0:
        raise DataError("there is no image to evaluate on")
    classes = len(run.classes)
    if is_multi_label(split.labels) != (run.thresholds is not None):
        have, knows = ("any number of classes", "one") if run.thresholds is None else ("one class", "any number")
        raise DataError(f"each of these images has {have}; the network of {run.path} learned from images with {knows}")
    if not is_multi_label(split.labels) and int(split.labels.max()) >= classes:
        raise DataError(f"a label is {int(split.labels.max())}; the network of {run.path} knows {classes} classes")
    shape = tuple(split.read(torch.tensor([0])).shape[1:])
    expected = run.preparation.shape
    if shape != expected:
        raise DataError(f"the images are {shape}, expected {expected} (channels, height, width) as in training")
    model = run.model.eval().to(device)
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
        yield model(images.to(device)).float(), labels.to(device)
