"""A command in this process, and a run directory to use."""

from pathlib import Path

import pytest

from cli.result import Result, Simroot
from simroot.cli import main


@pytest.fixture
def simroot(capsys: pytest.CaptureFixture[str]) -> Simroot:
    def run(*words: object) -> Result:
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture(autouse=True)
def _quick_pictures(quick_pictures: None) -> None:
    """In all of this folder; the run of ``trained`` has real ones."""


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network trained for a moment on some of the digits."""
    path = tmp_path_factory.mktemp("runs") / "digits"
    assert main(["train", "--limit", "300", "--recipe.epochs", "2", "--quiet", "--out", str(path)]) == 0
    return path
