"""``simroot predict``: the most probable classes of images."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from simroot.cli.output import percent, print_json, print_table
from simroot.cli.values import positive
from simroot.data import decode, normalise
from simroot.data.decode import SUFFIXES
from simroot.errors import DataError
from simroot.training import Run, load_run

_BATCH = 256


class Prediction(NamedTuple):
    """An image with its most probable classes, best first."""

    image: Path
    classes: list[tuple[str, float]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("path", metavar="RUN", type=Path, help="a run directory")
    parser.add_argument("images", metavar="IMAGE", type=Path, nargs="+", help="image files, or folders of them")
    parser.add_argument(
        "--top", type=positive, default=3, metavar="K", help="classes to show for each image (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Print the predictions; images that cannot be read are named on standard error and left out."""
    trained = load_run(arguments.path)
    skipped: list[str] = []
    predictions = list(_predict(trained, _files(arguments.images), arguments.top, skipped))
    for message in skipped:
        print(f"simroot predict: skipped: {message}", file=sys.stderr)
    if arguments.json:
        print_json(
            [
                {"image": str(image), "classes": [{"class": name, "probability": p} for name, p in classes]}
                for image, classes in predictions
            ]
        )
    elif predictions:
        rows = [
            (str(image), best, percent(share), ", ".join(f"{name} {percent(p)}" for name, p in others))
            for image, [(best, share), *others] in predictions
        ]
        columns = ["image", "class", "probability", "then"]
        print_table(f"Predictions of {trained.path}", columns, rows, numbers=["probability"])
    return 0 if predictions else 1


@torch.inference_mode()
def _predict(trained: Run, images: Sequence[Path], top: int, skipped: list[str]) -> Iterator[Prediction]:
    for start in range(0, len(images), _BATCH):
        pixels, names = [], []
        for image in images[start : start + _BATCH]:
            try:
                pixels.append(decode(image, trained.channels, trained.image_size))
                names.append(image)
            except DataError as error:
                skipped.append(str(error))
        if not names:
            continue
        scores = trained.model(normalise(torch.stack(pixels), trained.mean, trained.std))
        best = scores.softmax(1).topk(min(top, len(trained.classes)))
        for image, shares, labels in zip(names, best.values.tolist(), best.indices.tolist(), strict=True):
            yield Prediction(image, [(trained.classes[k], p) for k, p in zip(labels, shares, strict=True)])


def _files(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        if not inside:
            raise DataError(f"{path} holds no images (looked for {', '.join(sorted(SUFFIXES))})")
        found += inside
    return found
