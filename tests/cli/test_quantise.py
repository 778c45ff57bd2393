"""``simroot quantise``: a run in, a run in integers out, which is exported as it was trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.result import Simroot
from simroot.engines.host import compiler


@pytest.mark.slow
def test_a_run_and_its_export(simroot: Simroot, trained: Path, tmp_path: Path) -> None:
    """On real digits, with a network that has l_p similarities, MEX and global MEX."""
    out = tmp_path / "integers"
    result = simroot("quantise", trained, "--epochs", "1", "--out", out, "--quiet")
    assert (result.code, result.err) == (0, "")
    found = json.loads((out / "summary.json").read_text())["integers"]["accuracy"]
    assert f"{found:.2%}".rstrip("%") in result.out
    assert f"simroot export {out} --format c --int8" in result.out
    if compiler() is not None:
        exported = simroot("export", out, "--format", "c", "--int8", "--json").json
        assert exported["files"][0]["accuracy"] == pytest.approx(found)
    assert simroot("evaluate", out, "--json").json["accuracy"] > 0.3
    result = simroot("train", "--config", out / "config.yaml", "--quiet", "--out", tmp_path / "again")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "make it again with quantise" in result.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("{none}",), "holds no run"),
        (("{trained}", "--out", "{trained}"), "holds a run already"),
        (("{trained}", "--out", "{out}", "--epochs", "0"), "--epochs"),
        (("{trained}", "--out", "{out}", "--learning-rate", "nan"), "--learning-rate"),
        (("{trained}", "--out", "{out}", "--data", "fashion-mnist-of-nobody"), "fashion-mnist-of-nobody"),
    ],
)
def test_what_is_refused(simroot: Simroot, trained: Path, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    places = {"trained": trained, "none": tmp_path / "none", "out": tmp_path / "out"}
    result = simroot("quantise", *(word.format(**places) for word in words), "--quiet")
    assert (result.code, message in result.err, result.err.count("\n")) == (2, True, 1), result.err
    assert not (tmp_path / "out").exists()
