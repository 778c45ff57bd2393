"""The site is built without a warning, and has a page for each guide, each room and each result."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import simroot.layers
import simroot.ops

ROOT = Path(__file__).resolve().parents[1]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("mkdocstrings") is None, reason="needs simroot[docs]"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_guide_and_result_is_a_page(site: Path) -> None:
    for path in (ROOT / "docs").glob("*.md"):
        name = "index.html" if path.stem == "index" else f"{path.stem}/index.html"
        assert (site / name).exists(), path
    for path in (ROOT / "results").glob("*.md"):
        assert (site / "results" / path.stem / "index.html").exists(), path


def test_every_guide_is_in_the_navigation(site: Path) -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [path.name for path in (ROOT / "docs").glob("*.md") if f": {path.name}\n" not in navigation] == []


@pytest.mark.parametrize("room", [simroot.ops, simroot.layers], ids=["ops", "layers"])
def test_every_public_name_of_a_room_has_an_entry(site: Path, room: ModuleType) -> None:
    name = room.__name__
    page = (site / "reference" / name.rpartition(".")[2] / "index.html").read_text(encoding="utf-8")
    # A function may be named as its module.
    entries = {member: (f'id="{name}.{member}"', f'id="{name}.{member}.{member}"') for member in room.__all__}
    assert [member for member, ids in entries.items() if not any(each in page for each in ids)] == []


def test_links_to_files_become_links_of_the_site(site: Path) -> None:
    start = (site / "index.html").read_text(encoding="utf-8")
    assert '<a href="budget/"><code>budget.md</code></a>' in start
    experiments = (site / "experiments" / "index.html").read_text(encoding="utf-8")
    assert 'src="../results/compact-frontier.png"' in experiments
