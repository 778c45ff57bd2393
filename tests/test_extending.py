"""docs/extending.md as a maintainer would follow it: its blocks go into a copy of the project, and all works."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS: list[str] = re.findall(r"^```(?:python|cpp)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
PLACE = re.compile(
    r"(?:#|//) (?:new file: (?P<new>\S+)|(?P<path>\S+), (?P<how>at its end|below|in place of)(?:: (?P<line>.+))?)"
)


def put(block: str, project: Path) -> None:
    """Put a block where its first line says.

    Raises:
        ValueError: for a first line of another kind, or a line that the file does not have once.
    """
    first, _, rest = block.partition("\n")
    place = PLACE.fullmatch(first)
    if place is None:
        raise ValueError(f"where does this go? {first}")
    if place["new"]:
        path = project / place["new"]
        path.parent.mkdir(exist_ok=True)
        assert not path.exists(), path
        path.write_text(rest, encoding="utf-8")
        return
    path = project / place["path"]
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if place["how"] == "at its end":
        lines.append(f"\n\n{rest}")
    else:
        (number,) = (index for index, line in enumerate(lines) if line.strip().startswith(place["line"]))
        lines[number] = rest if place["how"] == "in place of" else lines[number] + rest
    path.write_text("".join(lines), encoding="utf-8")


def build(project: Path) -> str | None:
    """Build the library for the portable instruction set, without optimisation; why not, if there is no compiler."""
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None or sys.platform != "linux":
        return "there is no C++ compiler"
    sources = [path for path in (project / "csrc").glob("*.cpp") if not path.name.endswith("_op.cpp")]
    library = project / "src" / "simroot" / "libsimroot.so"
    library.unlink(missing_ok=True)
    flags = ["-std=c++17", "-O0", "-shared", "-fPIC", "-pthread", "-DSIMROOT_ISA=portable", "-o", str(library)]
    done = subprocess.run([compiler, *flags, *map(str, sources)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return None


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources with everything that the page adds."""
    copy = tmp_path_factory.mktemp("project")
    for folder in ("src", "csrc"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for block in BLOCKS:
        if not block.startswith("# try it"):
            put(block, copy)
    return copy


def test_every_block_has_a_place_and_every_part_is_tried(tmp_path: Path) -> None:
    assert all(block.startswith("# try it") or PLACE.match(block) for block in BLOCKS)
    parts = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
    # The operator is tried with its kernel.
    assert {name for name, text in parts.items() if "# try it" not in text} == {"An operator"}
    assert list(parts) == [
        "A model", "An operator", "A CPU kernel", "An engine", "An export format", "A data set", "A table",
    ]  # fmt: skip


def test_a_block_goes_where_it_says(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("one\ntwo\n")
    put("# a.py, below: one\n  more\n", tmp_path)
    put("# a.py, in place of: two\nthree\n", tmp_path)
    put("# new file: b/c.py\nnew\n", tmp_path)
    assert (tmp_path / "a.py").read_text() == "one\n  more\nthree\n"
    assert (tmp_path / "b" / "c.py").read_text() == "new\n"
    with pytest.raises(ValueError, match="where does this go"):
        put("nowhere\n", tmp_path)
    with pytest.raises(ValueError, match="not enough values"):
        put("# a.py, below: four\nmore\n", tmp_path)


@pytest.mark.slow
def test_what_the_page_adds_works(project: Path) -> None:
    if reason := build(project):
        pytest.skip(reason)
    tries = [block for block in BLOCKS if block.startswith("# try it")]
    # An editable installation would find its own sources before those on PYTHONPATH.
    copy_first = (
        "import sys\nsys.meta_path[:] = [each for each in sys.meta_path if 'editable' not in each.__module__]\n"
    )
    script = copy_first + "\n".join(tries)
    environment = {**os.environ, "PYTHONPATH": str(project / "src")}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_what_the_page_adds_is_typed_and_tidy(project: Path) -> None:
    new = [str(project / place["new"]) for block in BLOCKS if (place := PLACE.match(block)) and place["new"]]
    new = [path for path in new if path.endswith(".py")]
    settings = ["--config", str(ROOT / "pyproject.toml")]
    for command in (["check", *settings], ["format", "--check", *settings]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *new], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout
