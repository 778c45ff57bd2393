"""A table from training to an exported file."""

from pathlib import Path

import pytest

from cli.result import Simroot
from data.test_shards import write
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
    unlabelled = tmp_path / "new.csv"
    unlabelled.write_text("\n".join(["picture", "photos/none.png", *(str(image) for image, _ in pictures[:3])]))
    for network in ("run", "run.onnx"):
        said = simroot("predict", network, unlabelled, "--json")
        assert [one["image"] for one in said.json] == [str(image) for image, _ in pictures[:3]]
        assert "left out 1 row whose file does not exist (new.csv, line 2" in said.err
    inside = {f"{n}.png": image.read_bytes() for n, (image, _) in enumerate(pictures[:3])}
    said = simroot("predict", "run", write(tmp_path / "new.tar", {**inside, "a\x1b[31m.png": b"no image"}), "--json")
    assert [one["image"] for one in said.json] == [f"new.tar/{name}" for name in inside]
    assert r"skipped: new.tar/a\x1b[31m.png: " in said.err
    assert "has no columns; --image-column" in simroot("predict", "run", "photos", "--image-column", "picture").err
    failed = simroot("evaluate", "run.onnx", "--data", moved)
    assert failed.code == 2
    assert "60 rows whose file does not exist" in failed.err


@pytest.mark.slow
def test_several_labels_from_training_to_a_page(
    simroot: Simroot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = ("", "ant", "ant|bee", "bee")
    pictures = [(image, labels[number % 4]) for number, (image, _) in enumerate(photos(tmp_path / "photos"))]
    table = write_csv(tmp_path / "t.csv", pictures)
    monkeypatch.chdir(tmp_path)
    words = ("--multi-label", "--model", "simnet_mlp", "--recipe.epochs", 1, "--quiet", "--out", "run")
    trained = simroot("train", "--data", table, *words)
    assert "validation mean average precision" in trained.out
    found = simroot("evaluate", "run", "--json").json
    assert found["classes"].keys() == {"ant", "bee"}
    assert found["classes"]["ant"].keys() > {"average_precision", "threshold"}
    assert "average precision" in simroot("evaluate", "run").out
    again = simroot("evaluate", "run", "--json", "--data", table)  # the validation images, found by their pixels
    assert (again.json["images"], again.json["mean_average_precision"]) == (12, found["mean_average_precision"])
    failed = simroot("evaluate", "run", "--data", tmp_path / "photos")
    assert (failed.code, failed.out) == (2, "")
    assert simroot("export", "run", "--out", "run.onnx").code == 0
    of_file = simroot("evaluate", "run.onnx", "--json", "--data", table).json
    assert of_file["images"] == 60
    (said,) = simroot("predict", "run.onnx", pictures[0][0], "--json", "--top", 2).json
    (of_run,) = simroot("predict", "run", pictures[0][0], "--json", "--top", 2).json
    assert [own["class"] for own in said["classes"]] == [own["class"] for own in of_run["classes"]]
    assert simroot("predict", "run", *(image for image, _ in pictures[:3])).out.count(".png") == 3
    assert simroot("report", "run", "--no-times").code == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "mean average precision" in page
    assert "Confusion" not in page
    assert "--multi-label takes lists" not in simroot("train", "--resume", "run", "--quiet").err
    assert simroot("quantise", "run", "--epochs", 1, "--quiet").out.startswith(
        "simnet_mlp on t.csv\nmean average precis"
    )
