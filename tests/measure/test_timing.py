"""Timing networks: what is checked before, what is reported, what is left as it was. Nothing here asserts a time."""

from __future__ import annotations

import copy
import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from measure.modules import Lambda
from simroot.errors import ConfigError, DataError, ExportError
from simroot.measure import Candidate, Latency, MismatchError, compare, file_input_size, latency, memory
from simroot.measure.timing import _summary

# The package holds the function of the same name.
module = importlib.import_module("simroot.measure.timing")

SIZE = (3, 4, 4)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0.0)
    monkeypatch.setattr(module, "ROUNDS", 3)


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 5))


def write_onnx(model: nn.Sequential, path: Path, *, batch: int | str = "batch", kind: str = "FLOAT") -> Path:
    """The network above as ONNX, written operator by operator."""
    onnx = pytest.importorskip("onnx")
    helper, types = onnx.helper, onnx.TensorProto
    linear = model[1]
    assert isinstance(linear, nn.Linear)
    constants = [
        onnx.numpy_helper.from_array(linear.weight.detach().numpy(), "weight"),
        onnx.numpy_helper.from_array(linear.bias.detach().numpy(), "bias"),
    ]
    nodes = [
        helper.make_node("Cast", ["images"], ["real"], to=types.FLOAT),
        helper.make_node("Flatten", ["real"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["scores"], transB=1),
    ]
    images = helper.make_tensor_value_info("images", getattr(types, kind), [batch, *SIZE])
    scores = helper.make_tensor_value_info("scores", types.FLOAT, [batch, 5])
    graph = helper.make_graph(nodes, "linear", [images], [scores], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


def quick(model: Any, engine: str = "eager", **options: Any) -> Latency:
    return latency(model, SIZE, engine, seconds=1e-3, **options)


@pytest.mark.parametrize("engine", ["eager", pytest.param("compile", marks=pytest.mark.slow)])
def test_network(engine: str) -> None:
    found = quick(network(), engine, batch=4)
    assert (found.model, found.engine, found.threads, found.batch) == ("Sequential", engine, 1, 4)
    assert found.repeats >= module.ROUNDS
    assert found.error is not None
    assert found.error < 1e-5
    assert 0 < found.quartiles[0] <= found.median <= found.quartiles[1]
    weights = 4 * (48 * 5 + 5)
    assert found.peak_memory is None or found.peak_memory >= weights


def test_derived_figures() -> None:
    found = Latency("a", "eager", 1, 8, median=0.004, quartiles=(0.003, 0.0055), repeats=9)
    assert found.spread == pytest.approx(0.0025)
    assert found.milliseconds_per_image == pytest.approx(0.5)
    assert found.images_per_second == pytest.approx(2000)
    assert found.as_dict().items() >= {"median": 0.004, "spread": found.spread, "images_per_second": 2000.0}.items()


def test_median_and_quartiles_of_the_repeats() -> None:
    times = [5.0, 1.0, 4.0, 2.0, 100.0]
    found = _summary(Latency("a", "eager", 1, 1, 0, (0, 0), 0), times)
    assert (found.median, *found.quartiles) == tuple(np.percentile(times, [50, 25, 75]))
    assert found.repeats == 5


def test_the_network_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(16, 5))
    before = copy.deepcopy(model.state_dict())
    quick(model)
    assert all(each.training for each in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.slow
def test_threads_hold_and_are_put_back() -> None:
    seen: list[int] = []

    def forward(x: Tensor) -> Tensor:
        seen.append(torch.get_num_threads())
        return x.flatten(1)

    before = torch.get_num_threads()
    found = compare([Candidate("a", SIZE, Lambda(forward))], threads=[before + 1, before + 2], seconds=1e-3)
    assert [each.threads for each in found] == [before + 1, before + 2]
    assert seen == sorted(seen)
    assert set(seen) == {before + 1, before + 2}
    assert torch.get_num_threads() == before
    with pytest.raises(MismatchError):
        quick(Lambda(lambda x: torch.rand(1)), threads=before + 1)
    assert torch.get_num_threads() == before


@pytest.mark.slow
@pytest.mark.parametrize("forward", [lambda x: x.flatten(1) + torch.rand(()), lambda x: x.flatten(1) * float("nan")])
def test_no_time_without_the_right_outputs(forward: Any) -> None:
    with pytest.raises(MismatchError):
        quick(Lambda(forward))


@pytest.mark.slow
def test_networks_take_turns() -> None:
    calls: list[str] = []

    def watched(name: str) -> Lambda:
        def forward(x: Tensor) -> Tensor:
            calls.append(name)
            return x.flatten(1)

        return Lambda(forward)

    names = ("a", "b")
    compare([Candidate(name, SIZE, watched(name)) for name in names], batches=[1], seconds=1e-4)
    turns = [name for name, before in zip(calls, [None, *calls], strict=False) if name != before]
    assert turns == ["a", "b"] * (len(turns) // 2)
    assert len(turns) >= 2 * module.ROUNDS


@pytest.mark.slow
def test_order_of_the_results() -> None:
    candidates = [Candidate(name, SIZE, network()) for name in "ab"]
    said: list[str] = []
    found = compare(candidates, threads=[1, 2], batches=[1, 3], seconds=1e-4, progress=said.append)
    expected = [(threads, batch, name) for threads in (1, 2) for batch in (1, 3) for name in "ab"]
    assert [(each.threads, each.batch, each.model) for each in found] == expected
    assert sum("outputs agree to" in line for line in said) == len(expected)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("batch", ["batch", 2])
def test_file(tmp_path: Path, engine: str, batch: int | str) -> None:
    pytest.importorskip(engine)
    path = write_onnx(network(), tmp_path / "linear.onnx", batch=batch)
    assert file_input_size(path) == SIZE
    found = quick(path, engine, batch=2, threads=2, reference=network())
    assert (found.model, found.precision, found.threads) == ("linear.onnx", "f32", 2)
    assert found.error is not None
    assert found.error < 1e-5
    assert quick(str(path), engine, batch=2).error is None


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_wrong_file(tmp_path: Path, engine: str) -> None:
    pytest.importorskip(engine)
    path = write_onnx(network(seed=1), tmp_path / "other.onnx")
    with pytest.raises(MismatchError, match=r"other\.onnx in .* differ by up to .* not timed"):
        quick(path, engine, reference=network())
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ExportError, match=r"damaged\.onnx cannot be loaded"):
        quick(damaged, engine)
    with pytest.raises(ExportError, match="does not exist"):
        quick(tmp_path / "nothing.onnx", engine)
    with pytest.raises(DataError, match=r"takes inputs of shape .* received \[1, 3, 5, 5\]"):
        latency(path, (3, 5, 5), engine)
    with pytest.raises(DataError, match="takes inputs of type"):
        quick(write_onnx(network(), tmp_path / "whole.onnx", kind="INT32"), engine)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_file_that_takes_bytes(tmp_path: Path, engine: str) -> None:
    pytest.importorskip(engine)
    assert quick(write_onnx(network(), tmp_path / "bytes.onnx", kind="UINT8"), engine).error is None


def test_onnxruntime_gets_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = pytest.importorskip("onnxruntime")
    threads: list[int] = []
    load = library.InferenceSession

    def watched(path: str, options: Any, **others: Any) -> Any:
        threads.append(options.intra_op_num_threads)
        return load(path, options, **others)

    monkeypatch.setattr(library, "InferenceSession", watched)
    quick(write_onnx(network(), tmp_path / "linear.onnx"), "onnxruntime", threads=2)
    assert set(threads) == {2}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_network_is_exported_and_the_export_checked(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(engine)
    pytest.importorskip("onnxscript")
    assert quick(network(), engine, batch=2).engine == engine
    name = {"onnxruntime": "to_onnx", "openvino": "to_openvino"}[engine]
    export = importlib.import_module("simroot.export")
    write = getattr(export, name)
    monkeypatch.setattr(export, name, lambda model, *rest, **options: write(network(seed=1), *rest, **options))
    with pytest.raises(MismatchError):
        quick(network(), engine)


def test_engine_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(
        ConfigError, match=r"openvino is not installed; install it with pip install 'simroot\[export\]'"
    ):
        quick(network(), "openvino")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"needs onnxruntime or openvino"):
        file_input_size(Path("network.onnx"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "tensorrt"}, "unknown engine 'tensorrt'; known are eager"),
        ({"threads": 0}, "received 0"),
        ({"batch": 1.5}, "received 1.5"),
        ({"seconds": 0}, "seconds is 0"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        latency(network(), SIZE, **options)


def test_input_that_does_not_fit() -> None:
    with pytest.raises(ConfigError, match=r"Sequential cannot be run in eager on inputs of shape \(2, 3, 5, 5\)"):
        latency(network(), (3, 5, 5), batch=2)
    pytest.importorskip("onnxruntime")
    with pytest.raises(ConfigError, match=r"the network cannot process inputs of shape \(8, 3, 5, 5\)"):
        latency(network(), (3, 5, 5), "onnxruntime")


@pytest.mark.slow
def test_a_reference_or_output_that_cannot_be_compared(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = write_onnx(network(), tmp_path / "linear.onnx")
    for reference in (nn.Linear(5, 5), Lambda(lambda x: (x, x))):
        with pytest.raises(ConfigError, match=r"the outputs of linear\.onnx in onnxruntime cannot be compared"):
            quick(path, "onnxruntime", reference=reference)


def test_files_run_only_where_they_can() -> None:
    with pytest.raises(ConfigError, match="eager runs networks; received the file"):
        quick("network.onnx")
    with pytest.raises(ConfigError, match="neither a network nor a file"):
        compare([Candidate("a", SIZE)])
    with pytest.raises(ConfigError, match="nothing to time: none of the files runs in eager"):
        compare([Candidate("a", SIZE, file=Path("a.onnx"))])
    with pytest.raises(ConfigError, match=r"\.xml files run in openvino"):
        file_input_size(Path("network.pt"))


@pytest.mark.parametrize("name", ["network.pt", "network"])
def test_files_that_no_engine_reads(name: str) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(ConfigError, match=rf"{name}: \.onnx files run in onnxruntime and openvino"):
        quick(name, "onnxruntime")


@pytest.mark.slow
def test_peak_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result, grown = memory.peak_growth(lambda: len(bytearray(50_000_000)))
    assert result == 50_000_000
    if sys.platform == "linux":
        assert grown is not None
        assert 45e6 < grown < 80e6
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "nothing" / "clear_refs")
    assert memory.peak_growth(lambda: 3) == (3, None)
