"""From a run to a web page, and the page's network as an engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from cli.result import Simroot
from export.web.pages import need_compiler


@pytest.mark.slow  # exports three times
def test_a_page_of_a_run_runs_like_any_file(
    simroot: Simroot, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_compiler()
    monkeypatch.setenv("COLUMNS", "160")
    result = simroot("export", trained, "--format", "web", "--images", "50")
    assert result.code == 0, result.err
    assert str(trained / "web") in result.out
    page = trained / "web"
    assert "simroot predict web image.jpg" in (trained / "web.card.md").read_text()
    assert {"index.html", "model.wasm", "simroot.js"} < {file.name for file in page.iterdir()}
    Image.new("L", (30, 20), 200).save(tmp_path / "a.png")
    (by_page,) = simroot("predict", page, tmp_path / "a.png", "--json").json
    (by_run,) = simroot("predict", trained, tmp_path / "a.png", "--json").json
    assert by_page["classes"][0]["class"] == by_run["classes"][0]["class"]
    assert by_page["classes"][0]["probability"] == pytest.approx(by_run["classes"][0]["probability"], abs=1e-4)
    assert simroot("cost", page, "--json").json["parameters"] == simroot("cost", trained, "--json").json["parameters"]
    (row,) = simroot("bench", page, "--seconds", "0.001", "--json").json["results"]
    assert (row["engine"], row["precision"], row["threads"]) == ("wasm", "f32", 1)
    (row,) = simroot("bench", "simnet2_small", "--engine", "wasm", "--seconds", "0.001", "--json").json["results"]
    assert row["engine"] == "wasm"
    whole = simroot("export", trained, "--format", "web", "--int8", "--images", "50", "--out", tmp_path / "page")
    assert whole.code == 0, whole.err
    assert (tmp_path / "page" / "index.html").exists()


def test_what_cannot_be_a_page_is_one_line(simroot: Simroot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_compiler()
    monkeypatch.chdir(tmp_path)
    words = ("export", "simnet2_small", "--set", "channels=[3,4]", "--format")
    result = simroot(*words, "web")
    assert (result.code, "a page needs a network of pictures" in result.err) == (2, True)
    result = simroot(*words, "c,web", "--out", "both")
    assert (result.code, "c and web would both be both" in result.err) == (2, True)
    assert not list(tmp_path.iterdir())
