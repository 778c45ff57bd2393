"""Files against the network, in the engines that run them."""

from __future__ import annotations

import collections
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from export.networks import (
    FAMILIES,
    SLOW_FAMILIES,
    Broken,
    degenerate,
    files,
    network,
    require_onnx,
    require_openvino,
)
from simroot import __version__
from simroot.errors import ConfigError, ExportError
from simroot.export import FILE_TOLERANCE, TOLERANCE, to_onnx, to_openvino, to_torch_export
from simroot.models import create_model

CASES = [*FAMILIES, *(pytest.param(case, marks=pytest.mark.slow) for case in SLOW_FAMILIES)]


def require_same(scores: np.ndarray[Any, Any], model: nn.Module, x: torch.Tensor) -> None:
    with torch.no_grad():
        expected = model(x)
    assert np.abs(scores - expected.numpy()).max() <= FILE_TOLERANCE * expected.abs().max()


def test_a_tolerance_keeps_its_first_name() -> None:
    assert TOLERANCE == FILE_TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_onnx_of_every_family(case: str, tmp_path: Path) -> None:
    require_onnx()
    onnxruntime = pytest.importorskip("onnxruntime")
    model, size = network(case)
    found = to_onnx(model, tmp_path / "a.onnx", size)
    assert found.agreement == 1
    assert files(tmp_path) == ["a.onnx", "a.onnx.json"]
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        x = torch.randn(batch, *size)
        require_same(session.run(["scores"], {"images": x.numpy()})[0], model, x)


@pytest.mark.slow
def test_openvino(tmp_path: Path) -> None:
    require_openvino()
    openvino = pytest.importorskip("openvino")
    model, size = network("l2")
    found = to_openvino(model, tmp_path / "a.xml", size)
    assert files(tmp_path) == ["a.bin", "a.xml", "a.xml.json"]
    assert found.size == sum((tmp_path / name).stat().st_size for name in ("a.bin", "a.xml"))
    # Halves would take half the space.
    assert (tmp_path / "a.bin").stat().st_size >= 4 * 4 * 6 * 25
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(tmp_path / "a.xml", "CPU", settings)
    for batch in (1, 3):
        x = torch.randn(batch, *size)
        require_same(compiled([x.numpy()])[0], model, x)


def test_torch_export(tmp_path: Path) -> None:
    model, size = network("l2")
    to_torch_export(model, tmp_path / "a.pt2", size, classes=list("abcde"))
    extra = {"simroot.json": ""}
    program = torch.export.load(tmp_path / "a.pt2", extra_files=extra).module()
    assert json.loads(json.loads(extra["simroot.json"])["simroot.classes"]) == list("abcde")
    for batch in (1, 3):
        x = torch.randn(batch, *size)
        require_same(program(x).numpy(), model, x)


@pytest.mark.slow
def test_an_l2_network_is_a_few_fused_operators(tmp_path: Path) -> None:
    require_onnx()
    import onnx

    model = create_model("simnet2", channels=(4, 6), image_size=15)
    to_onnx(model, tmp_path / "a.onnx", (3, 15, 15))
    graph = onnx.load(tmp_path / "a.onnx").graph
    kinds = collections.Counter(node.op_type for node in graph.node)
    # A stage: convolution, square, two convolutions and their sum; between them the maximum; then the MEX units.
    stages = {"Conv": 2 * 3 + 1, "Mul": 2 + 2, "Add": 2 + 3, "MaxPool": 1}
    units = {"ReduceMax": 1, "Sub": 1, "Exp": 1, "Clip": 1, "Log": 1, "ReduceMean": 1}
    assert kinds == {**stages, **units}
    # A bias for the centre of each stage: nothing is computed of parameters alone.
    constants = {tensor.name for tensor in graph.initializer}
    assert all(set(node.input) - constants for node in graph.node)


@pytest.mark.slow
def test_what_the_file_says_of_itself(tmp_path: Path) -> None:
    require_onnx()
    import onnx

    model, size = network("convnet")
    to_onnx(model, tmp_path / "a.onnx", size, classes=["å", *"bcde"], mean=[0.1, 0.2, 0.3], std=[0.5] * 3, name="net")
    file = onnx.load(tmp_path / "a.onnx")
    found = {entry.key: json.loads(entry.value) for entry in file.metadata_props}
    assert found == {
        "simroot.format": "1",
        "simroot.version": __version__,
        "simroot.model": "net",
        "simroot.input_size": list(size),
        "simroot.input": "uint8 pixels (N, C, H, W), 0 to 255",
        "simroot.classes": ["å", "b", "c", "d", "e"],
        "simroot.mean": [0.1, 0.2, 0.3],
        "simroot.std": [0.5] * 3,
        "simroot.crop": 1.0,
        "simroot.precision": "float32",
    }
    assert [(entry.domain, entry.version) for entry in file.opset_import] == [("", 18)]
    batch, *lengths = file.graph.input[0].type.tensor_type.shape.dim
    assert batch.dim_param
    assert tuple(length.dim_value for length in lengths) == size
    assert file.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert b".py" not in (tmp_path / "a.onnx").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("writer", [to_onnx, to_openvino, to_torch_export])
def test_a_file_that_differs_does_not_appear(writer: Any, tmp_path: Path) -> None:
    require_openvino()
    path = tmp_path / {to_onnx: "a.onnx", to_openvino: "a.xml", to_torch_export: "a.pt2"}[writer]
    path.write_text("before")
    with pytest.raises(ExportError, match=r"differ from the network's by 1 .* 0.001 is allowed: .* not written"):
        writer(Broken(), path, (4,))
    assert files(tmp_path) == [path.name]
    assert path.read_text() == "before"


