"""Does a network train from random weights, and how far in a few minutes? Short trainings over several seeds.

    python benchmarks/trainability.py --data cifar10-train-images.tar.gz --seeds 5 \
        --models simnet2 simnet2_twin convnet_caffe_bn --out results/trainability.json

12,000 training images, 2,000 validation images, 4 epochs, batch 128, one-cycle SGD with Nesterov momentum, no
augmentation: enough to tell a network that learns from one that sits at chance or collapses. Prints a table and writes
JSON: one row per training, then mean and standard deviation per network.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from simroot.data import ImageData, load
from simroot.models import model_entry
from simroot.training import Recipe, recipe
from simroot.training.environment import versions
from simroot.trials.runs import Row, Runs, Trial, row


def main(argv: Sequence[str] | None = None) -> int:
    """Train every network with every seed and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10", help="name or path of the images (default: %(default)s)")
    parser.add_argument("--models", nargs="+", default=["simnet2", "simnet2_twin"])
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0 on (default: %(default)s)")
    parser.add_argument("--train", type=int, default=12_000, help="training images (default: %(default)s)")
    parser.add_argument("--validation", type=int, default=2_000, help="validation images (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=4, help="(default: %(default)s)")
    parser.add_argument("--learning-rate", type=float, help="(default: the network's own)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args(argv)
    source = Path(arguments.data) if Path(arguments.data).exists() else arguments.data
    data = load(source, validation=arguments.validation, limit=arguments.train)
    rate = "" if arguments.learning_rate is None else f" --learning-rate {arguments.learning_rate}"
    command = (
        f"python benchmarks/trainability.py --data {data.name} --models {' '.join(arguments.models)} "
        f"--seeds {arguments.seeds} --train {arguments.train} --validation {arguments.validation} "
        f"--epochs {arguments.epochs}{rate}"
    )
    rows = []
    for model in arguments.models:
        for seed in range(arguments.seeds):
            rows.append(_train(model, data, _recipe(model, seed, arguments), command))
            print(json.dumps(rows[-1]), file=sys.stderr)
    result = {
        "data": {"source": data.name, "train": len(data.train), "validation": len(data.val)},
        "versions": versions(),
        "command": command,
        "threads": torch.get_num_threads(),
        "rows": rows,
        "summary": [_summary(model, rows) for model in arguments.models],
    }
    _print(result["summary"])
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def _recipe(model: str, seed: int, arguments: argparse.Namespace) -> Recipe:
    changes = dict(model_entry(model).recipe)
    if arguments.learning_rate is not None:
        changes["learning_rate"] = arguments.learning_rate
    return recipe("default", **{**changes, "epochs": arguments.epochs, "seed": seed, "shift": 0, "mirror": False})


def _train(model: str, data: ImageData, how: Recipe, command: str) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        path = Runs(Path(folder), data, None).complete(Trial(model, how), progress=False)
        return {**row(path), "command": command}


def _summary(model: str, rows: list[Row]) -> dict[str, Any]:
    accuracies = [each["accuracy"] for each in rows if each["model"] == model]
    return {
        "model": model,
        "seeds": len(accuracies),
        "mean": mean(accuracies),
        "std": stdev(accuracies) if len(accuracies) > 1 else None,
        "lowest": min(accuracies),
    }


def _print(summary: list[dict[str, Any]]) -> None:
    table = Table("model", "seeds", "mean accuracy", "std", "lowest")
    for each in summary:
        std = "" if each["std"] is None else f"{each['std']:.2%}"
        table.add_row(each["model"], str(each["seeds"]), f"{each['mean']:.2%}", std, f"{each['lowest']:.2%}")
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
