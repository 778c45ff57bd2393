"""How far something long is: a bar for whoever watches, and a line in the log now and then for others."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

logger = logging.getLogger("simroot")
Item = TypeVar("Item")


def watched(items: Iterable[Item], description: str, total: int | None = None, every: float = 30.0) -> Iterator[Item]:
    """The items, with a progress bar on a terminal; elsewhere the log says now and then how many there were.

    ``every`` says how many seconds lie between two lines.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        yield from track(items, description, total=total, console=console, transient=True)
        return
    said = time.monotonic()
    for number, item in enumerate(items):
        if time.monotonic() - said > every:
            said = time.monotonic()
            logger.info("%s: %s%s", description, f"{number:,}", "" if total is None else f" of {total:,}")
        yield item
