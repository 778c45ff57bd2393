"""What weights that come with simroot bring where a user has few photos: hand signs from those and from random weights.

    python benchmarks/pretrained_start.py --hands hand-digits-train --out results/pretrained_start.json

Of the students who are not in the validation part, so many photos are taken, of each sign as many. Network and recipe
are the same on both sides, the recipe the one that the defaults take for so many images. Accuracy is the last epoch's,
on the photos of the last fifth of the students. Rows of these weights that are in the file are kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from hand_signs import by_student

from simroot.data import ImageData
from simroot.data.splits import stratified
from simroot.files import write_text
from simroot.models.pretrained import weights_of
from simroot.training import choose, recipe, train
from simroot.training.environment import versions


def main(argv: Sequence[str] | None = None) -> int:
    """Train what is missing, and write its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hands", type=Path, required=True, help="folder of the hand-sign photos, a folder a digit")
    parser.add_argument("--start", default="simnet_20k_cifar10", help="a name of simroot.list_pretrained()")
    parser.add_argument("--photos", type=int, nargs="+", default=[50, 200])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("results/pretrained_start.json"))
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    rows = json.loads(arguments.out.read_text(encoding="utf-8"))["rows"] if arguments.out.exists() else []
    described = weights_of(arguments.start).described
    network = {"model": described["model"], "overrides": described["overrides"], "weights": described["accuracy"]}
    rows = [row for row in rows if all(row.get(key) == value for key, value in network.items())]
    done = {(row["start"], row["photos"], row["seed"]) for row in rows}
    data = by_student(arguments.hands, image_size=described["image_size"])
    for photos in arguments.photos:
        for seed in arguments.seeds:
            for start in (None, arguments.start):
                if (start, photos, seed) not in done:
                    rows.append({**network, **measure(data, photos, seed, start, described)})
                    print({key: rows[-1][key] for key in ("photos", "seed", "start", "accuracy")}, file=sys.stderr)
                    text = json.dumps({"rows": rows, "versions": versions()}, indent=1)
                    write_text(arguments.out, text + "\n")
    return 0


def measure(data: ImageData, photos: int, seed: int, start: str | None, described: Mapping[str, Any]) -> dict[str, Any]:
    """The row of one training of the network that weights are described as."""
    part = replace(data, train=data.train.subset(stratified(data.train.labels, photos, seed=seed)[0]))
    how = recipe(**{**choose(part).changes, "seed": seed, "patience": None})
    with tempfile.TemporaryDirectory() as folder:
        run = train(
            described["model"],
            part,
            how,
            folder,
            overrides=described["overrides"],
            initial=start,
            progress=False,
            accelerator="cpu",
        )
        summary = json.loads((run.path / "summary.json").read_text(encoding="utf-8"))
    return {
        "start": start,
        "photos": photos,
        "validation": len(data.val),
        "seed": seed,
        "accuracy": summary["last_accuracy"],
        "best_accuracy": summary["accuracy"],
        "epochs": how.epochs,
        "recipe": how.to_dict(),
    }


if __name__ == "__main__":
    sys.exit(main())
