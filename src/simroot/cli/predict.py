"""``simroot predict``: the most probable classes of images. For an exported file it needs no PyTorch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from simroot.cli.output import percent, print_json, print_table
from simroot.cli.values import positive
from simroot.engines import is_network_file
from simroot.errors import ConfigError, DataError
from simroot.export import Predictor
from simroot.export.task import AnyClasses, Task, task_of
from simroot.images.decoding import probe, read_image
from simroot.images.listing import SUFFIXES, name_text, walk
from simroot.images.preparation import MUCH_CUT, Preparation

_BATCH = 256
_TOP = 3


class Network(Protocol):
    """What classifies: a run or an exported file."""

    classes: tuple[str, ...]
    task: Task

    @property
    def preparation(self) -> Preparation:
        """How it takes images."""

    def read(self, path: Path) -> NDArray[np.uint8]:
        """An image file as the network takes it, uint8 (C, H, W)."""

    def predict(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        """uint8 (N, C, H, W) -> probabilities (N, classes)."""


class Prediction(NamedTuple):
    """An image with the classes that are named of it, best first."""

    image: Path
    classes: list[tuple[str, float]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("path", metavar="RUN|FILE", type=Path, help="a run directory, or an exported file of one")
    parser.add_argument("images", metavar="IMAGE", type=Path, nargs="+", help="image files, or folders of them")
    parser.add_argument(
        "--top",
        type=positive,
        metavar="K",
        help=f"classes to show for each image (default: {_TOP}; if images may have several, all that reach their "
        "thresholds)",
    )
    parser.add_argument("--threads", type=positive, metavar="N", help="of a file's engine (default: its own choice)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Print the predictions; images that cannot be read are named on standard error and left out.

    The exit code is 1 if one of them was named on the command line.
    """
    network = _network(arguments.path, arguments.threads)
    skipped: dict[Path, str] = {}
    several = isinstance(network.task, AnyClasses)
    top = arguments.top if arguments.top or several else _TOP
    predictions = list(_predict(network, _files(arguments.images), top, skipped))
    for message in skipped.values():
        print(f"simroot predict: skipped: {message}", file=sys.stderr)
    _say_what_is_cut(network, [image for image, _ in predictions])
    if arguments.json:
        print_json(
            [
                {"image": str(image), "classes": [{"class": name, "probability": p} for name, p in classes]}
                for image, classes in predictions
            ]
        )
    elif predictions and several:
        rows = [(str(image), _words(classes) or "none") for image, classes in predictions]
        print_table(f"Predictions of {arguments.path}", ["image", "classes"], rows)
    elif predictions:
        best = [(str(image), name, percent(share), _words(others)) for image, [(name, share), *others] in predictions]
        columns = ["image", "class", "probability", "then"]
        print_table(f"Predictions of {arguments.path}", columns, best, numbers=["probability"], optional=["then"])
    return 0 if predictions and not skipped.keys() & set(arguments.images) else 1


def _words(classes: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {percent(share)}" for name, share in classes)


def _network(path: Path, threads: int | None) -> Network:
    if is_network_file(path):
        return Predictor(path, threads=threads)
    if threads is not None:
        raise ConfigError("--threads goes with an exported file, not with a run")
    return _TrainedRun(path)


class _TrainedRun:
    """A run directory, which needs PyTorch."""

    def __init__(self, path: Path) -> None:
        from simroot.training import load_run

        self._run = load_run(path)
        self.classes = self._run.classes
        self.task = task_of(self._run.thresholds)
        self.preparation = self._run.preparation

    def read(self, path: Path) -> NDArray[np.uint8]:
        return read_image(path, self._run.preparation)

    def predict(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        return self._run.predict(images)


def _predict(
    network: Network, images: Sequence[Path], top: int | None, skipped: dict[Path, str]
) -> Iterator[Prediction]:
    for start in range(0, len(images), _BATCH):
        pixels, names = [], []
        for image in images[start : start + _BATCH]:
            try:
                pixels.append(network.read(image))
                names.append(image)
            except DataError as error:
                skipped[image] = str(error)
        if not names:
            continue
        for image, shares in zip(names, network.predict(np.stack(pixels)), strict=True):
            named = network.task.said(shares, top)
            yield Prediction(image, [(network.classes[k], float(shares[k])) for k in named])


def _say_what_is_cut(network: Network, images: Sequence[Path]) -> None:
    """A line on standard error if much of an image is never seen."""
    cut = {image: 1 - network.preparation.frame(*probe(image)[:2]).kept for image in images}
    much = [image for image in images if cut[image] >= MUCH_CUT]
    if much:
        worst = max(much, key=lambda image: cut[image])
        print(
            f"simroot predict: of {len(much):,} of {len(images):,} images a quarter or more is cut away, the most "
            f"{cut[worst]:.0%} of {name_text(str(worst))}: this network sees the middle only; one trained with --fit "
            "pad or stretch sees all",
            file=sys.stderr,
        )


def _files(paths: Sequence[Path]) -> list[Path]:
    """The files named, and those in the folders named, found as for a training; what is left out is said."""
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        listing = walk(path)
        counts = listing.counts()
        if not listing.images:
            looked_for = ", ".join(sorted(SUFFIXES))
            raise DataError(f"{path} holds no images (looked for {looked_for}; found {counts or 'no file'})")
        if counts:
            print(f"simroot predict: {name_text(str(path))}: left out {counts}", file=sys.stderr)
        found += [path.joinpath(*parts) for parts in sorted(listing.images)]
    return found
