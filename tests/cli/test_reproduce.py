"""The papers' tables on the command line."""

import pytest

from cli.result import Simroot
from simroot.experiments import TABLES


def test_names(simroot: Simroot) -> None:
    out = simroot("reproduce").out
    assert all(name in out for name in TABLES)
    assert simroot("reproduce", "--json").json == list(TABLES)


def test_table_as_json(simroot: Simroot) -> None:
    rows = simroot("reproduce", "deep-roots-table-2", "--json").json
    assert rows[3] == {
        "model": "nin_root8",
        "parameters": 314_954,
        "macs": 103_343_498,
        "paper_parameters": 315_000,
        "paper_macs": 103_000_000,
    }


def test_table(simroot: Simroot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    out = simroot("reproduce", "deep-roots-table-2").out
    assert "314,954" in out
    assert "5 of 5 rows agree in every printed digit" in out
    assert max(map(len, out.splitlines())) <= 100


def test_unknown_table(simroot: Simroot) -> None:
    result = simroot("reproduce", "table-9")
    assert result.code == 2
    assert "unknown table 'table-9'; known are deep-roots-table-2" in result.err
