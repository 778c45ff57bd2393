"""What the site has beside docs/*.md: the results, the reference of the rooms, and the files of the root folder.

A hook of MkDocs (mkdocs.yml). Pages speak of files as they lie in the repository; here their links become the site's.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import simroot

ROOT = Path(__file__).resolve().parents[1]
COPIES = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here, and the results as they are."""
    for name, content in _pages():
        files.append(File.generated(config, name, content=content))
    for path in sorted((ROOT / "results").iterdir()):
        if path.suffix in {".png", ".json", ".md"}:
            files.append(File.generated(config, f"results/{path.name}", abs_src_path=str(path)))
    return files


def _pages() -> Iterator[tuple[str, str]]:
    for name, source in COPIES.items():
        yield name, (ROOT / source).read_text(encoding="utf-8")
    yield "results.md", _results()
    rooms = {room: names for room in simroot.__all__ if (names := _public(ROOT / "src" / "simroot" / room))}
    yield "reference/classifier.md", "# simroot.Classifier\n\n::: simroot.classifier.Classifier\n"
    links = "- [simroot.Classifier](reference/classifier.md)\n" + "".join(
        f"- [simroot.{room}](reference/{room}.md)\n" for room in rooms
    )
    yield "reference.md", f"# Reference\n\n{links}"
    for room, names in rooms.items():
        yield f"reference/{room}.md", f"# simroot.{room}\n\n::: simroot.{room}\n{_hidden(room, names)}"


def _public(folder: Path) -> list[str]:
    """The public names of a room, read without an import: that would need PyTorch."""
    path = folder / "__init__.py"
    nodes = ast.parse(path.read_text(encoding="utf-8")).body if path.exists() else []
    assigned = {getattr(node.targets[0], "id", ""): node.value for node in nodes if isinstance(node, ast.Assign)}
    return ast.literal_eval(assigned["__all__"]) if "__all__" in assigned else []


def _hidden(room: str, names: list[str]) -> str:
    """Entries of functions that the room's own entry takes for the module of that name."""
    folder = ROOT / "src" / "simroot" / room
    hidden = [name for name in names if (folder / name).is_dir() or (folder / f"{name}.py").exists()]
    return "".join(
        f"\n::: simroot.{room}.{name}.{name}\n    options:\n      show_root_heading: true\n" for name in hidden
    )


def _results() -> str:
    pages = sorted((ROOT / "results").glob("*.md"))
    titles = (re.sub("^# *", "", path.read_text(encoding="utf-8").splitlines()[0]) for path in pages)
    lines = (f"- [{title}](results/{path.name})\n" for title, path in zip(titles, pages, strict=True))
    return "# Results\n\nEach page has the commands that make its figures again.\n\n" + "".join(lines)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to results, and file names of pages, become links of the site."""
    up = "../" * page.file.src_uri.count("/")
    text = markdown.replace("](../results/", f"]({up}results/")

    def link(found: re.Match[str]) -> str:
        name = found[1].removeprefix("docs/")
        name = {source: page for page, source in COPIES.items()}.get(name, name)
        return f"[{found[0]}]({up}{name})" if files.get_file_from_path(name) else found[0]

    return re.sub(r"(?<!\[)`((?:docs/|results/)?[\w-]+\.md)`", link, text)
