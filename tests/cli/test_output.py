"""Tables on terminals of 80 columns and in files."""

import logging
import sys

import pytest

from simroot.cli.datasource import logging_to_stderr
from simroot.cli.output import print_table

LONG = "runs/simnet2_small-hand-digits-train-1/model.onnx"
COLUMNS = ["name", "kind", "parameters", "MACs", "note"]
NUMBERS = ["parameters", "MACs"]


def shown(capsys: pytest.CaptureFixture[str], *rows: list[str]) -> list[str]:
    print_table("Title", COLUMNS, rows, numbers=NUMBERS, optional=["note", "kind"], total=["total", "", "3", "3", ""])
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("kind", ["Conv2d", "A kind with a long name of its own"])
def test_what_fits_is_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = shown(capsys, ["short", kind, "1,000,000", "2", "a note"])
    assert lines[1].split() == COLUMNS
    assert lines[3].split()[0] == "short"
    assert "a note" in lines[3]


def test_names_are_whole_and_what_gives_way_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = shown(capsys, [LONG, "Similarity2d", "1,000,000", "2,000,000,000", "a note"], ["b", "", "1", "2", ""])
    assert lines[1].split() == ["name", "parameters", "MACs"]
    assert lines[3].split() == [LONG, "1,000,000", "2,000,000,000"]
    assert lines[-1] == "Not shown for want of room: note, kind; --json has all."
    assert max(map(len, lines)) <= 80


def test_a_name_that_nothing_makes_room_for_is_folded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = shown(capsys, [3 * LONG, "", "1,000,000", "2", ""])
    assert "".join("".join(lines[3:-4]).replace("1,000,000", "").split()).startswith(f"{LONG[:20]}")
    assert "1,000,000" in "".join(lines)
    assert "…" not in "".join(lines)


def test_files_have_no_width(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = shown(capsys, [3 * LONG, "Similarity2d", "1,000,000", "2", 100 * "x"])
    assert lines[3].split() == [3 * LONG, "Similarity2d", "1,000,000", "2", 100 * "x"]


def test_what_is_logged_is_said_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.StreamHandler()  # as a library leaves one
    monkeypatch.setattr(logging.root, "handlers", [*logging.root.handlers, root])
    with logging_to_stderr():
        root.setStream(sys.stderr)
        logging.getLogger("simroot").warning("int8 is slower")
    assert capsys.readouterr().err.count("int8 is slower") == 1
    assert logging.getLogger("simroot").propagate
