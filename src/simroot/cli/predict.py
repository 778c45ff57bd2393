"""``simroot predict``: the most probable classes of images. For an exported file it needs no PyTorch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from simroot.cli.datasource import logging_to_stderr
from simroot.cli.output import percent, print_json, print_table
from simroot.cli.values import positive
from simroot.data.archives import ARCHIVES
from simroot.data.columns import Columns
from simroot.data.forms import tables_of
from simroot.data.tree import read_listing
from simroot.engines import is_network_file
from simroot.errors import ConfigError, DataError, one_line, printable
from simroot.export import Predictor
from simroot.export.task import AnyClasses, Task, task_of
from simroot.images.decoding import Picture, probe, read_image
from simroot.images.listing import ImageFile, name_text
from simroot.images.preparation import MUCH_CUT, Preparation
from simroot.images.sources import Source

_BATCH = 256
_TOP = 3


class Network(Protocol):
    """What classifies: a run or an exported file."""

    classes: tuple[str, ...]
    task: Task

    @property
    def preparation(self) -> Preparation:
        """How it takes images."""

    def read(self, picture: Picture | Source) -> NDArray[np.uint8]:
        """An image as the network takes it, uint8 (C, H, W)."""

    def predict(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        """uint8 (N, C, H, W) -> probabilities (N, classes)."""


class Prediction(NamedTuple):
    """An image with the classes that are named of it, best first."""

    image: ImageFile
    classes: list[tuple[str, float]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("path", metavar="RUN|FILE", type=Path, help="a run directory, or an exported file of one")
    parser.add_argument(
        "images",
        metavar="IMAGE",
        type=Path,
        nargs="+",
        help="image files, or folders or archives of them, or tables, Parquet or shards",
    )
    parser.add_argument(
        "--top",
        type=positive,
        metavar="K",
        help=f"classes to show for each image (default: {_TOP}; if images may have several, all that reach their "
        "thresholds)",
    )
    parser.add_argument(
        "--image-column", metavar="COLUMN", help="of a table, the column of the images (default: found)"
    )
    parser.add_argument(
        "--image-root", type=Path, metavar="DIR", help="the folder that a table's paths start from (default: its own)"
    )
    parser.add_argument("--threads", type=positive, metavar="N", help="of a file's engine (default: its own choice)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Print the predictions; images that cannot be read are named on standard error and left out.

    The exit code is 1 if one of them was named on the command line.
    """
    network = _network(arguments.path, arguments.threads)
    skipped: dict[str, str] = {}
    columns = Columns(image=arguments.image_column, root=arguments.image_root)
    several = isinstance(network.task, AnyClasses)
    top = arguments.top if arguments.top or several else _TOP
    with logging_to_stderr():
        images = _files(arguments.images, columns)
    predictions = list(_predict(network, images, top, skipped))
    for message in skipped.values():
        print(f"simroot predict: skipped: {one_line(message)}", file=sys.stderr)
    _say_what_is_cut(network, [image for image, _ in predictions])
    if arguments.json:
        print_json(
            [
                {"image": image.name, "classes": [{"class": name, "probability": p} for name, p in classes]}
                for image, classes in predictions
            ]
        )
    elif predictions and several:
        rows = [(image.name, _words(classes) or "none") for image, classes in predictions]
        print_table(f"Predictions of {arguments.path}", ["image", "classes"], rows)
    elif predictions:
        best = [(image.name, name, percent(share), _words(others)) for image, [(name, share), *others] in predictions]
        heads = ["image", "class", "probability", "then"]
        print_table(f"Predictions of {arguments.path}", heads, best, numbers=["probability"], optional=["then"])
    return 0 if predictions and not skipped.keys() & set(map(str, arguments.images)) else 1


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

    def read(self, picture: Picture | Source) -> NDArray[np.uint8]:
        return read_image(picture, self._run.preparation)

    def predict(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        return self._run.predict(images)


def _predict(
    network: Network, images: Sequence[ImageFile], top: int | None, skipped: dict[str, str]
) -> Iterator[Prediction]:
    for start in range(0, len(images), _BATCH):
        pixels, names = [], []
        for image in images[start : start + _BATCH]:
            try:
                pixels.append(network.read(image.source))
                names.append(image)
            except DataError as error:
                skipped[image.name] = str(error) if isinstance(image.source, Path) else f"{image.name}: {error}"
        if not names:
            continue
        for image, shares in zip(names, network.predict(np.stack(pixels)), strict=True):
            named = network.task.said(shares, top)
            yield Prediction(image, [(network.classes[k], float(shares[k])) for k in named])


def _say_what_is_cut(network: Network, images: Sequence[ImageFile]) -> None:
    """A line on standard error if much of an image is never seen."""
    cut = [(1 - network.preparation.frame(*probe(image.source)[:2]).kept, image.name) for image in images]
    if much := [(share, name) for share, name in cut if share >= MUCH_CUT]:
        share, worst = max(much, key=lambda pair: pair[0])
        print(
            f"simroot predict: of {len(much):,} of {len(images):,} images a quarter or more is cut away, the most "
            f"{share:.0%} of {printable(name_text(worst))}: this network sees the middle only; one trained with --fit "
            "pad or stretch sees all",
            file=sys.stderr,
        )


def _files(paths: Sequence[Path], columns: Columns) -> list[ImageFile]:
    """The images named, and those in folders, archives and tables, as training finds them; what is left out is said."""
    found: list[ImageFile] = []
    tables = {path: tables_of(path) for path in paths}
    if not any(tables.values()):
        columns.require_none(f"{paths[0]} is no table")
    for path in paths:
        if (table := tables[path]) is not None:
            found += table.images(columns)
            continue
        if path.is_dir():
            listing = read_listing(path)
            inside = [path.joinpath(*parts) for parts in sorted(listing.images)]
            found += [ImageFile(str(image), image) for image in inside]
        elif path.name.lower().endswith(ARCHIVES):
            images = sorted(read_listing(path).images.items())
            found += [ImageFile(f"{path.name}/{name_text('/'.join(parts))}", source) for parts, source in images]
        else:
            found.append(ImageFile(str(path), path))
    return found
