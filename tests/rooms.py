"""The rooms of the package and which imports which, read from the sources.

``python tests/rooms.py`` draws them into docs/architecture.md anew.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "simroot"
PAGE = ROOT / "docs" / "architecture.md"

# The root only names the rooms.
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")

_DIAGRAM = re.compile(r"```mermaid\n.*?```", re.DOTALL)

# Every room may use these; arrows to them would hide the others.
LEAVES = ("_version", "borrowed", "errors", "files", "images", "installed", "lazy", "modules", "notebook", "untrusted")


def imports(source: str, module: str) -> Iterator[str]:
    """Absolute names of everything that a module imports, at any depth; ``module`` resolves relative imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = ".".join(module.split(".")[: -node.level]) if node.level else ""
            base = ".".join(part for part in (parent, node.module) if part)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def arrows(source: str, module: str) -> set[str]:
    """Rooms of simroot that a module imports, itself included."""
    names = (name.split(".") for name in imports(source, module))
    return {parts[1] for parts in names if parts[0] == "simroot" and len(parts) > 1}


def room_of(path: Path) -> str:
    """The room that a file of the package belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def arrows_of(path: Path) -> set[str]:
    """The other rooms that a file of the package imports."""
    # A package's __init__ resolves relative imports against itself: its own name is one part longer.
    module = ".".join(["simroot", *path.relative_to(PACKAGE).with_suffix("").parts])
    return arrows(path.read_text(encoding="utf-8"), module) - {room_of(path)}


def reduced(found: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The arrows that do not follow from others."""

    def reach(room: str) -> set[str]:
        return found[room].union(*(reach(each) for each in found[room]))

    return {
        room: {to for to in many if not any(to in reach(other) for other in many - {to})}
        for room, many in found.items()
    }


def diagram() -> str:
    """The rooms as a Mermaid graph, without the leaves and without arrows that follow from others."""
    found: dict[str, set[str]] = {}
    for path in MODULES:
        if (room := room_of(path)) not in (*LEAVES, "__main__"):
            found.setdefault(room, set()).update(arrows_of(path) - set(LEAVES))
    lines = [f"    {room} --> {to}" for room, many in sorted(reduced(found).items()) for to in sorted(many)]
    return "\n".join(["```mermaid", "graph TD", *lines, "```"])


def drawn(page: str) -> str:
    """The page with the diagram as the sources have it."""
    return _DIAGRAM.sub(lambda _: diagram(), page)


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
