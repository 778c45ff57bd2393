"""A table from training to an exported file."""

from pathlib import Path

import pytest

from cli.result import Simroot
from data.written import photos, write_csv


@pytest.mark.slow
def test_a_table_from_training_to_a_file(simroot: Simroot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = photos(tmp_path / "photos")
    table = write_csv(tmp_path / "t.csv", pictures)
    monkeypatch.chdir(tmp_path)
    words = ("--label-column", "class", "--model", "simnet_mlp", "--recipe.epochs", 1, "--quiet", "--out", "run")
    assert simroot("train", "--data", table, *words).code == 0
    assert simroot("evaluate", "run", "--json").json["images"] == 12
    moved = tmp_path / "moved" / "other.csv"
    moved.parent.mkdir()
    moved.write_bytes(table.read_bytes())
    again = simroot("evaluate", "run", "--json", "--data", moved, "--image-root", tmp_path)
    assert (again.json["images"], again.json["left_out"]) == (12, 0)  # the validation images, found by their pixels
    assert simroot("evaluate", "run", "--json", "--data", tmp_path / "photos").json["images"] == 12
    assert simroot("train", "--resume", "run", "--data", moved, "--image-root", tmp_path, "--quiet").code == 0
    table.unlink()
    assert simroot("evaluate", "run", "--json").json == {**again.json, "data": "other.csv, validation images"}
    assert simroot("export", "run", "--format", "onnx", "--out", "run.onnx").code == 0
    found = simroot("evaluate", "run.onnx", "--json", "--data", moved, "--image-root", tmp_path)
    assert found.json["images"] == 60
    failed = simroot("evaluate", "run.onnx", "--data", moved)
    assert failed.code == 2
    assert "60 rows whose file does not exist" in failed.err
