"""What rootify makes of the models of torchvision and timm: layers grouped, what is saved, what it leaves and why.

    python benchmarks/rootify_models.py --out results/rootify_models.json
    python benchmarks/rootify_models.py --models torchvision:resnet18 timm:resnet26 --degree 4

Each model is built with random weights, rootified, and the root network run once. Writes JSON and, beside it, the table
in Markdown. The models of timm are left out where it is not installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from simroot.models import build_network, rootify_with_report
from simroot.training.environment import versions
from simroot.trials.experiment import markdown_table

TORCHVISION = (
    "resnet18",
    "resnet50",
    "googlenet",
    "vgg16_bn",
    "densenet121",
    "regnet_y_400mf",
    "convnext_tiny",
    "mobilenet_v3_small",
    "efficientnet_b0",
)
TIMM = (
    "resnet26",
    "resnetv2_50",
    "regnety_002",
    "efficientnet_b0",
    "mobilenetv3_small_100",
    "convnext_atto",
    "dla34",
    "nf_resnet26",
    "hrnet_w18_small",
    "ese_vovnet19b_slim",
)
MODELS = (*(f"torchvision:{name}" for name in TORCHVISION), *(f"timm:{name}" for name in TIMM))


def main(argv: Sequence[str] | None = None) -> int:
    """Rootify every model and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="(default: nineteen)")
    parser.add_argument("--degree", type=int, default=8, help="filter groups of the first stage (default: %(default)s)")
    parser.add_argument("--size", type=int, default=224, help="height and width of the image (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("results/rootify_models.json"), help="(default: %(default)s)")
    arguments = parser.parse_args(argv)
    rows = []
    for name in arguments.models:
        if name.startswith("timm:") and importlib.util.find_spec("timm") is None:
            print(f"{name} left out: timm is not installed", file=sys.stderr)
            continue
        rows.append(rootified(name, arguments.degree, arguments.size))
        print(*cells(rows[-1]), sep="  ")
    result = {"degree": arguments.degree, "size": arguments.size, "versions": versions(), "rows": rows}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    columns = ["model", "grouped", "parameters before", "after", "MACs before", "after", "left as they are"]
    table = markdown_table(columns, [cells(row) for row in rows]) + "\n"
    arguments.out.with_suffix(".md").write_text(table, encoding="utf-8")
    return 0


def rootified(name: str, degree: int, size: int) -> dict[str, Any]:
    """The sizes of one model before and after, and why layers were left."""
    torch.manual_seed(0)
    x = torch.zeros(1, 3, size, size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # GoogLeNet announces another initialisation
        model = build_network(name, {}).eval()
    root, report = rootify_with_report(model, degree, example_input=x)
    with torch.inference_mode():
        assert root(x).shape == model(x).shape
    left = Counter(layer.note or "one group" for layer in report.layers if layer.groups == layer.groups_before)
    return {
        "model": name,
        "grouped": len(report.layers) - left.total(),
        "spatial": len(report.layers),
        "parameters_before": report.parameters_before,
        "parameters": report.parameters,
        "macs_before": report.macs_before,
        "macs": report.macs,
        "left": dict(left.most_common()),
    }


def cells(row: dict[str, Any]) -> list[str]:
    """A row of the table."""
    left = "; ".join(f"{count}: {why}" for why, count in row["left"].items())
    sizes = [f"{row[f'{kind}{when}']:,}" for kind in ("parameters", "macs") for when in ("_before", "")]
    return [row["model"], f"{row['grouped']} of {row['spatial']}", *sizes, left]


if __name__ == "__main__":
    sys.exit(main())
