"""Runs beside each other: a table, the figures as JSON and their learning curves as a plot.

    python benchmarks/compare_runs.py runs/simnet2 runs/simnet2_twin runs/convnet_caffe --out results/cifar10_30_epochs

Reads summary.json and metrics.csv of finished runs; writes OUT.json and OUT.png. The accuracy is the last epoch's:
the best epoch's would favour whoever's curve is rougher.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from rich.console import Console
from rich.table import Table

mpl.use("Agg")
from matplotlib import pyplot as plt


def main(argv: Sequence[str] | None = None) -> int:
    """Collect the runs and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, help="name of the files to write, without an ending")
    arguments = parser.parse_args(argv)
    rows = [_row(run) for run in arguments.runs]
    _print(rows)
    if arguments.out:
        text = json.dumps({"rows": rows}, indent=1) + "\n"
        arguments.out.with_suffix(".json").write_text(text, encoding="utf-8")
        _plot(rows, arguments.out.with_suffix(".png"))
    return 0


def _row(run: Path) -> dict[str, Any]:
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        curve = [float(row["val_accuracy"]) for row in csv.DictReader(file)]
    source = summary["data"].pop("source") or {}
    data = Path(source.get("name_or_path", summary["data"]["name"])).name
    overrides = "".join(f" --set {key}={value}" for key, value in summary["overrides"].items())
    recipe = summary["recipe"]
    return {
        "model": summary["model"] + ("" if not overrides else f" ({overrides.replace(' --set ', '')})"),
        "seed": summary["seed"],
        "epochs": summary["epochs"],
        "accuracy": summary["last_accuracy"],
        "best_accuracy": summary["accuracy"],
        "parameters": summary["parameters"],
        "macs": summary["macs"],
        "flops": summary["flops"],
        "seconds": summary["seconds"],
        "seconds_per_epoch": summary["seconds_per_epoch"],
        "data": summary["data"],
        "recipe": recipe,
        "versions": summary["versions"],
        "command": f"simroot train --data {data} --model {summary['model']}{overrides} "
        f"--recipe.epochs {recipe['epochs']} --recipe.learning_rate {recipe['learning_rate']} "
        f"--recipe.seed {recipe['seed']} --threads {summary['versions']['threads']}",
        "validation_accuracy_by_epoch": curve,
    }


def _print(rows: list[dict[str, Any]]) -> None:
    table = Table("model", "epochs", "accuracy", "best", "parameters", "MACs", "s/epoch")
    for row in rows:
        table.add_row(
            row["model"],
            str(row["epochs"]),
            f"{row['accuracy']:.2%}",
            f"{row['best_accuracy']:.2%}",
            f"{row['parameters']:,}",
            f"{row['macs']:,}",
            f"{row['seconds_per_epoch']:.0f}",
        )
    Console().print(table)


def _plot(rows: list[dict[str, Any]], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for row in rows:
        curve = row["validation_accuracy_by_epoch"]
        label = f"{row['model']}: {row['accuracy']:.1%}, {row['macs'] / 1e6:.1f} M MACs"
        axes.plot(range(1, len(curve) + 1), [100 * accuracy for accuracy in curve], label=label)
    axes.set(xlabel="epoch", ylabel="validation accuracy (%)", title=rows[0]["data"]["name"])
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
