"""``simroot report``."""

from pathlib import Path

from cli.result import Simroot


def test_a_page_is_written_and_named(simroot: Simroot, trained: Path, tmp_path: Path) -> None:
    result = simroot("report", trained, "--out", tmp_path / "page.html", "--images", 3)
    assert (result.code, result.out) == (0, f"{tmp_path / 'page.html'}\n")
    assert "simnet2_small on digits" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_what_is_no_run(simroot: Simroot, tmp_path: Path) -> None:
    result = simroot("report", tmp_path)
    assert result.code == 2
    assert str(tmp_path) in result.err


def test_a_folder_that_is_not_there(simroot: Simroot, trained: Path, tmp_path: Path) -> None:
    result = simroot("report", trained, "--out", tmp_path / "none" / "page.html")
    assert result.code == 2
    assert str(tmp_path / "none") in result.err
