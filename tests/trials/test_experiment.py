"""Reports: tables."""

from __future__ import annotations

import pytest

from simroot.trials.experiment import markdown_table


def test_a_table_has_a_cell_for_each_column() -> None:
    assert markdown_table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |"
    for row in (["1"], ["1", "2", "3"]):
        with pytest.raises(ValueError, match="zip"):
            markdown_table(["a", "b"], [row])
