"""What a finished training leaves in its directory beside the weights: summary.json and the pictures."""

from __future__ import annotations

import json
import logging
from typing import Any

import torch

from simroot.data import ImageData
from simroot.errors import UnknownOperatorError
from simroot.export.multi_label import MultiLabelEvaluation, best_thresholds
from simroot.measure import count
from simroot.models import deploy
from simroot.training.callbacks import best_row, write_metrics
from simroot.training.environment import commit, versions
from simroot.training.evaluation import Evaluation, collected, evaluate, scored
from simroot.training.module import Epoch
from simroot.training.objective import headline
from simroot.training.plots import CONFUSION, CURVES, plot_confusion, plot_curves
from simroot.training.run import METRICS, SUMMARY, Run
from simroot.training.writing import write_text

log = logging.getLogger(__name__)


def finish(run: Run, history: list[Epoch], data: ImageData, device: torch.device) -> None:
    """Write metrics.csv, the pictures and summary.json of a run; the figures are those of its best weights."""
    path = run.path
    cost = _cost(run)
    validation = _validated(run, data, device)
    thresholds = {"thresholds": list(validation.thresholds)} if isinstance(validation, MultiLabelEvaluation) else {}
    integers = bool(run.config.get("integers"))  # the history's figures are of the network in integers
    best, last, figure = best_row(history, run.recipe.metric), history[-1], headline(history[0])
    title = f"{run.model_name} on {data.name}"
    write_metrics(path / METRICS, history)
    seconds = sum(row["seconds"] for row in history)
    summary: dict[str, Any] = {
        "model": run.model_name,
        "overrides": run.config["model"]["overrides"],
        **validation.figures(),
        "per_class": validation.by_class(),
        **thresholds,
        "best_epoch": int(best["epoch"]),
        f"last_{figure}": last[f"val_{figure}"],
        "last_loss": last["val_loss"],
        "epochs": len(history),
        **cost,
        "seconds": seconds,
        "seconds_per_epoch": seconds / len(history),
        **_teacher(run, history),
        **({"integers": {figure: best[f"val_{figure}"], "loss": best["val_loss"]}} if integers else {}),
        "data": {key: run.config["data"][key] for key in ("name", "source", "train", "val", "image_size", "channels")},
        "classes": len(run.classes),
        "skipped_images": len(data.skipped),
        "seed": run.recipe.seed,
        "recipe": run.config["recipe"],
        "versions": versions(),
        "commit": commit(),
    }
    write_text(path / SUMMARY, json.dumps(summary, indent=2) + "\n")
    plot_curves(path / CURVES, history, title)
    if isinstance(validation, MultiLabelEvaluation):
        return
    plot_confusion(
        path / CONFUSION,
        torch.from_numpy(validation.confusion),
        run.classes,
        f"{title}: validation accuracy {validation.accuracy:.2%}",
    )


def _validated(run: Run, data: ImageData, device: torch.device) -> Evaluation | MultiLabelEvaluation:
    """How the best weights do; where images may have any number of classes, with the thresholds that suit them best."""
    if not data.multi_label:
        return evaluate(run, data.val, device=device)
    scores, labels = (part.numpy() for part in collected(scored(run, data.val, device=device)))
    return MultiLabelEvaluation.of(run.classes, best_thresholds(scores, labels), scores, labels)


def _teacher(run: Run, history: list[Epoch]) -> dict[str, Any]:
    """Which one there was, and the seconds of the training that it took."""
    if not (known := run.config.get("teacher")):
        return {}
    return {"teacher": {**known, "seconds": sum(row.get("teacher_seconds", 0.0) for row in history)}}


def _cost(run: Run) -> dict[str, int | None]:
    """What the network costs as it would be used; of one with an operator that is not counted, the parameters alone."""
    network = deploy(run.model)
    try:
        cost = count(network, run.preparation.shape)
    except UnknownOperatorError as error:
        log.warning("summary.json does not say what the network costs: %s", error)
        return {"parameters": sum(map(torch.numel, network.parameters())), "macs": None, "flops": None}
    return {"parameters": cost.parameters, "macs": cost.macs, "flops": cost.flops}
