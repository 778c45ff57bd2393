"""What a command imports is what it waits for: most of them need neither PyTorch nor Lightning."""

import inspect
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from simroot.cli.main import COMMANDS
from simroot.cli.train import _PLACE, DEFAULT_DATA
from simroot.data import load
from simroot.models.catalogue import CATALOGUE, catalogue
from simroot.training import train

# Packages that take a second and more, and the compiler of PyTorch.
SLOW = {"lightning", "matplotlib", "scipy", "sklearn", "sympy", "torch", "torch._dynamo", "torchmetrics", "torchvision"}


def imported(*commands: Sequence[object]) -> set[str]:
    """The slow packages that a process has imported after these commands."""
    words = [list(map(str, command)) for command in commands]
    script = f"""
import sys
from simroot.cli import main
for words in {words!r}:
    try:
        code = main(words)
    except SystemExit as stop:
        code = stop.code
    assert not code, words
print("\\n", *set({sorted(SLOW)!r}) & sys.modules.keys())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_help_and_the_list_of_networks_need_none() -> None:
    assert imported(["--help"], *([command, "--help"] for command in COMMANDS), ["models", "--json"]) == set()


@pytest.mark.slow
def test_counting_needs_no_more_than_torch() -> None:
    assert imported(["cost", "convnet_plain"]) == {"torch"}


@pytest.mark.slow
def test_a_run_is_used_without_lightning(trained: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    assert imported(["cost", trained], ["predict", trained, tmp_path / "a.png"]) == {"torch"}


def test_the_catalogue_is_that_of_the_registry() -> None:
    assert json.loads(CATALOGUE.read_text()) == catalogue(), "write it anew: python -m simroot.models.catalogue"


def test_defaults_that_help_names_are_those_of_the_functions() -> None:
    trained = inspect.signature(train).parameters
    assert {name: trained[name].default for name in _PLACE} == _PLACE
    assert inspect.signature(load).parameters["name_or_path"].default == DEFAULT_DATA
