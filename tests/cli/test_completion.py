"""Help for people and for shells."""

import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec

import pytest

from cli.result import Simroot
from simroot.cli.main import COMMANDS, EXAMPLES, _parser


def test_every_command_has_examples_that_are_known(simroot: Simroot) -> None:
    assert set(EXAMPLES) == set(COMMANDS)
    for name, examples in EXAMPLES.items():
        for example in examples:
            words = [name, *shlex.split(example)]
            _parser(words).parse_args(words)
    text = simroot("doctor", "--help").out
    assert re.search(r"^examples:\n  simroot doctor$", text, re.MULTILINE)


def test_without_shtab_it_is_named(simroot: Simroot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    result = simroot("--print-completion", "bash")
    assert (result.code, "pip install 'simroot[completion]'" in result.err) == (2, True)


@pytest.mark.skipif(find_spec("shtab") is None, reason="shtab is not installed")
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_learns_commands_and_options(simroot: Simroot, shell: str) -> None:
    result = simroot("--print-completion", shell)
    assert result.code == 0
    assert "--recipe.epochs" in result.out
    assert "rootify" in result.out


@pytest.mark.slow
@pytest.mark.parametrize("words", [("models",), ("--print-completion", "bash")])
def test_a_reader_that_has_gone_gets_nothing_more(words: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "simroot", *words]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert "Traceback" not in done.stderr
    assert done.returncode in (1, 2)  # without shtab it is named
