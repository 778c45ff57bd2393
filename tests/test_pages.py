"""The README and the guides: their tables are the results', their commands are known, and run."""

import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from simroot.cli import main
from simroot.cli.main import _parser

ROOT = Path(__file__).resolve().parents[1]
GUIDES = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", *GUIDES]
# For those who change the project: no command to give, nothing measured.
MAINTAINERS = {"architecture.md", "extending.md"}

# What a page calls a run, images, a folder.
STANDS_FOR = {"RUN": "runs/own", "RUN-int8": "runs/own-int8", "PATH": "photos", "FOLDER": "photos"}
# Lines that are not run, each with the reason.
NOT_RUN = {
    r"pip install": "installs packages: .ci/run and .ci/wheel do",
    r"^\. ": "changes the shell",
    r"imagenet|runs/resnet50_root16": "ImageNet's images are not here",
    r"fashion-mnist": "the files of the set are not here",
    r"--format tflite": "litert-torch is not among the dependencies: tests/export do it where it is",
    r"timm:": "timm is not among the dependencies",
    r"--verify": "cross-compilers and emulators are not here",
    r"^python benchmarks/": "takes minutes to hours",
    r"--resume": "its run is a training that was stopped; tests/training do it",
    r"--search": "trains dozens of networks; tests/cli do it with four",
    r"--milliseconds": "fits a cost model first, which takes minutes; tests/design do it",
    r"--format web|/web": "a compiler for the web may not be here; tests/cli/test_export_web.py does it",
    r"^make": "tests/export/c do it",
    r"^cmake": "builds the kernels: tests/test_extending.py does it",
    r"^(pytest|ruff|python)": "the tests themselves",
}
# Options that make a line short: trainings of one epoch, comparisons of two networks, times of a moment.
SHORTER = {
    r"^simroot train(?!.*recipe\.epochs)": "--recipe.epochs 1",
    r"^simroot train(?!.*--data)": "--limit 100",
    r"^simroot design.*--train": "--quick",
    r"^simroot design(?!.*--family)": "--family resnet --family simnet_mobile",
    r"^simroot reproduce.*--data (?!.*--quick)": "--quick",
    r"^simroot bench": "--seconds 0.01",
    r"^simroot quantise(?!.*--epochs)": "--epochs 1",
    r"^simroot (pretrain|train.*--pretrain( |$))": "--limit 30",
    r"^simroot pretrain": "--patches 2000 --layers 1",
    r"^simroot train.*--pretrain$": "--pretrain.patches 2000 --pretrain.layers 1",
}


class Line(NamedTuple):
    """A command of a page, and what the page says that it prints."""

    page: str
    text: str
    printed: str


def lines(path: Path) -> Iterator[Line]:
    """The lines of a page's shell blocks, without comments."""
    text = path.read_text(encoding="utf-8")
    for block, printed in re.findall(r"^```sh\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line := re.sub(r"(^|\s)#.*", "", line).strip():
                yield Line(path.name, line, printed)


LINES = [line for path in PAGES for line in lines(path)]


def reason_not_to_run(text: str) -> str | None:
    return next((reason for pattern, reason in NOT_RUN.items() if re.search(pattern, text)), None)


@pytest.fixture(scope="module")
def tables() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "tables.py"))


def test_tables_are_those_of_the_results(tables: dict[str, Any]) -> None:
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        assert tables["filled"](text) == text, f"{path.name}: run python docs/tables.py"
    used = set(re.findall(r"<!-- table (\S+) -->\n", "".join(path.read_text(encoding="utf-8") for path in PAGES)))
    assert used == set(tables["TABLES"])


def test_a_changed_table_is_noticed(tables: dict[str, Any]) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("± 0.52") == 1
    assert tables["filled"](text.replace("± 0.52", "± 0.62")) == text