def test_scores_that_are_not_numbers_are_no_match(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="differ from the network's by nan"):
        to_torch_export(degenerate(), tmp_path / "a.pt2", (4,))
    assert not files(tmp_path)


def test_a_tolerance_of_ones_own(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="1e-09 is allowed"):
        to_torch_export(Broken(), tmp_path / "a.pt2", (4,), tolerance=1e-9)
    found = to_torch_export(Broken(), tmp_path / "a.pt2", (4,), tolerance=1.01)
    assert found.difference == pytest.approx(1)


def test_real_inputs_and_labels(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 5))
    images = np.random.default_rng(0).integers(0, 256, (300, 3, 4, 4), dtype=np.uint8)
    with torch.no_grad():
        labels = model((torch.from_numpy(images) / 255 - 0.5) / 0.25).argmax(1)
    labels[:30] = (labels[:30] + 1) % 5
    found = to_torch_export(
        model, tmp_path / "a.pt2", (3, 4, 4), mean=[0.5] * 3, std=[0.25] * 3, images=images, labels=labels
    )
    assert (found.images, found.agreement) == (300, 1)
    assert found.accuracy == found.network_accuracy == 0.9


LINEAR = nn.Linear(4, 3)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.pb", {}, "should end in .onnx"),
        ("none/a.onnx", {}, "No such file"),
        ("a.onnx", {"classes": ["a", "b"]}, "2 classes are named, but the network gives 3"),
        ("a.onnx", {"classes": []}, "classes is .*expected names"),
        ("a.onnx", {"mean": [0.5]}, "expected both or neither"),
        ("a.onnx", {"mean": [0.5], "std": [1.0]}, r"expected \(channels, height, width\)"),
        ("a.onnx", {"images": np.zeros((2, 4))}, r"images are float64 \(2, 4\); expected float32 \(N, 4\)"),
        ("a.onnx", {"images": np.zeros((2, 5), np.float32)}, "expected float32"),
        ("a.onnx", {"labels": np.zeros(3, np.int64), "images": np.zeros((2, 4), np.float32)}, "labels are int64"),
        ("a.onnx", {"labels": np.zeros(8, np.int64)}, "labels are given without images"),
        ("a.onnx", {"clases": ["a"]}, "there is no option 'clases'; did you mean classes"),
        ("a.onnx", {"tolerence": 0.1, "classes": ["a"]}, "there is no option 'tolerence'; did you mean tolerance"),
        ("a.onnx", {"crop": None}, "crop cannot be used: float"),
        ("a.onnx", {"mean": 0.5, "std": 0.2}, "mean, std or crop cannot be used: 'float' object is not iterable"),
        ("a.onnx", {"calibration": np.zeros((0, 4), np.float32)}, "calibration are"),
    ],
)
def test_arguments_that_do_not_fit(name: str, options: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, ExportError), match=message):
        to_onnx(LINEAR, tmp_path / name, (4,), **options)
    assert not files(tmp_path)


@pytest.mark.parametrize("size", [(5,), (4, 4, 3)])
def test_inputs_that_the_network_does_not_take(size: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the network cannot process inputs of shape \(8, .*: mat1 and mat2"):
        to_onnx(LINEAR, tmp_path / "a.onnx", size)
    assert not files(tmp_path)


def test_inputs_in_any_order_of_memory(tmp_path: Path) -> None:
    array = np.random.default_rng(0).standard_normal((8, 4), dtype=np.float32)
    tensor = torch.from_numpy(array).requires_grad_()
    for images in (array[:, ::-1], tensor):
        assert to_torch_export(LINEAR, tmp_path / "a.pt2", (4,), images=images).images == 8


def test_a_network_that_gives_no_scores(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"gives \(8, 3, 4\) for 8 inputs; expected scores"):
        to_onnx(nn.Identity(), tmp_path / "a.onnx", (3, 4))


@pytest.mark.slow
def test_a_network_that_is_no_graph(tmp_path: Path) -> None:
    require_onnx()

    class Deciding(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ConfigError, match="cannot be written as a graph"):
        to_onnx(Deciding(), tmp_path / "a.onnx", (4,))
    with pytest.raises(ConfigError, match="cannot be written as a graph"):
        to_torch_export(Deciding(), tmp_path / "a.pt2", (4,))
    assert not files(tmp_path)


def test_the_torch_program_has_no_int8(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="float32 only"):
        to_torch_export(LINEAR, tmp_path / "a.pt2", (4,), calibration=np.zeros((1, 4), np.float32))


@contextmanager
def small_disk() -> Iterator[None]:
    """No file may have more than 4 kB, as on a disk that is full; the writers of libraries meet it, too."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(("writer", "name"), [(to_onnx, "a.onnx"), (to_torch_export, "a.pt2")])
def test_a_full_disk_is_told_and_leaves_nothing(writer: Any, name: str, tmp_path: Path) -> None:
    require_onnx()
    with small_disk(), pytest.raises(ExportError, match=rf"^cannot write .*{name}: File too large; make room"):
        writer(nn.Sequential(nn.Flatten(), nn.Linear(1024, 10)), tmp_path / name, (1, 32, 32))
    assert files(tmp_path) == []


@pytest.mark.slow
def test_a_full_disk_as_openvino_tells_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_openvino()
    openvino = pytest.importorskip("openvino")

    def full(network: Any, path: Path, **options: Any) -> None:
        path.write_text("half a graph")
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr(openvino, "save_model", full)
    with pytest.raises(ExportError, match=r"^cannot write .*a\.xml: OpenVINO failed \(basic_ios.*\); make room"):
        to_openvino(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), tmp_path / "a.xml", (1, 2, 2))
    assert files(tmp_path) == []
