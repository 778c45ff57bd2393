"""Exported files at work: images in, probabilities out, also where there is no PyTorch."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from export.networks import network, require_onnx, require_openvino
from simroot.cli import main
from simroot.data import decode, normalise
from simroot.errors import ConfigError, DataError, ExportError
from simroot.export import Description, Predictor, to_onnx, to_openvino
from simroot.measure import count
from simroot.models import deploy

CLASSES = ("ant", "bee", "cat", "dog", "eel")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8), dtype=np.uint8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_onnx()
    path = tmp_path_factory.mktemp("exported") / "a.onnx"
    model, size = network("l1")
    to_onnx(
        model, path, size, classes=CLASSES, mean=MEAN, std=STD, crop=0.875, cost=count(deploy(model), size).as_dict()
    )
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(1)
    paths = [folder / f"{index}.png" for index in range(3)]
    for path in paths:
        Image.fromarray(generator.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)
    return paths


def expected(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    model, _ = network("l1")
    with torch.no_grad():
        shares: np.ndarray[Any, Any] = model(normalise(torch.from_numpy(pixels), MEAN, STD)).softmax(1).numpy()
    return shares


def test_pixels(exported: Path) -> None:
    predictor = Predictor(exported, threads=1)
    assert predictor.classes == CLASSES
    found = predictor.predict(PIXELS)
    assert np.allclose(found, expected(PIXELS), atol=1e-4)
    assert np.allclose(found.sum(1), 1)
    assert np.array_equal(predictor.predict(PIXELS.transpose(0, 2, 3, 1)), found)
    assert predictor.predict(PIXELS[:0]).shape == (0, 5)


def test_more_than_a_batch(exported: Path) -> None:
    many = np.concatenate([PIXELS] * 70)
    assert np.allclose(Predictor(exported).scores(many)[-4:], Predictor(exported).scores(PIXELS), atol=1e-4)


def test_files_are_prepared_as_for_the_network(exported: Path, pictures: list[Path]) -> None:
    predictor = Predictor(exported)
    pixels = np.stack([decode(path, 3, 8, "scale").numpy() for path in pictures])
    assert np.allclose(predictor.predict(pictures), expected(pixels), atol=1e-4)
    ranked = predictor.classify(pictures, top=2)
    for found, shares in zip(ranked, expected(pixels), strict=True):
        assert [name for name, _ in found] == [CLASSES[k] for k in np.argsort(-shares)[:2]]
        assert found[0][1] == pytest.approx(shares.max(), abs=1e-4)


def test_one_file_is_enough(exported: Path, pictures: list[Path]) -> None:
    predictor = Predictor(exported)
    for one in (pictures[0], str(pictures[0])):
        assert np.array_equal(predictor.predict(one), predictor.predict(pictures[:1]))


def test_pictures_in_memory_are_prepared_as_files(exported: Path, pictures: list[Path]) -> None:
    predictor = Predictor(exported)
    found = predictor.predict(pictures)
    opened = [Image.open(path) for path in pictures]
    assert np.array_equal(predictor.predict(opened), found)
    assert np.array_equal(predictor.predict(opened[0]), found[:1])
    arrays = [np.asarray(image) for image in opened]
    assert np.array_equal(predictor.predict([pictures[0], opened[1], arrays[2]]), found)
    assert np.array_equal(predictor.predict(arrays[1]), found[1:2])
    assert np.array_equal(predictor.predict(arrays[1][..., 0]), predictor.predict(np.repeat(arrays[1][..., :1], 3, 2)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
def test_pictures_of_every_mode(mode: str, exported: Path, tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS[0].transpose(1, 2, 0)).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    elif mode == "F":
        image = Image.fromarray(np.asarray(image) / np.float32(255))
    image.save(tmp_path / "a.tif")
    predictor = Predictor(exported)
    assert np.array_equal(predictor.predict(image), predictor.predict(tmp_path / "a.tif"))


def test_a_turned_picture(exported: Path, pictures: list[Path], tmp_path: Path) -> None:
    image = Image.open(pictures[0])
    image.getexif()[0x0112] = 6
    image.save(tmp_path / "a.png", exif=image.getexif())
    turned = Predictor(exported).predict(tmp_path / "a.png")
    assert np.array_equal(Predictor(exported).predict(Image.open(tmp_path / "a.png")), turned)
    assert np.array_equal(Predictor(exported).predict(image.transpose(Image.Transpose.ROTATE_270)), turned)


def test_one_array_of_the_input_s_size_is_prepared(exported: Path) -> None:
    predictor = Predictor(exported)
    found = predictor.predict(PIXELS)
    assert np.array_equal(predictor.predict(PIXELS[0]), found[:1])
    assert np.array_equal(predictor.predict(PIXELS[0].transpose(1, 2, 0)), found[:1])
    assert np.array_equal(predictor.predict(list(PIXELS)), found)


@pytest.mark.parametrize(
    "images",
    [torch.from_numpy(PIXELS), [torch.from_numpy(PIXELS[0])], [3], 3],
    ids=["tensor", "list of tensors", "list of numbers", "number"],
)
def test_images_that_are_neither_files_nor_an_array(exported: Path, images: Any) -> None:
    with pytest.raises(DataError, match=r"expected paths of image files, images of Pillow's, or NumPy arrays"):
        Predictor(exported).predict(images)


@pytest.mark.parametrize("top", [0, -1, 1.5])
def test_numbers_of_classes_that_cannot_be_named(exported: Path, top: Any) -> None:
    with pytest.raises(ConfigError, match=f"top is {top}; expected an integer of at least 1"):
        Predictor(exported).classify(PIXELS, top=top)


@pytest.mark.slow
def test_openvino(tmp_path: Path) -> None:
    require_openvino()
    model, size = network("l1")
    to_openvino(model, tmp_path / "a.xml", size, classes=CLASSES, mean=MEAN, std=STD, crop=0.875)
    predictor = Predictor(tmp_path / "a.xml", threads=1)
    assert predictor.description == Description(size, CLASSES, MEAN, STD, 0.875)
    assert np.allclose(predictor.predict(PIXELS), expected(PIXELS), atol=1e-4)
    (tmp_path / "a.bin").unlink()
    with pytest.raises(ExportError, match="cannot be loaded"):
        Predictor(tmp_path / "a.xml")


@pytest.mark.parametrize(
    "images",
    [PIXELS.astype(np.float32), PIXELS[:, :, :4], PIXELS[:, :1], np.zeros((2, 8, 8), np.uint8)],
    ids=["type", "height", "channels", "grey"],
)
def test_arrays_that_do_not_fit(exported: Path, images: np.ndarray[Any, Any]) -> None:
    with pytest.raises(DataError, match=r"expects uint8 \(N, 3, 8, 8\)"):
        Predictor(exported).predict(images)


def test_a_file_without_preprocessing(tmp_path: Path, pictures: list[Path]) -> None:
    require_onnx()
    to_onnx(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)), tmp_path / "a.onnx", (3, 2, 2))
    predictor = Predictor(tmp_path / "a.onnx")
    assert predictor.classes == ("0", "1", "2")
    assert predictor.predict(np.ones((2, 3, 2, 2), np.float32)).shape == (2, 3)
    with pytest.raises(DataError, match="holds no preprocessing"):
        predictor.predict(pictures)
    with pytest.raises(DataError, match=r"expects float32 \(N, 3, 2, 2\)"):
        predictor.predict(np.ones((2, 3, 2, 2), np.uint8))


def test_a_damaged_file(exported: Path, tmp_path: Path) -> None:
    content = exported.read_bytes()
    for damaged in (b"", b"hello", content[: len(content) // 2], b"\xff" * 1000):
        (tmp_path / "a.onnx").write_bytes(damaged)
        with pytest.raises(ExportError, match="export it again") as caught:
            Predictor(tmp_path / "a.onnx")
        assert "\n" not in str(caught.value)


def test_paths_that_are_no_file(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="does not exist"):
        Predictor(tmp_path / "a.onnx")
    with pytest.raises(ConfigError, match=r"expected one of .onnx, .xml"):
        Predictor(tmp_path / "a.pt2")
    with pytest.raises(ConfigError, match="threads is 0"):
        Predictor(exported, threads=0)


def rewritten(source: Path, target: Path, **changes: str | None) -> Path:
    """The file with other metadata."""
    import onnx

    file = onnx.load(source)
    for entry in list(file.metadata_props):
        key = entry.key.removeprefix("simroot.")
        if key in changes:
            file.metadata_props.remove(entry)
            if (value := changes[key]) is not None:
                file.metadata_props.add(key=entry.key, value=value)
    onnx.save(file, target)
    return target


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": None}, "says nothing of its input and classes"),
        ({"format": '"2"'}, "is of format '2'"),
        ({"classes": None}, "damaged: KeyError"),
        ({"classes": "[1, 2, 3, 4, 5]"}, "cannot be used: classes is"),
        ({"classes": '["a", "b"]'}, "gives 5 scores, but its metadata name 2"),
        ({"classes": "{"}, "damaged"),
        ({"classes": "[" * 100_000}, "damaged"),
        ({"mean": "null"}, "both or neither"),
        ({"mean": "[1, 2]"}, "mean is"),
        ({"std": "[1, 0, 1]"}, "std is"),
        ({"mean": f"[1{400 * '0'}, 1, 1]"}, "damaged: OverflowError"),
        ({"crop": 5000 * "1"}, "damaged: ValueError"),
        ({"std": "[1, NaN, 1]"}, "std is"),
        ({"crop": "0"}, "crop is"),
        ({"input_size": "[3, 9, 8]"}, "not what its metadata say"),
        ({"input_size": '"3"'}, "damaged"),
        ({"input_size": "[3, -8, 8]"}, "input_size is"),
    ],
)
def test_metadata_that_cannot_be_used(
    changes: dict[str, str | None], message: str, exported: Path, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=message):
        Predictor(rewritten(exported, tmp_path / "a.onnx", **changes))


def test_graphs_of_others(tmp_path: Path) -> None:
    require_onnx()
    from onnx import TensorProto, helper, save

    def write(inputs: list[Any], outputs: list[Any]) -> Path:
        nodes = [helper.make_node("Identity", [inputs[0].name], [output.name]) for output in outputs]
        graph = helper.make_graph(nodes, "g", inputs, outputs)
        save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "a.onnx")
        return tmp_path / "a.onnx"

    def value(name: str, shape: list[Any], kind: int = TensorProto.FLOAT) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    two = [value("a", ["N", 3]), value("b", ["N", 3])]
    for file, message in [
        (([two[0]], [value("y", ["N", 3])]), "says nothing of its input"),
        ((two, [value("y", ["N", 3])]), "2 inputs and 1 output;"),
        (([two[0]], [value("y", ["N", 3]), value("z", ["N", 3])]), "1 input and 2 outputs"),
        (([value("a", [2, 3])], [value("y", [2, 3])]), "a batch of any size"),
        (([value("a", ["N", "M"])], [value("y", ["N", "M"])]), "a batch of any size"),
        (([value("a", ["N", 3, 1])], [value("y", ["N", 3, 1])]), r"expected \(batch, classes\)"),
        (([value("a", ["N", 3], TensorProto.INT64)], [value("y", ["N", 3], TensorProto.INT64)]), "inputs of type"),
    ]:
        with pytest.raises(ExportError, match=message):
            Predictor(write(*file))


# An environment without PyTorch: every import of it fails, as if it were not installed.
WITHOUT_TORCH = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "lightning", "sklearn", "scipy", "yaml", "onnx"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
"""


