"""What the defaults that follow the data bring, on sets of 200 to 40,000 images: before and after, row by row.

    python benchmarks/defaults.py --hands hand-digits-train --cifar cifar10-train-images.tar.gz \
        --fashion /usr/share/datasets/fashion-mnist

"after" is what ``simroot.training.choose`` takes, and so ``simroot train --data DIR``; "before" is simnet_mixed with
four filter groups by the same recipe, which was taken before. Rows that are in the JSON file already are kept, so that
a run that was stopped goes on; ``--only`` names sets, in the order in which to train, ``--arms`` one of the two. The
hand signs are of students: the last fifth of them, by the numbers of the photos, is held out. Of CIFAR-10 and
Fashion-MNIST every tenth of the 10,000 images that are held out is looked at. Seconds are the process's CPU seconds on
one thread, with validation: compare those of one machine, and of one hour. ``python docs/tables.py`` makes the
table of the page.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from hand_signs import by_student

from simroot.data import ImageData, from_arrays, load
from simroot.files import write_text
from simroot.measure import count
from simroot.models import create_model, deploy
from simroot.models.image_sizes import Plan, plan
from simroot.training import Choice, choose, recipe, train
from simroot.training.defaults import registered
from simroot.training.environment import versions

Row = dict[str, Any]

_EVERY = 10
# Layers on each grid, of many images, and channels by (layers, whether there is a fourth grid).
_MANY, _CHANNELS = 20_000, {(1, False): 25.0, (1, True): 17.0, (2, False): 25.25, (2, True): 18.0}


def _before(data: ImageData) -> Choice:
    choice = choose(data)
    if choice.model != "simnet_residual":  # images too small for it have what they had
        return choice
    depth = 1 + (len(data.train) >= _MANY)
    channels = _CHANNELS[depth, plan(data.image_size) != Plan()]
    changes = {**choice.changes, "weight_decay": registered("simnet_mixed").weight_decay}
    return Choice("simnet_mixed", {"channels": channels, "depth": depth, "degree": 4}, changes)


_ARMS: dict[str, Callable[[ImageData], Choice]] = {"before": _before, "after": choose}


def main(argv: Sequence[str] | None = None) -> int:
    """Train what is missing, and write its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hands", type=Path, help="folder of the hand-sign photos, a folder for each digit")
    parser.add_argument("--cifar", type=Path, help="folder or archive of CIFAR-10's training images")
    parser.add_argument("--fashion", type=Path, help="folder of Fashion-MNIST's files")
    parser.add_argument("--only", nargs="+", help="names of sets, as in the table")
    parser.add_argument("--arms", nargs="+", default=list(_ARMS), choices=list(_ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path("results/defaults.json"))
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    kept = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.out.exists() else {}
    rows: list[Row] = kept.get("rows", [])
    done = {(row["set"], row["arm"], row["seed"]) for row in rows}
    sets = _sets(arguments)
    if unknown := set(arguments.only or ()) - set(sets):
        parser.error(f"--only names {', '.join(sorted(unknown))}: of the files that are given, expected {list(sets)}")
    for name in arguments.only or sets:
        missing = [(arm, seed) for arm in arguments.arms for seed in arguments.seeds if (name, arm, seed) not in done]
        if not missing:
            continue
        data = sets[name]()
        for arm, seed in missing:
            rows.append({"set": name, "arm": arm, "seed": seed, **_train(_ARMS[arm](data), data, seed)})
            print(json.dumps(rows[-1]), file=sys.stderr)
            write_text(arguments.out, json.dumps({**kept, "rows": rows}, indent=1) + "\n")
    return 0


def _sets(arguments: argparse.Namespace) -> dict[str, Callable[[], ImageData]]:
    """Name -> what loads it, of the sets whose files are given."""
    found: dict[str, Callable[[], ImageData]] = {"digits": lambda: load("digits")}
    if arguments.hands:
        found["hand signs"] = lambda: by_student(arguments.hands)
    if arguments.fashion:
        fashion = cache(lambda: load("fashion-mnist", data_root=arguments.fashion, download=False))
        found |= {f"Fashion-MNIST, {n:,}": partial(_part, fashion, n) for n in (200, 1_000, 5_000)}
    if arguments.cifar:
        cifar = cache(lambda: load(arguments.cifar, validation=10_000))
        found |= {f"CIFAR-10, {n:,}": partial(_part, cifar, n) for n in (200, 1_000, 5_000, 40_000)}
    return found


def _part(whole: Callable[[], ImageData], number: int) -> ImageData:
    """So many of the training images and every tenth of the validation images."""
    data = whole()
    splits = data.train, data.val.subset(torch.arange(0, len(data.val), _EVERY))
    (images, labels), (val_images, val_labels) = (
        (split.read(torch.arange(len(split))).numpy(), split.labels.numpy()) for split in splits
    )
    part = from_arrays(
        images, labels, data.classes, val_images=val_images, val_labels=val_labels, limit=number, name=data.name
    )
    return replace(part, named=data.named)


def _train(choice: Choice, data: ImageData, seed: int) -> Row:
    how = recipe(**{**choice.changes, "seed": seed})
    overrides = {"image_size": data.image_size, **choice.overrides}
    cost = count(
        deploy(create_model(choice.model, len(data.classes), data.channels, **overrides)),
        data.preparation.shape,
    )
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        run = train(choice.model, data, how, folder, overrides=choice.overrides, progress=False, accelerator="cpu")
        seconds = time.process_time() - started
        with (run.path / "metrics.csv").open(encoding="utf-8") as file:
            curve = [float(row["val_accuracy"]) for row in csv.DictReader(file)]
        return {
            "model": choice.model,
            "overrides": dict(choice.overrides),
            "recipe": run.recipe.to_dict(),
            "train": len(data.train),
            "validation": len(data.val),
            "image_size": data.image_size,
            "parameters": cost.parameters,
            "macs": cost.macs,
            "accuracy": curve[-1],
            "best_accuracy": max(curve),
            "epochs": len(curve),
            "cpu_seconds": round(seconds, 1),
            "versions": versions(),
            "validation_accuracy_by_epoch": curve,
        }


if __name__ == "__main__":
    sys.exit(main())
