"""What the page about the experiments shows is what the results hold."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_tables_are_those_of_the_results() -> None:
    text = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    tables = re.findall(r"^<!-- (.+) -->\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert len(tables) == text.count("<!--") > 0
    for name, table in tables:
        assert table in (ROOT / name).read_text(encoding="utf-8"), name