def without_torch(script: str) -> subprocess.CompletedProcess[str]:
    source = Path(__file__).resolve().parents[2] / "src"
    script = f"import sys; sys.path.insert(0, {str(source)!r})\n{WITHOUT_TORCH}\n{script}"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


def test_predictor_without_torch(exported: Path, pictures: list[Path]) -> None:
    script = f"""
from simroot.export import Predictor
predictor = Predictor({str(exported)!r}, threads=1)
for share in predictor.predict({[str(path) for path in pictures]!r})[0]:
    print(share)
"""
    done = without_torch(script)
    assert done.returncode == 0, done.stderr
    found = [float(line) for line in done.stdout.split()]
    assert found == pytest.approx(list(Predictor(exported).predict(pictures)[0]), abs=1e-6)


def test_predict_without_torch(exported: Path, pictures: list[Path]) -> None:
    words = ["predict", str(exported), str(pictures[0])]
    done = without_torch(f"from simroot.cli import main\nsys.exit(main({words!r}))")
    assert done.returncode == 0, done.stderr
    assert Predictor(exported).classify(pictures[:1])[0][0][0] in done.stdout


def in_folders(folder: Path) -> Path:
    """Twelve labelled pictures, one of which is no picture."""
    generator = np.random.default_rng(2)
    for index in range(12):
        path = folder / CLASSES[index % 5] / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:50])
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_evaluate_without_torch(exported: Path, packed: bool, tmp_path: Path) -> None:
    folder = in_folders(tmp_path)
    labels, pixels = zip(
        *(
            (CLASSES.index(path.parent.name), Predictor(exported).read(path))
            for path in sorted(folder.rglob("*.png"))
            if path.name != "11.png"
        ),
        strict=True,
    )
    shares = expected(np.stack(pixels))[np.arange(11), labels]
    right = expected(np.stack(pixels)).argmax(1) == labels
    if packed:
        folder = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path))
    words = ["evaluate", str(exported), "--data", str(folder), "--json"]
    done = without_torch(f"from simroot.cli import main\nsys.exit(main({words!r}))")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["images"], found["accuracy"], found["top5"]) == (11, right.mean(), 1)
    assert found["data"].endswith("(a file does not know which it was trained on)")
    assert found["loss"] == pytest.approx(-np.log(shares).mean(), abs=1e-4)
    assert np.array(found["confusion"]).sum(1).tolist() == np.bincount(labels).tolist()
    assert "11.png" in done.stderr


def test_cost_without_torch(exported: Path) -> None:
    model, size = network("l1")
    words = ["cost", str(exported), "--json"]
    done = without_torch(f"from simroot.cli import main\nsys.exit(main({words!r}))")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("network") == str(exported)
    assert found == json.loads(json.dumps(dataclasses.asdict(count(deploy(model), size))))


def test_bench_without_torch(exported: Path) -> None:
    model, size = network("l1")
    words = ["bench", str(exported), "--seconds", "0.01", "--json"]
    done = without_torch(f"from simroot.cli import main\nsys.exit(main({words!r}))")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["results"]
    assert (found["engine"], found["macs"]) == ("onnxruntime", count(deploy(model), size).macs)
    assert "torch" not in json.loads(done.stdout)["versions"]


def test_evaluate_of_a_file_needs_data(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(exported)]) == 2
    assert "name some with --data" in capsys.readouterr().err


def test_the_block_blocks() -> None:
    assert "No module named 'torch'" in without_torch("import simroot.export.write").stderr
