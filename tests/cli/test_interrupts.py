"""Ctrl-C while modules are loaded, and while they are not."""

import importlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from simroot.cli import main
from simroot.cli.interrupts import after_imports

INTERRUPTED = "import signal; signal.raise_signal(signal.SIGINT)\n"


@pytest.fixture(autouse=True)
def _as_on_a_terminal() -> Iterator[None]:
    """A shell starts background jobs with Ctrl-C ignored, and Python leaves it so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_while_a_command_is_loaded() -> None:
    script = (
        "import importlib, signal, sys\n"
        "from simroot.cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "importlib.import_module = lambda name: signal.raise_signal(signal.SIGINT)\n"
        "sys.exit(main(['train']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "simroot train: interrupted\n")


@pytest.mark.slow
def test_a_module_is_loaded_to_its_end_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stopped_in_the_middle.py").write_text(f"{INTERRUPTED}end = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt), after_imports():
        _load_and_wait()
    assert sys.modules.pop("stopped_in_the_middle").end


def _load_and_wait() -> None:
    importlib.import_module("stopped_in_the_middle")
    time.sleep(10)


def test_while_a_command_works(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("simroot.cli.models.run", lambda arguments: signal.raise_signal(signal.SIGINT))
    assert main(["models"]) == 130
    assert capsys.readouterr().err == "simroot models: interrupted\n"
