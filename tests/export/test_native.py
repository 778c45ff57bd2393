"""simroot's own operator of ONNX Runtime: by itself, in an exported network, and where it is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from export.networks import files, network, require_onnx, require_openvino
from simroot.engines.operators import uses_operators
from simroot.errors import ConfigError
from simroot.export import Predictor, operators_library, to_onnx, to_openvino, to_torch_export
from tolerances import TOLERANCES

Array = np.ndarray[Any, Any]
TOLERANCE = TOLERANCES["similarity", torch.float32].relative


@pytest.fixture(autouse=True)
def _installed() -> None:
    require_onnx()
    if operators_library() is None:
        pytest.skip("this installation has no native kernels")


def model(template: Array, weights: Array, bias: Array, attributes: dict[str, Any]) -> bytes:
    """A graph of the operator alone."""
    from onnx import TensorProto, helper, numpy_helper

    node = helper.make_node("LpSimilarity", ["x", "z", "u", "b"], ["y"], domain="simroot", **attributes)
    constants = [numpy_helper.from_array(a, name) for a, name in ((template, "z"), (weights, "u"), (bias, "b"))]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in "xy"]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], constants)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("simroot", 1)]
    content: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return content


def run(content: bytes, x: Array, threads: int) -> Array:
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.register_custom_ops_library(str(operators_library()))
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    result: Array = session.run(None, {"x": x})[0]
    return result


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("images", "channels", "height", "width", "units", "kernel", "stride", "groups", "order"),
    [
        (3, 6, 9, 11, 4, 3, 2, 2, 1.0),
        (2, 32, 28, 28, 32, 1, 1, 1, 1.0),
        (70, 7, 3, 2, 5, 1, 1, 1, 1.37),
        (2, 10, 40, 30, 12, 2, 1, 2, 0.5),
        (1, 3, 5, 500, 2, 5, 1, 1, 3.0),
        (0, 3, 4, 4, 2, 1, 1, 1, 1.0),
    ],
)
def test_the_operator(
    images: int,
    channels: int,
    height: int,
    width: int,
    units: int,
    kernel: int,
    stride: int,
    groups: int,
    order: float,
    threads: int,
) -> None:
    generator = np.random.default_rng(0)
    part, each = channels // groups, units // groups
    z = generator.standard_normal((units, part, kernel, kernel), dtype=np.float32)
    u = generator.random(z.shape, dtype=np.float32)
    b = generator.standard_normal(units, dtype=np.float32)
    x = generator.standard_normal((images, channels, height, width), dtype=np.float32)
    found = run(model(z, u, b, {"order": order, "stride": stride, "groups": groups}), x, threads)
    patches = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), (kernel, kernel), (2, 3))
    patches = patches[:, :, ::stride, ::stride]
    assert found.shape == (images, units, *patches.shape[2:4])
    for r in range(units):
        first = r // each * part
        terms = u[r][:, None, None] * np.abs(patches[:, first : first + part] - z[r][:, None, None]) ** order
        sums = terms.sum((1, 4, 5))
        assert (np.abs(found[:, r] - (b[r] - sums)) <= TOLERANCE * (sums + 1)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": 0.0}, "do not fit together"),
        ({"stride": 0}, "do not fit together"),
        ({"groups": 2}, "do not fit together"),
        ({"order": None}, "order"),
        ({"u": (2, 3, 1, 2)}, "do not fit together"),
        ({"b": (3,)}, "do not fit together"),
        ({"z": (2, 3, 9, 9), "u": (2, 3, 9, 9)}, "do not fit together"),
        ({"z": (2, 3, 1)}, "wrong number of dimensions"),
    ],
)
def test_graphs_that_do_not_fit_are_errors(change: dict[str, Any], message: str) -> None:
    shapes = {"z": (2, 3, 1, 1), "u": (2, 3, 1, 1), "b": (2,), **{k: v for k, v in change.items() if k in "zub"}}
    attributes = {"order": 1.0, "stride": 1, "groups": 1, **{k: v for k, v in change.items() if len(k) > 1}}
    attributes = {key: value for key, value in attributes.items() if value is not None}
    z, u, b = (np.ones(shapes[name], np.float32) for name in "zub")
    with pytest.raises(Exception, match=message):
        run(model(z, u, b, attributes), np.ones((1, 3, 4, 4), np.float32), 1)


@pytest.mark.slow
def test_a_network_with_the_operator(tmp_path: Path) -> None:
    plain, size = network("l1")
    found = to_onnx(plain, tmp_path / "a.onnx", size, custom_operator=True)
    assert found.agreement == 1
    assert uses_operators(tmp_path / "a.onnx")
    x = torch.randn(3, *size)
    with torch.no_grad():
        expected = plain(x).numpy()
    scores = Predictor(tmp_path / "a.onnx", threads=1).scores(x.numpy())
    assert np.abs(scores - expected).max() <= 1e-4 * np.abs(expected).max()


def test_openvino_with_the_operator(tmp_path: Path) -> None:
    require_openvino()
    if operators_library("openvino") is None:
        pytest.skip("this installation has no operator for OpenVINO")
    plain, size = network("l1")
    to_openvino(plain, tmp_path / "a.xml", size, custom_operator=True)
    assert uses_operators(tmp_path / "a.xml")
    x = torch.randn(3, *size)
    with torch.no_grad():
        expected = plain(x).numpy()
    for threads in (1, 2):
        scores = Predictor(tmp_path / "a.xml", threads=threads).scores(x.numpy())
        assert np.abs(scores - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.slow
def test_an_installation_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, size = network("l1")
    to_onnx(plain, tmp_path / "a.onnx", size, custom_operator=True)
    monkeypatch.setattr("simroot.engines.operators.operators_library", lambda engine: None)
    with pytest.raises(ConfigError, match="this installation lacks"):
        Predictor(tmp_path / "a.onnx")
    require_openvino()
    for writer, name in ((to_onnx, "b.onnx"), (to_openvino, "b.xml")):
        with pytest.raises(ConfigError, match="this installation lacks"):
            writer(plain, tmp_path / name, size, custom_operator=True)
    assert files(tmp_path) == ["a.onnx", "a.onnx.json"]


def test_torch_has_no_such_operator(tmp_path: Path) -> None:
    plain, size = network("l1")
    with pytest.raises(ConfigError, match=r"for .onnx, .xml files, not .pt2"):
        to_torch_export(plain, tmp_path / "a.pt2", size, custom_operator=True)


def test_a_file_without_it(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"nothing of the kind")
    (tmp_path / "b.onnx").write_bytes(b"")
    assert not uses_operators(tmp_path / "a.onnx")
    assert not uses_operators(tmp_path / "b.onnx")
