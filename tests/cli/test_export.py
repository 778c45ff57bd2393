"""From a run to a file and from a file to predictions, on the command line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from cli.result import Simroot
from simroot.cli.export import _print
from simroot.errors import ExportError
from simroot.export import Predictor
from simroot.export.checked import Exported
from simroot.export.description import Description
from simroot.training import load_run

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package, reason=f"{package} is not installed")


@pytest.fixture(scope="module")
def run(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of this module's own, which may be written to."""
    return shutil.copytree(trained, tmp_path_factory.mktemp("export") / "digits")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "three.png"
    Image.fromarray((load_digits().images[3] * (255 / 16)).astype(np.uint8)).save(path)
    return path


@pytest.mark.slow
def test_onnx_of_a_run(simroot: Simroot, run: Path, image: Path) -> None:
    result = simroot("export", run, "--json")
    assert result.code == 0
    (found,) = result.json["files"]
    assert found["path"] == str(run / "model.onnx")
    assert (found["images"], found["agreement"], found["tolerance"]) == (360, 1, 1e-3)
    assert found["difference"] <= found["tolerance"]
    assert found["accuracy"] == found["network_accuracy"] == load_run(run).summary["accuracy"]
    description = Predictor(run / "model.onnx").description
    trained = load_run(run)
    assert (description.classes, description.mean, description.std) == (trained.classes, trained.mean, trained.std)
    assert description.model == trained.model_name
    ours, theirs = (simroot("predict", path, image, "--top", "10", "--json") for path in (run / "model.onnx", run))
    first, second = (
        {guess["class"]: guess["probability"] for guess in found.json[0]["classes"]} for found in (ours, theirs)
    )
    assert first == pytest.approx(second, abs=1e-4)
    (card,) = result.json["cards"]
    assert card == str(run / "model.onnx.card.md")
    assert f"| accuracy of this file on 360 labelled images | {found['accuracy']:.1%} |" in Path(card).read_text()


@pytest.mark.slow
def test_the_table(simroot: Simroot, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    monkeypatch.setenv("COLUMNS", "200")
    result = simroot("export", run, "--format", "torch,openvino", "--out", tmp_path / "net.v2", "--images", "100")
    assert result.code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("classes.json", "net.v2.bin", "net.v2.pt2", "net.v2.pt2.card.md", "net.v2.pt2.json"),
        *("net.v2.xml", "net.v2.xml.card.md", "net.v2.xml.json"),
    ]
    assert "100 inputs" in result.out
    assert json.loads((tmp_path / "classes.json").read_text()) == list(map(str, range(10)))
    rows = [line.split() for line in result.out.splitlines() if "net.v2" in line]
    assert [(Path(row[0]).suffix, row[1], row[5]) for row in rows] == [
        (".pt2", "float32", "0.001"),
        (".xml", "float32", "0.001"),
    ]


@pytest.mark.slow
def test_int8(simroot: Simroot, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simroot.export.checked.ACCURACY_LOSS", 0.05)  # it was trained for a moment only
    result = simroot("export", run, "--int8", "--calibration", "64", "--json")
    assert result.code == 0
    (found,) = result.json["files"]
    assert found["path"] == str(run / "model-int8.onnx")
    assert found["description"]["precision"] == "int8"
    assert abs(found["accuracy"] - found["network_accuracy"]) <= 0.05


@pytest.mark.slow
def test_a_refused_format_leaves_the_others(
    simroot: Simroot, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simroot.export.checked.ACCURACY_LOSS", -1.0)  # an int8 file that would have to be much better
    (tmp_path / "model.onnx").touch()
    words = ("export", trained, "--images", "20", "--out", tmp_path / "model-int8")
    result = simroot(*words, "--int8", "--calibration", "20")
    assert result.code == 2
    assert result.out == ""
    assert "export without int8: " in result.err
    assert f"model-int8.onnx was not written; {tmp_path / 'model.onnx'}, in float32, stays as before" in result.err
    write = "simroot.export.to_onnx"

    def refuse(*_: object, **__: object) -> None:
        raise ExportError("refused")

    monkeypatch.setattr(write, refuse)
    result = simroot(*words, "--format", "onnx,torch")
    assert (result.code, result.err.splitlines()[-1]) == (2, "simroot export: error: refused")
    assert "model-int8.pt2" in result.out


def test_an_untrained_network(simroot: Simroot, tmp_path: Path) -> None:
    words = ("simnet2_small", "--set", "channels=[3,4]", "--format", "torch", "--out", tmp_path / "net.pt2")
    (found,) = simroot("export", *words, "--json").json["files"]
    assert found["description"]["input_size"] == [3, 8, 8]
    assert (found["images"], found["accuracy"]) == (8, None)


def test_random_inputs(simroot: Simroot, run: Path, tmp_path: Path) -> None:
    words = ("export", run, "--format", "torch", "--images", "0", "--out", tmp_path / "net.pt2", "--json")
    (found,) = simroot(*words).json["files"]
    assert (found["images"], found["network_accuracy"]) == (8, None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "holds no run"),
        (["simnet2_small", "--int8"], "--int8 needs the images of a trained network's run"),
        (["simnet2_small", "--set", "order=-1"], "order is -1"),
        (["simnet2_small", "--format", "onnx,caffe"], "unknown format caffe; known are onnx, openvino, torch, c"),
        (["RUN", "--set", "order=1"], "--set goes with the name of a network"),
        (["RUN", "--int8", "--format", "torch", "--images", "9"], "--format torch has no --int8"),
        (["RUN", "--out", "missing/net", "--images", "9"], "missing, the folder of --out, does not exist"),
        (["RUN", "--data", "missing"], "missing"),
    ],
)
def test_mistakes(
    words: list[str], message: str, simroot: Simroot, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = simroot("export", *(run if word == "RUN" else word for word in words))
    assert result.code == 2
    assert message in result.err
    assert not list(tmp_path.iterdir())


def test_a_run_without_its_images(simroot: Simroot, run: Path, tmp_path: Path) -> None:
    import yaml

    copy = shutil.copytree(run, tmp_path / "run")
    config = yaml.safe_load((copy / "config.yaml").read_text())
    config["data"]["source"] = None
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    result = simroot("export", copy)
    assert result.code == 2
    assert "does not say where its images came from" in result.err


def test_predictions_of_a_damaged_file(simroot: Simroot, run: Path, image: Path, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes((run / "config.yaml").read_bytes())
    result = simroot("predict", tmp_path / "net.onnx", image)
    assert result.code == 2
    assert "cannot be loaded" in result.err
    result = simroot("predict", run, image, "--threads", "2")
    assert result.code == 2
    assert "--threads goes with an exported file" in result.err
    assert not result.out


def test_a_file_without_a_time_beside_one_that_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    def file(name: str, milliseconds: float | None) -> Exported:
        description = Description(input_size=(1, 8, 8), precision="int8")
        times = {"milliseconds": milliseconds, "float32_milliseconds": milliseconds}
        return Exported(Path(name), name, description, 1000, 9, 0.1, None, 1.0, None, None, **times)

    _print("title", [file("onnx", 0.25), file("c", None)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines if line.startswith(("onnx", "c "))] == ["0.250", "-"]
