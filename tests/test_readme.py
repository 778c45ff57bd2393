"""What the README promises."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_ci_runs_the_command_of_the_readme_and_leaves_a_developers_environment(tmp_path: Path) -> None:
    """The script in an empty folder, where every program it calls only says what it was called with."""
    (command,) = re.findall(r"^python3 -m venv .*pytest -n 2$", README, re.MULTILINE)
    (tmp_path / ".ci").mkdir()
    for name in ("README.md", ".ci/run"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").mkdir()
    fake = '#!/bin/sh\necho "$0 $*" >> called\n'
    programs = ["python3", ".ci/wheel", *(f"fresh/{name}" for name in ("pip", "ruff", "mypy", "pytest"))]
    for name in programs:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(
            fake + ("mkdir -p .ci/venv && cp -r fresh .ci/venv/bin\n" if name == "python3" else "")
        )
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    subprocess.run([".ci/run"], cwd=tmp_path, env={**os.environ, "PATH": path}, check=True)
    called = (tmp_path / "called").read_text().splitlines()
    steps = command.replace("'", "").replace(".venv", ".ci/venv").split(" && ")
    assert [line.removeprefix(f"{tmp_path}/").strip() for line in called[: len(steps)]] == steps
    assert called[-1].strip() == ".ci/wheel"
    assert (tmp_path / ".venv").exists()


def test_the_main_job_does_its_own_set_up() -> None:
    (job,) = re.findall(r"^python3 -m venv .*simroot train$", README, re.MULTILINE)
    assert "pip install '.[train]'" in job


def test_the_example_runs() -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    assert names["scores"].shape == (8, 10)
    assert names["pooled"].shape == (8, 32, 6, 6)
