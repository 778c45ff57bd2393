"""What installed packages bring: networks that they declare as entry points, found without importing any of them.

A package declares ``tiny = "package.module:builder"`` in the group ``simroot.models``. So ``tiny`` names a network.
"""

from __future__ import annotations

import functools
import logging
from importlib.metadata import EntryPoint, distributions

GROUP = "simroot.models"

log = logging.getLogger(__name__)


@functools.cache
def networks() -> dict[str, EntryPoint]:
    """Name -> entry point; of two packages with one name, the first in the alphabet has it."""
    points: list[EntryPoint] = []
    for package in distributions():
        try:
            points += package.entry_points.select(group=GROUP)
        except Exception as error:  # whatever one package has written there, the others do not suffer
            log.warning("the entry points of %s cannot be read: %s", package.name, error)
    return {point.name: point for point in sorted(points, key=source, reverse=True)}


def source(point: EntryPoint) -> str:
    """The package that an entry point is of, for people."""
    package = point.dist
    return "an unknown package" if package is None else f"{package.name} {package.version}"
