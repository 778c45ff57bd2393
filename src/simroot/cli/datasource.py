"""The arguments that say which images: the same for every command that reads labelled ones."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from simroot.cli.values import background, image_size, pixel_range, positive, share_or_count
from simroot.data.columns import COLUMN_ARGUMENTS
from simroot.errors import ConfigError, LineFormatter
from simroot.images.preparation import FITS

_KEYS = (
    "data_root",
    "image_size",
    "fit",
    "pixel_range",
    "background",
    "limit",
    "check",
    "validation",
    "near_duplicates",
    "multi_label",
    *COLUMN_ARGUMENTS,
)


def add_data_arguments(parser: argparse.ArgumentParser, default: str) -> argparse._ArgumentGroup:
    """Declare ``--data`` and ``--data-root`` in a group that more can be added to.

    Args:
        parser: receives the arguments.
        default: what the help says is read without ``--data``.
    """
    from simroot.data import NAMES

    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        metavar="NAME|PATH",
        help=f"{', '.join(NAMES)}, or a folder or an archive (.tar, .tar.gz, .zip) of class folders, which may lie in "
        "train/ and val/ or test/, or a table (.csv, .tsv, .jsonl), Parquet or shards ({000..099}.tar); see "
        f"docs/data.md (default: {default})",
    )
    group.add_argument("--data-root", type=Path, metavar="DIR", help="folder that holds the files of a NAME")
    kinds = {
        "image": "the images",
        "label": "their classes",
        "split": "the words train, val and test",
        "group": "what stays on one side where a part is held out, such as persons",
    }
    for kind, what in kinds.items():
        found = "none" if kind == "group" else "found by its name"
        group.add_argument(
            f"--{kind}-column", metavar="COLUMN", help=f"of a table, the column of {what} (default: {found})"
        )
    group.add_argument(
        "--group-level",
        type=positive,
        metavar="N",
        help="of folders, what stays on one side: 1 for the folders inside of the class folders, 2 for those inside of "
        "these (default: none)",
    )
    group.add_argument(
        "--image-root",
        type=Path,
        metavar="DIR",
        help="the folder that the paths of a table start from and stay in (default: the table's)",
    )
    return group


def add_part_arguments(group: argparse._ArgumentGroup, *, short: bool = True) -> None:
    """Declare what says which folders are trained on and which are held against them.

    Args:
        group: receives the arguments.
        short: whether ``--train`` and ``--val`` name them, too; for commands where ``--train`` is no other option.
    """
    group.add_argument(
        *("--train", "--train-part")[not short :],
        dest="train_part",
        metavar="DIR",
        help="the folder whose folders are the classes to train on, inside of --data or a path of its own (default: "
        "found by its name, or all of the data)",
    )
    group.add_argument(
        *("--val", "--val-part")[not short :],
        dest="val_part",
        metavar="DIR",
        help="likewise the validation images (default: found by its name, or some held out)",
    )
    group.add_argument(
        "--validation",
        type=share_or_count,
        metavar="SHARE|N",
        help="how much to hold out where there is no validation part: a share below 1 or a number of images (default: "
        "0.2 of a folder's; at least one image of every class is left to train on)",
    )


def add_multi_label_argument(group: argparse._ArgumentGroup) -> None:
    """Declare ``--multi-label``, for commands that train: a run and its files know it."""
    group.add_argument(
        "--multi-label",
        action="store_true",
        help="an image may have any number of classes, also none: the labels of a table are lists of names, or texts "
        "with | between (default: one class)",
    )


def add_preparation_arguments(group: argparse._ArgumentGroup, *, size_help: str | None = None) -> None:
    """Declare what says how images become a network's input.

    Args:
        group: receives the arguments.
        size_help: what the help says of ``--image-size``; None for what ``simroot.data.load`` does.
    """
    from simroot.images.preparation import AUTO, LARGEST_IN_MEMORY

    group.add_argument(
        "--image-size",
        type=image_size,
        metavar="N|H,W",
        help=size_help
        or "bring images to N x N pixels, or height H and width W (default: as they are if all are square, of one size "
        f"of at most {LARGEST_IN_MEMORY}, else {LARGEST_IN_MEMORY})",
    )
    group.add_argument(
        "--fit",
        choices=(AUTO, *FITS),
        help="of images of another shape crop the middle, pad or stretch (default: crop if less than a quarter of the "
        "pixels is lost, else stretch if all have about one shape, else pad)",
    )
    group.add_argument(
        "--pixel-range",
        type=pixel_range,
        metavar="LOW,HIGH",
        help="of greys of more than 8 bits the values that become black and white, or full (default: auto, those of "
        "the training images)",
    )
    group.add_argument(
        "--background",
        type=background,
        metavar="COLOUR",
        help="behind transparent pixels and around padded images: white, black or R,G,B (default: auto, on which the "
        "training images are seen)",
    )


def data_source(arguments: argparse.Namespace, configured: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The data arguments that were given, by the names of ``simroot.data.load``'s parameters.

    Those left out must be absent from the parsed ones (``argument_default=argparse.SUPPRESS``).
    Paths are ``Path`` objects, so that a run directory records where they lead from anywhere.

    Args:
        arguments: parsed.
        configured: what holds where the arguments name no data: what a config.yaml says, or a default.
    """
    from simroot.data import NAMES

    given = vars(arguments)
    source: dict[str, Any] = {key: given[key] for key in _KEYS if key in given}
    usual: str | Path | None = (configured or {}).get("name_or_path")
    if "data" in given:
        source["name_or_path"] = given["data"] if given["data"] in NAMES else data_path(given["data"])
    elif "train_part" in given and usual is None:
        source |= {"name_or_path": data_path(given["train_part"], "--train"), "train": "."}
    elif "val_part" in given and usual is None:
        raise ConfigError("--val needs --data or --train, to say what to train on")
    for part in ("train", "val"):
        if f"{part}_part" in given and part not in source:
            source[part] = _part_path(source.get("name_or_path") or usual or "", given[f"{part}_part"], f"--{part}")
    return source


def _part_path(data: str | Path, text: str, option: str) -> str | Path:
    """A folder inside of the data as its name there, so that it is found when the data has moved; or another path."""
    own = data_path(text, option)
    if isinstance(data, str) or not own.exists():
        return text
    if data.is_dir():
        if (data / own).exists() and not own.is_absolute():
            return text
        if own.resolve().is_relative_to(data.resolve()):
            return own.resolve().relative_to(data.resolve()).as_posix()
    return own


def data_path(text: str, option: str = "--data") -> Path:
    """The path of ``--data``, or of another option.

    Raises:
        ConfigError: for an empty one, which would be the current directory.
    """
    if not text:
        raise ConfigError(f"{option} is empty; expected a name or a path (. for the current directory)")
    return Path(text).expanduser()


class _StandardError(logging.Handler):
    """Writes to what standard error is at the moment: above bars of progress where there are some."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record as a line."""
        print(self.format(record), file=sys.stderr, flush=True)


@contextmanager
def logging_to_stderr(*, quiet: bool = False) -> Iterator[None]:
    """Say on standard error what simroot logs, or its warnings alone."""
    logger, handler = logging.getLogger("simroot"), _StandardError()
    handler.setFormatter(LineFormatter())
    level, propagate = logger.level, logger.propagate
    logger.propagate = False  # a library may have given the root logger a handler, which would say it again
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
