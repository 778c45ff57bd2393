"""Networks of the user's own on a command line: ``package.module:builder``, wherever a command takes a network.

What is named there is imported; what a run directory names is imported with ``--trust`` alone.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

# The arguments in which commands take networks, or runs.
_ARGUMENTS = ("trust", "model", "networks", "teacher")
_ADDRESS = re.compile(r"[\w.]+:[\w.]+(:.*)?")


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Declare ``--trust``."""
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="PACKAGE.MODULE:BUILDER",
        help="import this network of yours, which a run directory names; never done unasked. May be repeated",
    )


def import_networks(arguments: argparse.Namespace) -> None:
    """Import every network that the words name as ``package.module:builder``, also from the current folder.

    Raises:
        ConfigError: if one cannot be imported.
    """
    named = [word for word in _words(arguments) if _ADDRESS.fullmatch(word) and not Path(word).exists()]
    if not named:
        return
    from simroot.models import name_and_overrides, use

    if (folder := str(Path.cwd())) not in sys.path:
        sys.path.append(folder)  # behind what is installed: no file there takes the place of a library
    for word in named:
        use(name_and_overrides(word)[0])


def _words(arguments: argparse.Namespace) -> Iterator[str]:
    for name in _ARGUMENTS:
        given = getattr(arguments, name, None) or ()
        yield from [given] if isinstance(given, str) else map(str, given) if isinstance(given, list) else ()
