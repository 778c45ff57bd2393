"""The guides to a microcontroller and to a web page, line by line from a fresh clone, and the seconds of each line.

    python benchmarks/guides.py --photos hand-digits-train.tar.gz --out results/guides.json

The lines are those of the first block of docs/microcontroller.md and docs/web.md, run in a clone of this repository's
last commit and a virtual environment of its own; ``photos`` is the given folder or archive. A line that both pages have
is run once. Seconds are those of the processor in all threads; ``wall`` has those of the clock, which other programs
make longer.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from simroot.files import write_text
from simroot.training.environment import versions

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("microcontroller", "web")
_SERVES = "http.server"  # what would not come to an end
_SHELL = r"^\. "


def main(argv: Sequence[str] | None = None) -> int:
    """Run the lines and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder or archive of photos by class")
    parser.add_argument("--out", type=Path, default=Path("results/guides.json"))
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="simroot-guides-") as folder:
        clone = Path(folder) / "simroot"
        done = {"git clone": _run(f"git clone -q {ROOT} {clone}", Path(folder))}
        rows = [{"page": page, "line": "git clone", **done["git clone"]} for page in PAGES]
        for page in PAGES:
            for line in _lines(clone / "docs" / f"{page}.md"):
                if line not in done:
                    done[line] = _run(line, clone, str(arguments.photos.resolve()))
                rows.append({"page": page, "line": line, **done[line]})
        summary = json.loads((clone / "runs/own/summary.json").read_text(encoding="utf-8"))
    network = {key: summary[key] for key in ("model", "parameters", "macs", "accuracy", "epochs")}
    found = {"command": "python benchmarks/guides.py --photos hand-digits-train.tar.gz", "network": network}
    write_text(arguments.out, json.dumps({**found, "versions": versions(), "rows": rows}, indent=1) + "\n")
    return 0


def _lines(page: Path) -> Iterator[str]:
    """The commands of a page's first block, without comments."""
    block = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)[0]
    for line in block.replace("\\\n", " ").splitlines():
        line = re.sub(r"\s+", " ", re.sub(r"(^|\s)#.*", "", line)).strip()
        if line and _SERVES not in line and not re.match(_SHELL, line):
            yield line


def _run(line: str, folder: Path, photos: str = "") -> dict[str, float]:
    """One line in the folder, where its virtual environment comes first."""
    path = f"{folder / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"PATH": path}
    words = line.replace("--data photos", f"--data {photos}")
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        ["bash", "-ec", words], cwd=folder, env=environment, check=False, text=True, capture_output=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"$ {line}\n{done.stdout}{done.stderr}", file=sys.stderr, flush=True)
    if done.returncode:
        raise SystemExit(f"{line} fails with {done.returncode}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_seconds": round(cpu, 1), "wall": round(time.perf_counter() - start, 1)}


if __name__ == "__main__":
    sys.exit(main())
