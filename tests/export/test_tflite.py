"""TensorFlow Lite files: LiteRT, and its engine for microcontrollers, run what the network does."""

import importlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from simroot.engines import ENGINES, load_file
from simroot.errors import ConfigError, ExportError
from simroot.export import Options, Predictor, to_tflite
from simroot.export.tflite import _ChannelsLast
from simroot.models import create_model

CLASSES = ["cat", "dog", "hen"]


def pixels(count: int, size: int = 8) -> NDArray[Any]:
    """Smooth images, so that classes are no matter of chance."""
    coarse = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (count, 3, 2, 2)).astype(np.float32))
    found: NDArray[Any] = nn.functional.interpolate(coarse, size=size, mode="bilinear").round().byte().numpy()
    return found


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr("simroot.engines.protocol.importlib.import_module", missing)
    with pytest.raises(ConfigError, match=r"litert_torch is not installed; .* 'simroot\[tflite"):
        to_tflite(nn.Flatten(), tmp_path / "a.tflite", (1, 2, 2))
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def network() -> nn.Module:
    pytest.importorskip("litert_torch", reason="litert-torch is not installed")
    torch.manual_seed(0)
    return create_model("simnet2_small", num_classes=3, in_channels=3, image_size=8).eval()


@pytest.fixture(scope="module")
def file(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tflite") / "a.tflite"
    options: Options = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.2], "classes": CLASSES, "images": pixels(8)}
    exported = to_tflite(network, path, (3, 8, 8), **options)
    assert exported.difference < 1e-5
    assert exported.agreement == 1
    return path


def test_it_has_the_metadata_inside(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        assert archive.read("labels.txt").decode().split() == CLASSES
        assert json.loads(json.loads(archive.read("simroot.json"))["simroot.classes"]) == CLASSES
    loaded = load_file(file, ENGINES["litert"], threads=1)
    assert (loaded.kind, loaded.precision, loaded.inputs, loaded.outputs) == (
        "uint8",
        "f32",
        ((None, 3, 8, 8),),
        ((None, 3),),
    )
    classes = Predictor(file).classify(pixels(3))
    assert [found for ((found, _),) in classes] == [CLASSES[k] for k in loaded.run(pixels(3)).argmax(1)]


def test_scores_are_the_networks(file: Path, network: nn.Module) -> None:
    images = pixels(5)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ([0.5, 0.4, 0.3], [0.2, 0.3, 0.2]))
    with torch.no_grad():
        expected = network((torch.from_numpy(images) / 255 - mean) / std).numpy()
    # The order of the additions: as other float32 files.
    np.testing.assert_allclose(load_file(file).run(images), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["mlperf_resnet8", "simnet2_small"])
def test_whole_numbers(name: str, tmp_path: Path) -> None:
    pytest.importorskip("litert_torch", reason="litert-torch is not installed")
    torch.manual_seed(0)
    images = pixels(48, 16) // 3
    labels = np.arange(48) % 3
    images[np.arange(48), labels] += 160  # the class is a colour
    model = learned(create_model(name, num_classes=3, in_channels=3, image_size=16), images, labels)
    options: Options = {"mean": [0.5] * 3, "std": [0.25] * 3, "images": images, "labels": labels, "calibration": images}
    exported = to_tflite(model, tmp_path / "a.tflite", (3, 16, 16), **options)
    assert exported.network_accuracy == exported.accuracy == 1
    assert exported.milliseconds
    assert load_file(exported.path).precision == "int8"
    options["calibration"] = None
    whole = to_tflite(model, tmp_path / "b.tflite", (3, 16, 16), **options)
    assert exported.path.stat().st_size < 0.7 * whole.path.stat().st_size


def learned(model: nn.Module, images: NDArray[Any], labels: NDArray[Any]) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    inputs, targets = (torch.from_numpy(images) / 255 - 0.5) / 0.25, torch.from_numpy(labels)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    return model.eval()


def test_a_microcontrollers_interpreter_runs_it(file: Path) -> None:
    pytest.importorskip("tflite_micro", reason="tflite-micro is not installed")
    runtime = importlib.import_module("tflite_micro.python.tflite_micro.runtime")
    interpreter = runtime.Interpreter.from_file(str(file), arena_size=200_000)
    image = pixels(1)
    interpreter.set_input(np.ascontiguousarray(image.transpose(0, 2, 3, 1)).astype(np.float32), 0)
    interpreter.invoke()
    np.testing.assert_allclose(interpreter.get_output(0), load_file(file).run(image), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("installed", [True, False])
def test_a_microcontrollers_interpreter_must_give_the_same(
    installed: bool,
    network: nn.Module,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    options: Options = {"mean": [0.5] * 3, "std": [0.25] * 3, "images": pixels(8), "calibration": pixels(8)}
    if not installed:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        caplog.set_level("INFO", "simroot")
        to_tflite(network, tmp_path / "a.tflite", (3, 8, 8), **options)
        assert "not tried as on a microcontroller, tflite-micro is not installed" in caplog.text
        return
    pytest.importorskip("tflite_micro", reason="tflite-micro is not installed")
    runtime = importlib.import_module("tflite_micro.python.tflite_micro.runtime")
    right = runtime.Interpreter.get_output
    monkeypatch.setattr(runtime.Interpreter, "get_output", lambda self, index: right(self, index) + 1)
    with pytest.raises(ExportError, match="tflite-micro and LiteRT give different scores"):
        to_tflite(network, tmp_path / "a.tflite", (3, 8, 8), **options)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_converted_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("litert_torch", reason="litert-torch is not installed")

    def fail(*_: object) -> None:
        raise RuntimeError("no such operator\nfoo")

    monkeypatch.setattr(_ChannelsLast, "forward", fail)
    with pytest.raises(ConfigError, match=r"litert-torch cannot convert the network: .*; export it as ONNX"):
        to_tflite(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), tmp_path / "a.tflite", (3, 2, 2))
    assert not list(tmp_path.iterdir())
