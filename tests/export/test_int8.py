"""int8: what stays in float, ranges that fit every channel, and the check of the result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from export.networks import files, network, require_onnx, require_openvino
from simroot.errors import ExportError
from simroot.export import Predictor, RefusedError, sidecar, to_onnx, to_openvino
from simroot.export.forms import graph_form
from simroot.export.quantise import equalise
from simroot.export.similarity_forms import Lp, LpDifferences, LpOperator
from simroot.layers import Similarity2d
from simroot.models import create_model

MEAN, STD = (0.5,) * 3, (0.25,) * 3


def pictures(count: int, side: int) -> np.ndarray[Any, Any]:
    """Dark, middle and bright ones, with a little noise."""
    generator = np.random.default_rng(0)
    brightness = generator.choice([30, 128, 226], (count, 3, 1, 1))
    return np.clip(brightness + generator.integers(-20, 21, (count, 3, side, side)), 0, 255).astype(np.uint8)


@torch.no_grad()
def _spread(similarity: Similarity2d) -> None:
    """Makes the last similarity five times as large as the first, the others in between."""
    templates, weights = similarity.templates.clone(), similarity.weights
    assert weights is not None
    similarity.weights = weights * torch.linspace(1, 5, len(weights)).view(-1, 1, 1, 1)
    similarity.templates = templates


@pytest.mark.parametrize(
    ("name", "overrides", "lp"),
    [
        ("simnet2", {"image_size": 15, "channels": (4, 6)}, LpDifferences),
        ("simnet2_small", {"order": 1.0, "channels": (4, 5), "image_size": 8}, LpDifferences),
        ("simnet2_small", {"order": 1.0, "channels": (4, 5), "image_size": 8}, LpOperator),
        ("simnet3_compact", {"channels": 4, "image_size": 8}, LpDifferences),
    ],
    ids=["l2", "l1", "operator", "padded"],
)
def test_equalisation_changes_ranges_and_nothing_else(name: str, overrides: dict[str, Any], lp: Lp) -> None:
    torch.manual_seed(0)
    model: Any = create_model(name, **overrides).eval()
    _spread(model.similarities[0].similarity)
    form = graph_form(model, lp)
    inputs = np.random.default_rng(0).standard_normal((20, 3, *[overrides["image_size"]] * 2), dtype=np.float32)
    seen: list[torch.Tensor] = []
    second: Any = form.similarities[1]  # type: ignore[index]
    second[0].register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    with torch.no_grad():
        before = form(torch.from_numpy(inputs))
    equalise(form, inputs)
    with torch.no_grad():
        after = form(torch.from_numpy(inputs))
    assert (after - before).abs().max() <= 1e-4 * before.abs().max()
    deviations = seen[0].std((0, 2, 3))
    assert deviations.max() > 1.5 * deviations.min()
    torch.testing.assert_close(seen[-1].std((0, 2, 3), correction=0), torch.ones_like(deviations), rtol=1e-3, atol=0)
    mean = seen[-1].mean((0, 2, 3)).abs().max()
    # Where the convolution pads, zeros stay zeros.
    assert mean > 0.1 if any(second[0].padding) else mean < 1e-3


def test_a_single_value_to_calibrate_with_keeps_its_scale() -> None:
    torch.manual_seed(0)
    form = graph_form(create_model("simnet_pyramid", 5, channels=4, image_size=4).eval())
    inputs = np.random.default_rng(0).standard_normal((9, 3, 4, 4), dtype=np.float32)
    before = form(torch.from_numpy(inputs))
    equalise(form, inputs[:1])
    assert (form(torch.from_numpy(inputs)) - before).abs().max() <= 1e-4 * before.abs().max()


@pytest.mark.slow
def test_similarities_and_mex_stay_in_float(tmp_path: Path) -> None:
    require_onnx()
    import onnx

    model, size = network("l2")
    images = pictures(120, size[1])
    found = to_onnx(model, tmp_path / "a.onnx", size, mean=MEAN, std=STD, images=images, calibration=images)
    assert (found.tolerance, found.description.precision) == (None, "int8")
    assert found.agreement >= 0.95
    assert files(tmp_path) == ["a.onnx", "a.onnx.json"]
    graph = onnx.load(tmp_path / "a.onnx").graph
    producers = {output: node.op_type for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    in_8_bits = [node for node in convolutions if producers.get(node.input[1]) == "DequantizeLinear"]
    assert len(convolutions) == 7
    assert len(in_8_bits) == 2
    assert all(producers[node.input[0]] == "DequantizeLinear" for node in in_8_bits)
    assert Predictor(tmp_path / "a.onnx").description.precision == "int8"


@pytest.mark.slow
def test_openvino(tmp_path: Path) -> None:
    require_openvino()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 3))
    images = pictures(120, 8)
    found = to_openvino(model, tmp_path / "a.xml", (3, 8, 8), mean=MEAN, std=STD, images=images, calibration=images)
    assert files(tmp_path) == ["a.bin", "a.xml", "a.xml.json"]
    assert (tmp_path / "a.bin").stat().st_size < 2 * (8 * 36 * 3 + 8 * 27)
    assert found.agreement >= 0.95
    assert found.milliseconds is not None
    assert found.float32_milliseconds is not None
    beside = json.loads((tmp_path / "a.xml.json").read_text())["measured"]
    assert (beside["milliseconds"], beside["float32_milliseconds"]) == (found.milliseconds, found.float32_milliseconds)


@pytest.mark.parametrize(("int8", "float32", "told"), [(0.5, 0.2, True), (0.2, 0.5, False)])
def test_int8_that_is_slower_is_told(
    int8: float, float32: float, told: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sidecar, "_milliseconds", lambda files, example: [int8, float32])
    times = sidecar.compare_speed(Path("a.onnx"), Path("a"), Path("b"), np.zeros((1, 4), np.float32))
    assert times == (int8, float32)
    assert ("a.onnx: int8 is slower than float32 on this machine, 0.500 against 0.200 ms" in caplog.text) == told


@pytest.mark.slow
def test_int8_that_loses_too_much_does_not_appear(tmp_path: Path) -> None:
    require_onnx()
    # What decides is a thousandth of the range: 8 bits do not show it.
    model = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]))
    generator = np.random.default_rng(0)
    images = generator.standard_normal((200, 4), dtype=np.float32) / 1000
    calibration = np.concatenate([images, np.full((1, 4), 10, np.float32)])
    with pytest.raises(ExportError, match="into the same class as the network, at least 95% is expected"):
        to_onnx(model, tmp_path / "a.onnx", (4,), images=images, calibration=calibration)
    with torch.no_grad():
        labels = model(torch.from_numpy(images)).argmax(1)
    with pytest.raises(RefusedError, match=r"reduces the accuracy from 100.00% to .*by 1 point at most") as refused:
        to_onnx(model, tmp_path / "a.onnx", (4,), images=images, labels=labels, calibration=calibration)
    found = refused.value.exported
    assert found.network_accuracy == 1
    assert found.accuracy is not None
    assert f"to {found.accuracy:.2%}," in str(refused.value)
    assert not files(tmp_path)
