"""Does pre-training help a SimNet? Pre-trained and random starts, with all labels and with few.

    python benchmarks/pretraining.py --data cifar10-train-images.tar.gz --out results/pretraining.json

Pre-trains each network on all training images without labels, then trains it from there and from random weights with
the same recipe, images and seeds on 1,000, on 5,000 and on all labelled images. Writes JSON after every training, and a
plot beside it; killed and called again it goes on where it stopped. Run directories are kept in --runs.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from simroot.reproduce.simnets_pretraining import EPOCHS, LABELS, NETWORKS, PRETRAINED, RANDOM, conduct


def main(argv: Sequence[str] | None = None) -> int:
    """Conduct the comparison and print its summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10", help="name or path of the images (default: %(default)s)")
    parser.add_argument("--runs", type=Path, default=Path("runs/pretraining"), help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("results/pretraining.json"), help="(default: %(default)s)")
    parser.add_argument("--networks", nargs="+", help="of the registry (default: all four cases)")
    parser.add_argument("--labels", nargs="+", type=int, help="0 for all (default: 1000 5000 0)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1], help="(default: 0 1)")
    parser.add_argument("--epochs", nargs="+", type=int, default=list(EPOCHS), help="(default: %(default)s)")
    parser.add_argument("--patches", type=int, help="sampled for every layer (default: pre-training's own)")
    parser.add_argument("--layers", type=int, help="initialised by pre-training, from the image on (default: all)")
    arguments = parser.parse_args(argv)
    given = {"patches": arguments.patches, "layers": arguments.layers}
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("simroot").setLevel(logging.INFO)
    path = Path(arguments.data)
    result = conduct(
        {"name_or_path": path if path.exists() else arguments.data},
        runs=arguments.runs,
        out=arguments.out,
        networks=[each for each in NETWORKS if not arguments.networks or each.model in arguments.networks],
        labels=LABELS if arguments.labels is None else [count or None for count in arguments.labels],
        seeds=arguments.seeds,
        epochs=arguments.epochs,
        options={name: value for name, value in given.items() if value is not None},
    )
    table = Table("network", "labels", "start", *(f"after {epoch}" for epoch in arguments.epochs))
    for each in result["summary"]:
        for kind in (RANDOM, PRETRAINED):
            accuracies = [f"{value:.2%}" for value in each[kind].values()]
            table.add_row(each["network"], f"{each['labels']:,}", kind, *accuracies)
        table.add_row("", "", "gain in points", *(f"{value:+.2f}" for value in each["gain"].values()))
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
