"""What values look like in a notebook: a table in HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def html_table(title: str, rows: Iterable[Sequence[object]], columns: Sequence[str] = ()) -> str:
    """A table with a title; numbers have separated thousands and stand on the right, as do all columns but the first.

    Args:
        title: above the table.
        rows: the cells; text from outside is escaped.
        columns: names of the columns; none for a list of facts.
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(map(_cell, row, range(len(row))))}</tr>" for row in rows)
    return f"<table><caption>{escape(title)}</caption>{f'<tr>{head}</tr>' * bool(columns)}{body}</table>"


def _cell(value: object, index: int) -> str:
    shown = "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
    side = "left" if index == 0 else "right"
    return f'<td style="text-align: {side}">{escape(shown)}</td>'
