"""What a finished training leaves in its directory beside the weights: summary.json and the pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from simroot.data import ImageData
from simroot.training.callbacks import best_row, write_metrics
from simroot.training.environment import commit, versions
from simroot.training.evaluation import evaluate
from simroot.training.module import Row
from simroot.training.plots import CONFUSION, CURVES, plot_confusion, plot_curves
from simroot.training.run import METRICS, SUMMARY, load_run
from simroot.training.writing import write_text


def finish(path: Path, history: list[Row], data: ImageData, device: torch.device) -> None:
    """Write metrics.csv, the pictures and summary.json; the figures are those of the best epoch's weights."""
    run = load_run(path)
    validation = evaluate(run, data.val, device=device)
    best, last = best_row(history), history[-1]
    title = f"{run.model_name} on {data.name}"
    write_metrics(path / METRICS, history)
    seconds = sum(row["seconds"] for row in history)
    cost = run.config["cost"] or {}
    summary: dict[str, Any] = {
        "model": run.model_name,
        "overrides": run.config["model"]["overrides"],
        "accuracy": validation.accuracy,
        "top5": validation.top5,
        "loss": validation.loss,
        "best_epoch": int(best["epoch"]),
        "last_accuracy": last["val_accuracy"],
        "last_loss": last["val_loss"],
        "epochs": len(history),
        "parameters": cost.get("parameters", sum(parameter.numel() for parameter in run.model.parameters())),
        "macs": cost.get("macs"),
        "flops": cost.get("flops"),
        "seconds": seconds,
        "seconds_per_epoch": seconds / len(history),
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
    plot_confusion(
        path / CONFUSION, validation.confusion, run.classes, f"{title}: validation accuracy {validation.accuracy:.2%}"
    )
