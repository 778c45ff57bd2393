"""The papers' tables and figures, each a small module."""

from __future__ import annotations

from collections.abc import Callable

from simroot.experiments import deep_roots_table_2, deep_roots_table_4, deep_roots_table_5, deep_roots_table_6
from simroot.experiments.tables import SizeRow, SizeTable

# Name -> what computes it.
TABLES: dict[str, Callable[[], SizeTable]] = {
    "deep-roots-table-2": deep_roots_table_2.table,
    "deep-roots-table-4": deep_roots_table_4.table,
    "deep-roots-table-5": deep_roots_table_5.table,
    "deep-roots-table-6": deep_roots_table_6.table,
}

__all__ = ["TABLES", "SizeRow", "SizeTable"]
