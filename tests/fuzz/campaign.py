"""Cases in processes of their own, and the rule: a success or one line, in time, and nothing else."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from simroot.errors import SimrootError

SECONDS = 60
LONGEST = 1200
_MEMORY = 20 << 30


@dataclass(frozen=True)
class Finding:
    """A case that broke the rule."""

    kind: str
    seed: int
    fault: str


class TooLongError(BaseException):
    """A case did not end in time; no handler of ours may take it for an error of its own."""


def check(kind: str, seed: int, samples: Path, folder: Path) -> str | None:
    """Run one case in this process; what was wrong with it, or None."""
    from fuzz.kinds import KINDS

    def late(*_: object) -> None:
        raise TooLongError

    out, err = io.StringIO(), io.StringIO()
    signal.signal(signal.SIGALRM, late)
    place = folder / "case"
    place.mkdir()
    before = sorted(folder.iterdir()), sorted(samples.rglob("*"))
    os.chdir(place)
    code: object = 0
    signal.alarm(SECONDS)
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(record=True) as caught,
        ):
            warnings.simplefilter("always")
            code = KINDS[kind](samples, place, Random(f"{kind} {seed}"))
    except SystemExit as stop:
        code = stop.code
    except SimrootError as error:
        code = 2
        err.write(f"{error}\n")
    except TooLongError:
        return f"takes more than {SECONDS} seconds"
    except BaseException:
        return "traceback:\n" + "".join(traceback.format_exc().splitlines(keepends=True)[-9:])
    finally:
        signal.alarm(0)
        os.chdir(folder)
    return _broken(code, out.getvalue(), err.getvalue(), caught) or (
        "a file outside its folder" if (sorted(folder.iterdir()), sorted(samples.rglob("*"))) != before else None
    )


def _broken(code: object, out: str, err: str, caught: list[warnings.WarningMessage]) -> str | None:
    caught = [each for each in caught if not issubclass(each.category, DeprecationWarning)]
    # Pillow says what is damaged in an image that it can read.
    foreign = [str(each.message)[:200] for each in caught if "PIL" not in each.filename]
    foreign = [text for text in foreign if "LeafSpec" not in text]
    if isinstance(code, int) and code not in (0, 1, 2):
        return f"exit code {code}: {err[-300:]!r}"
    if foreign:
        return f"warning: {foreign[0]!r}"
    if "Traceback" in err:
        return f"traceback: {err[-600:]}"
    lines = err.splitlines()
    if long := [line for line in lines if len(line) > LONGEST]:
        return f"a line of {len(long[0])} characters: {long[0][:300]!r}"
    if odd := [line for line in lines if not line.isprintable()]:
        return f"control characters: {odd[0][:300]!r}"
    if code == 2 and not lines:
        return "no message"
    return f"control characters on standard output: {out[:300]!r}" if "\x1b" in out else None


def main(arguments: list[str]) -> int:
    """``child KIND FIRST COUNT SAMPLES``: run cases and print a line of JSON after each."""
    kind, first, count, samples = arguments
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    results, sys.stdout = sys.stdout, sys.stderr
    _draw_nothing()
    for seed in range(int(first), int(first) + int(count)):
        with tempfile.TemporaryDirectory() as folder:
            fault = check(kind, seed, Path(samples), Path(folder).resolve())
            os.chdir("/")
        print(json.dumps(asdict(Finding(kind, seed, fault or ""))), file=results, flush=True)
    return 0


def _draw_nothing() -> None:
    """Pictures are composed but not rendered: that takes longer than all else."""
    from matplotlib.figure import Figure

    def save(*_: object, **__: object) -> None:
        return None

    Figure.savefig = save  # type: ignore[method-assign]


def run(kind: str, first: int, count: int, samples: Path) -> list[Finding]:
    """Findings among ``count`` cases of a kind; a process that dies is a finding, and the next goes on after it."""
    found: list[Finding] = []
    seed = first
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "200"}
    while seed < first + count:
        command = [sys.executable, "-m", "fuzz", "child", kind, str(seed), str(first + count - seed), str(samples)]
        limit = 120 + 3 * SECONDS + 20 * count
        code: int | str
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit, env=environment, check=False)
            lines, code, err = done.stdout.splitlines(), done.returncode, done.stderr
        except subprocess.TimeoutExpired as late:
            lines, code, err = (late.stdout or b"").decode().splitlines(), "a hang", ""
        results = [Finding(**json.loads(line)) for line in lines]
        found += [each for each in results if each.fault]
        seed += len(results)
        if seed < first + count:
            found.append(Finding(kind, seed, f"the process ended with {code}: {err[-800:]}"))
            seed += 1
    return found
