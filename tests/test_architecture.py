"""The shape of the project: which room may import which, file sizes, and what its files must not speak of."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from rooms import LEAVES, MODULES, PACKAGE, PAGE, ROOT, arrows, arrows_of, drawn, reduced, room_of

_LEAVES = set(LEAVES)
_NETWORKS = _LEAVES | {"ops", "layers", "roots", "models"}
_BESIDE = {"data", "estimators"}
_MEASURED = _NETWORKS | _BESIDE | {"pretraining", "engines", "export", "measure"}

# Room -> the other rooms that it may import. docs/architecture.md says what each holds.
ALLOWED = {
    "_version": set(),
    "borrowed": set(),
    "errors": set(),
    "lazy": set(),
    "files": {"errors"},
    "installed": set(),
    "notebook": set(),
    "modules": {"errors"},
    "untrusted": {"errors"},
    "images": {"errors"},
    "ops": {"borrowed", "errors"},
    "layers": {"errors", "modules", "ops"},
    "roots": {"borrowed", "errors", "modules", "ops", "layers"},
    "models": _LEAVES | {"ops", "layers", "roots"},
    "data": _LEAVES,
    "estimators": {"borrowed", "errors"},
    "pretraining": _NETWORKS | _BESIDE,
    "engines": _NETWORKS,
    "export": _NETWORKS | {"engines"},
    "measure": _NETWORKS | {"engines", "export"},
    "training": _MEASURED,
    "report": _MEASURED | {"training"},
    "classifier": _MEASURED | {"training"},
    "trials": _MEASURED | {"training"},
    "design": _MEASURED | {"training", "trials"},
    "reproduce": _MEASURED | {"training", "trials", "design"},
    "cli": _MEASURED | {"training", "report", "trials", "design", "reproduce"},
    "__main__": {"cli"},
}

# What belongs to the place where the project is written rather than to the project: somebody's folders,
# a tracker's numbers.
FOREIGN = re.compile(r"(?<![\w.~}])/(home|root|work|Users|tmp/\w+)/|\bissues? #?\d")


def tracked() -> list[Path]:
    """Every file of the project that git keeps or would keep."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(PACKAGE)) for path in MODULES])
def test_imports_go_one_way(path: Path) -> None:
    room = room_of(path)
    assert room in ALLOWED, f"{room} is no room of simroot"
    found = arrows_of(path)
    assert found <= ALLOWED[room], f"{room} must not import {sorted(found - ALLOWED[room])}"


def test_the_page_about_the_rooms_is_up_to_date() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert drawn(page) == page, "draw it anew: python tests/rooms.py"
    rooms = {room_of(path) for path in MODULES} - {"__main__"}
    assert not [room for room in rooms if f"`{room}.py`" not in page and f"`{room}/`" not in page]
    named = re.findall(r"`((?:[\w]+/)+[\w]+\.(?:py|cpp|hpp))`", page)
    assert named
    assert not [path for path in named if not any((folder / path).is_file() for folder in (ROOT, PACKAGE))]


def test_the_walk_sees_every_form_of_import() -> None:
    source = (
        "import simroot.cli\nfrom simroot import ops\nfrom ..layers import x\nfrom . import y\n"
        "def f():\n    from simroot.data.loader import load\n"
    )
    assert arrows(source, "simroot.models.registry") == {"cli", "ops", "data", "layers", "models"}
    assert arrows("from . import similarity", "simroot.ops.__init__") == {"ops"}


def test_arrows_that_follow_from_others_are_left_out() -> None:
    assert reduced({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"a": {"b"}, "b": {"c"}, "c": set()}


def test_files_stay_short() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in tracked()
        if path.suffix == ".py" and (count := len(path.read_text().splitlines())) >= 400
    }
    assert not long


def test_files_speak_of_the_project_alone() -> None:
    foreign = []
    for path in tracked():
        if "vendor" in path.parts:  # what others wrote speaks of their project
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        foreign += [f"{path.relative_to(ROOT)}: {match.group()}" for match in FOREIGN.finditer(text)]
    assert not foreign


def test_every_dependency_has_a_lower_bound() -> None:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11 or newer
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [name for extra in project["optional-dependencies"].values() for name in extra]
    others = [name for name in project["dependencies"] + extras if not name.startswith("simroot[")]
    assert not [name for name in others if ">=" not in name]


@pytest.mark.parametrize("statement", ["import simroot", "import simroot.cli"])
def test_import_is_light(statement: str) -> None:
    script = (
        f"import sys; {statement}; print(sorted({{'torch', 'numpy', 'lightning', 'matplotlib'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_lazy_names_resolve() -> None:
    import simroot

    assert set(dir(simroot)) == set(simroot.__all__)
    assert all(hasattr(simroot, name) for name in simroot.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        simroot.nothing  # noqa: B018


def test_no_name_of_a_lazy_package_is_a_module_of_it() -> None:
    """Which of the two a package had would depend on what was imported before."""
    for path in (ROOT / "src" / "simroot").rglob("__init__.py"):
        served = re.search(r"^serve\(.*?^\)", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        names = set(re.findall(r'"(\w+)"', served.group())) if served else set()
        modules = {other.stem for other in path.parent.iterdir() if other.is_dir() or other.suffix == ".py"}
        assert not names & modules, path
