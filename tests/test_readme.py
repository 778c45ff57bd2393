"""What the README promises."""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_ci_runs_the_command_of_the_readme() -> None:
    (tests,) = re.findall(r"^python3 -m venv .*pytest -n 2$", README, re.MULTILINE)
    assert tests in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_main_job_does_its_own_set_up() -> None:
    (job,) = re.findall(r"^python3 -m venv .*simroot train$", README, re.MULTILINE)
    assert "pip install '.[train]'" in job


def test_the_example_runs() -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    assert names["scores"].shape == (8, 10)
    assert names["pooled"].shape == (8, 32, 6, 6)
