"""A part of the campaign; ``python -m tests.fuzz --cases 250`` is the whole."""

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from fuzz import campaign
from fuzz.kinds import KINDS
from fuzz.samples import make, make_run
from simroot.errors import ConfigError


@pytest.fixture
def _here() -> Iterator[None]:
    before = Path.cwd()
    yield
    os.chdir(before)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    make_run(folder)
    return folder


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No case may change them: the campaign looks."""
    folder = tmp_path_factory.mktemp("samples")
    make(folder)
    return folder


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize("kind", ["config", "weights", "summary"])
def test_a_few_cases(run: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda *_, **__: None)
    for seed in range(12):
        folder = tmp_path / str(seed)
        folder.mkdir()
        assert campaign.check(kind, seed, run, folder) is None, f"{kind} {seed}"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_part_of_the_campaign(samples: Path, kind: str) -> None:
    assert campaign.run(kind, 10_000, 3, samples) == []


def raising(*_: object) -> int:
    raise KeyError("x")


def refusing(*_: object) -> int:
    raise ConfigError("no")


def warning(*_: object) -> int:
    warnings.warn("from inside", stacklevel=1)
    return 0


def printing(text: str) -> Callable[[Path, Path, Random], int]:
    def case(*_: object) -> int:
        print(text, file=sys.stderr)
        return 2

    return case


def writing(samples: Path, folder: Path, random: Random) -> int:
    (folder.parent / "other").touch()
    return 0


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize(
    ("case", "fault"),
    [
        (raising, "traceback"),
        (warning, "warning: 'from inside'"),
        (writing, "outside its folder"),
        (printing("x" * 2000), "a line of 2000 characters"),
        (printing("\x1b[31m"), "control characters"),
        (lambda *_: 2, "no message"),
        (lambda *_: 134, "exit code 134"),
        (refusing, None),
        (printing("wrong"), None),
    ],
)
def test_the_rule_finds_what_breaks_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Callable[[Path, Path, Random], int], fault: str | None
) -> None:
    monkeypatch.setitem(KINDS, "x", case)
    found = campaign.check("x", 0, tmp_path, tmp_path)
    assert (found is None) if fault is None else (fault in str(found))


@pytest.mark.slow
def test_the_rule_finds_what_takes_too_long(tmp_path: Path) -> None:
    # In a process of its own, as the campaign: a signal that the process of the tests gets may end it.
    script = """
import sys, time
from pathlib import Path
from fuzz import campaign
from fuzz.kinds import KINDS

campaign.SECONDS = 1
KINDS["x"] = lambda *_: time.sleep(60)
print(campaign.check("x", 0, Path(sys.argv[1]), Path(sys.argv[1])))
"""
    path = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False)
    assert done.stdout.strip() == "takes more than 1 seconds", done.stderr
