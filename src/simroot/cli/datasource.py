"""The arguments that say which images: the same for every command that reads labelled ones."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from simroot.errors import ConfigError, LineFormatter


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
        f"train/ and val/ or test/ (default: {default})",
    )
    group.add_argument("--data-root", type=Path, metavar="DIR", help="folder that holds the files of a NAME")
    return group


def data_source(arguments: argparse.Namespace) -> dict[str, Any]:
    """The data arguments that were given, by the names of ``simroot.data.load``'s parameters.

    Those left out must be absent from the parsed ones (``argument_default=argparse.SUPPRESS``).
    Paths are ``Path`` objects, so that a run directory records where they lead from anywhere.
    """
    from simroot.data import NAMES

    given = vars(arguments)
    source: dict[str, Any] = {key: given[key] for key in ("data_root", "image_size", "limit", "check") if key in given}
    if "data" in given:
        source["name_or_path"] = given["data"] if given["data"] in NAMES else data_path(given["data"])
    return source


def data_path(text: str) -> Path:
    """The path of ``--data``.

    Raises:
        ConfigError: for an empty one, which would be the current directory.
    """
    if not text:
        raise ConfigError("--data is empty; expected a name or a path (. for the current directory)")
    return Path(text).expanduser()


@contextmanager
def logging_to_stderr(*, quiet: bool = False) -> Iterator[None]:
    """Say on standard error what simroot logs, or its warnings alone."""
    logger, handler = logging.getLogger("simroot"), logging.StreamHandler()
    handler.setFormatter(LineFormatter())
    level = logger.level
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
