"""What all commands print with: tables for people, JSON for programs, both on standard output."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from simroot.errors import ConfigError, printable

_ENDLESS = 10_000  # columns
_GAP = 2  # between columns of a table
_FOLDED = 20  # columns into which text can be folded and still be read


def console() -> Console:
    """A console on what is standard output now; it prints names of files and classes as they are.

    In a file or a pipe lines are as long as they come, unless ``COLUMNS`` says otherwise.
    """
    endless = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _ENDLESS
    return Console(markup=False, highlight=False, emoji=False, width=endless)


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Sequence[str] = (),
    total: Sequence[str] | None = None,
    optional: Sequence[str] = (),
) -> None:
    """Print rows under a title. The first column, names, is broken only where nothing else makes room.

    Args:
        title: the line above the table.
        columns: the headers.
        rows: one string per column.
        numbers: the headers whose column is aligned to the right and never broken.
        total: a last row below a line of its own.
        optional: the headers of columns that a narrow terminal can do without, the first to go first; which went is
            said below the table.
    """
    rows, width = [tuple(map(printable, row)) for row in rows], console().width
    needed = [_room(cells, foldable=name not in numbers) for name, *cells in zip(columns, *rows, strict=True)]
    needed[0] = _room([row[0] for row in rows])
    if total is not None:
        needed = [max(room, _room([cell])) for room, cell in zip(needed, total, strict=True)]
    needed = [max(room, _room([name])) for room, name in zip(needed, columns, strict=True)]
    kept, left_out = list(range(len(columns))), []
    for name in filter(columns.__contains__, optional):
        if _fits(needed, kept, width):
            break
        kept = [index for index in kept if columns[index] != name]
        left_out.append(" ".join(name.split()))
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for index in kept:
        right = columns[index] in numbers
        whole = right or (index == 0 and _fits(needed, kept, width))
        table.add_column(columns[index], justify="right" if right else "left", no_wrap=whole, overflow="fold")
    for row in rows:
        table.add_row(*(row[index] for index in kept))
    if total is not None:
        table.add_section()
        table.add_row(*(total[index] for index in kept), style="bold")
    _print(title, table)
    if left_out:
        console().print(f"Not shown for want of room: {', '.join(left_out)}; --json has all.", style="dim")


def _fits(needed: Sequence[int], kept: Sequence[int], width: int) -> bool:
    return sum(needed[index] for index in kept) + _GAP * (len(kept) - 1) <= width


def _room(cells: Sequence[str], *, foldable: bool = False) -> int:
    """Columns of the terminal that the longest line of the cells takes, or at least needs if it can be folded."""
    longest = max((cell_len(line) for cell in cells for line in cell.split("\n")), default=0)
    return min(longest, _FOLDED) if foldable else longest


def print_facts(title: str, facts: Iterable[tuple[str, str]]) -> None:
    """Print a table of two columns without a header: what, and its value."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(printable(name), printable(value))
    _print(title, table)


def _print(title: str, table: Table) -> None:
    # Not as the table's own title: that would be broken at the table's width.
    console().print(printable(title), style="bold")
    console().print(table)


def print_json(value: Any) -> None:
    """Print one JSON document and nothing else; JSON has no infinity, so that it becomes the word ``inf``."""
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")  # escapes of other kinds are no JSON
    except UnicodeEncodeError:  # names of files may be any bytes, and a terminal may know few letters
        text = json.dumps(_finite(value), indent=2, allow_nan=False)
    print(text)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def require_folder(out: Path) -> None:
    """Refuse a file of ``--out`` whose folder is not there, before the work.

    Raises:
        ConfigError: naming the folder.
    """
    if not out.parent.is_dir():
        raise ConfigError(f"{out.parent}, the folder of --out, does not exist; make it first")


def count_text(number: int | None) -> str:
    """A count with separated thousands, such as ``64,578``; ``-`` if it is not known."""
    return "-" if number is None else f"{number:,}"


def size_text(size: tuple[int, ...]) -> str:
    """A shape as people write it, such as ``3x32x32``."""
    return "x".join(map(str, size))


def percent(share: float | None) -> str:
    """A share such as 0.9556 as ``95.56 %``; ``-`` if there is none."""
    return "-" if share is None or share != share else f"{100 * share:.2f} %"