@pytest.mark.parametrize("path", [path for path in GUIDES if path.name not in MAINTAINERS], ids=lambda path: path.name)
def test_guides_say_what_to_do_first_and_then_what_was_measured(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings[0] == "What to do"
    assert "What was measured" not in headings or headings[-1] == "What was measured"
    measured = text.partition("\n## What was measured\n")[2]
    by_hand = re.sub(r"<!-- table .*?<!-- end -->", "", measured, flags=re.DOTALL)
    assert not re.findall(r"^\|.*$", by_hand, re.MULTILINE), "tables of what was measured are made by docs/tables.py"
    assert "<!-- table" not in text.removesuffix(measured)
    # A conclusion stands above each table: bold, or words that go on from the table before.
    assert not re.findall(r"^(?:#.*|<!-- end -->)\n\n<!-- table", measured, re.MULTILINE)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150


def test_every_file_that_a_page_names_is_there() -> None:
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        named = re.findall(r"`((?:docs|results|benchmarks|tests|csrc|\.ci)/[\w./-]+)`", text)
        shown = re.findall(r"\]\(([\w./-]+)\)", text)
        missing = [name for name in named if "NAME" not in name and not (ROOT / name).exists()]
        missing += [name for name in shown if not (path.parent / name).exists()]
        assert not missing, path.name


COMMANDS = sorted({line.text for line in LINES if "simroot " in line.text and "pip install" not in line.text})


@pytest.mark.parametrize("text", COMMANDS)
def test_commands_are_known(text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(text.partition("simroot ")[2])
    _parser(words).parse_args(words)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the pages speak of: photos of three classes, more images, and a run that PAGES call RUN."""
    generator = np.random.default_rng(0)
    for folder, count in (("photos/red", 12), ("photos/green", 12), ("photos/blue", 12), ("new", 2)):
        (tmp_path / folder).mkdir(parents=True)
        for index in range(count):
            pixels = generator.integers(0, 90, (32, 32, 3))
            pixels[..., ("red", "green", "blue").index(folder[7:] or "red")] += 160
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / folder / f"{index}.png")
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "one.jpg")
    rows = [f"photos/{name}/{index}.png,{name}|old" for name in ("red", "green") for index in range(12)]
    (tmp_path / "tags.csv").write_text("\n".join(["file,labels", *rows, "new/0.png,"]))
    (tmp_path / "nets.py").write_text(own_network())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")  # tables leave columns out where there is less room
    return tmp_path


def own_network() -> str:
    """The file of a page that the commands below it name."""
    text = (ROOT / "docs" / "own-networks.md").read_text(encoding="utf-8")
    (found,) = re.findall(r"^```python\n(# nets\.py\n.*?)^```", text, re.MULTILINE | re.DOTALL)
    return str(found)


# Runs that a page takes for granted: page -> arguments of simroot train.
BEFORE = {
    "c-export.md": "--data photos --out runs/own",
    "integers.md": "--data photos --out runs/own",
    "export.md": "--data photos --out runs/own",
    "index.md": "--data photos --out runs/own",
    "training-long.md": "--data photos --out runs/own",
    "roots.md": "--data photos --model nin_root8 --out runs/nin_root8",
}


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in PAGES if any(lines(path))], ids=lambda path: path.name)
def test_the_commands_of_a_page_run(path: Path, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if path.name in BEFORE:
        assert main(["train", *shlex.split(BEFORE[path.name]), "--recipe.epochs", "1", "--quiet"]) == 0
    for line in lines(path):
        if reason_not_to_run(line.text):
            continue
        words = [shlex.quote(_here(word)) for word in shlex.split(line.text)]
        text = " ".join(words)
        text += "".join(f" {options}" for pattern, options in SHORTER.items() if re.search(pattern, text))
        text = re.sub(r"(--recipe\.epochs|^simroot quantise.*--epochs) \d+", r"\1 1", text)
        capsys.readouterr()
        code, out = _run(text, capsys)
        assert code == 0, f"{text}: {out[-2000:]}"
        for expected in line.printed.splitlines():
            assert expected.split() in [found.split() for found in out.splitlines()], (
                f"{text} does not print {expected}"
            )


def _here(word: str) -> str:
    """A word with the names of things that are here."""
    first, slash, rest = word.partition("/")
    return STANDS_FOR.get(first, first) + slash + rest


def _run(text: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """In this process, as each new one takes seconds; with a variable in front in one of its own."""
    words = shlex.split(text)
    if words[0] == "simroot":
        try:
            code = main(words[1:])
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out + captured.err
    variable, _, value = words[0].partition("=")
    command = [sys.executable, "-m", *words[1:]]
    done = subprocess.run(command, env={**os.environ, variable: value}, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_no_reason_and_no_option_is_left_over() -> None:
    texts = [line.text for line in [*LINES, *lines(ROOT / "CONTRIBUTING.md")]]
    for pattern in [*NOT_RUN, *SHORTER]:
        if pattern not in (r"^(pytest|ruff|python)", r"^\. "):
            assert any(re.search(pattern, text) for text in texts), pattern
