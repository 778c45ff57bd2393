"""Networks timed from the command line. Nothing here asserts a time."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from cli.result import Simroot
from simroot.images.preparation import sides
from simroot.measure import count, timing
from simroot.models import create_model, deploy
from simroot.training import load_run

QUICK = ("--seconds", "0.001")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_PAUSE", 0.0)
    monkeypatch.setattr(timing, "ROUNDS", 3)


@pytest.mark.slow
def test_networks_side_by_side(simroot: Simroot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "new" / "folder"
    words = ("simnet2_small", "simnet2_small:order=1", "--image-size", 8, "--batch", "1,4")
    result = simroot("bench", *words, *QUICK, "--out", out)
    assert result.code == 0
    titles = [f"eager (f32), 1 thread, batch {batch}" for batch in (1, 4)]
    assert [line for line in result.out.splitlines() if "thread" in line] == titles
    assert result.out.count("simnet2_small") == 4
    assert max(map(len, result.out.splitlines())) <= 80
    assert "speed-up" in result.out
    assert "simnet2_small:order=1 in eager, 1 thread, batch 4: outputs agree to" in result.err
    assert (out / "bench.png").read_bytes().startswith(b"\x89PNG")
    saved = json.loads((out / "bench.json").read_text())
    assert len(saved["results"]) == 4
    assert saved["versions"]["torch"] == str(torch.__version__)
    macs = count(deploy(create_model("simnet2_small", image_size=8)), (3, 8, 8)).macs
    for row in saved["results"]:
        assert row["macs"] == macs
        assert row["mac_ratio"] == 1
        assert row["efficiency"] == row["speedup"]
        assert row["images_per_second"] == pytest.approx(row["batch"] / row["median"])
        assert row["spread"] == pytest.approx(row["quartiles"][1] - row["quartiles"][0])


@pytest.mark.slow
def test_run_and_json(simroot: Simroot, trained: Path) -> None:
    result = simroot("bench", trained, "simnet_mlp", "--num-classes", 7, "--json", *QUICK)
    first, second = result.json["results"]
    run = load_run(trained)
    size = (run.channels, *sides(run.image_size))
    assert (first["model"], first["macs"]) == (str(trained), count(deploy(run.model), size).macs)
    assert first["speedup"] == first["efficiency"] == 1
    assert second["mac_ratio"] == pytest.approx(first["macs"] / second["macs"])
    assert second["speedup"] == pytest.approx(first["median"] / second["median"])
    assert second["efficiency"] == pytest.approx(second["speedup"] / second["mac_ratio"])


@pytest.mark.slow
def test_network_and_its_file(simroot: Simroot, tmp_path: Path) -> None:
    engines = ("onnxruntime", "openvino")
    for library in ("onnx", *engines):
        pytest.importorskip(library)
    from simroot.export import to_onnx

    path = tmp_path / "small.onnx"
    to_onnx(create_model("simnet2_small", image_size=8), path, (3, 8, 8))
    words = ("simnet2_small", path, "--image-size", 8, "--engine", "eager,onnxruntime,openvino")
    found = simroot("bench", *words, "--json", *QUICK).json
    rows = {(row["engine"], row["model"]): row for row in found["results"]}
    both = [(engine, name) for engine in engines for name in ("simnet2_small", str(path))]
    assert list(rows) == [("eager", "simnet2_small"), *both]  # PyTorch does not run files
    for (_, name), row in rows.items():
        is_file = name == str(path)
        assert (row["macs"] is None) == (row["error"] is None) == is_file
        assert is_file or row["error"] < 1e-4
    assert found["versions"].keys() >= {*engines, "torch"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["simnet"], "unknown model 'simnet'"),
        (["simnet2", "--engine", "eager,tensorflow"], "unknown engine 'tensorflow'; known are eager"),
        (["simnet2:channels"], "'channels' is no override; expected KEY=VALUE"),
        (["simnet2:colour=1"], "simnet2 has no override 'colour'"),
        (["nothing.onnx"], "nothing.onnx cannot be loaded"),
        (["weights.pt"], ".onnx files run in onnxruntime and openvino"),
        (["weights.safetensors"], "weights.json does not exist; simroot rootify writes it"),
        (["simnet2", "--threads", "1,none"], "'none' is no whole number of at least 1"),
        (["simnet2", "--seconds", "0"], "'0' is no number above 0"),
        ([], "required: MODEL|RUN|FILE"),
    ],
)
def test_mistakes_are_one_line(simroot: Simroot, words: list[str], message: str) -> None:
    result = simroot("bench", *words)
    assert result.code == 2
    assert message in result.err
    assert len(result.err.splitlines()) == 1


def odd(case: str, path: Path) -> Path:
    """A file that ONNX Runtime loads and that is no classifier of images."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    helper, kinds = onnx.helper, onnx.TensorProto
    shape: dict[str, list[int | str]] = {"dynamic": ["n", 3, "h", "w"], "scalar": []}
    kind = {"string": kinds.STRING, "int64": kinds.INT64}.get(case, kinds.FLOAT)
    value = helper.make_tensor_value_info
    names = {"no input": [], "two inputs": ["a", "b"]}.get(case, ["a"])
    inputs = [value(name, kind, shape.get(case, ["n", 3])) for name in names]
    constant = helper.make_node("Constant", [], ["c"], value=helper.make_tensor("v", kinds.FLOAT, [7], [1.0] * 7))
    nodes = {
        "no input": [constant, helper.make_node("Identity", ["c"], ["y"])],
        "two inputs": [helper.make_node("Add", ["a", "b"], ["y"])],
        "fails": [constant, helper.make_node("Add", ["a", "c"], ["y"])],
    }.get(case, [helper.make_node("Identity", ["a"], ["y"])])
    graph = helper.make_graph(nodes, "odd", inputs, [value("y", kind, None)])
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("case", ["dynamic", "scalar", "no input", "two inputs", "string", "int64", "fails"])
def test_odd_files_are_one_line(simroot: Simroot, case: str, engine: str, tmp_path: Path) -> None:
    pytest.importorskip(engine, reason=f"{engine} is not installed")
    result = simroot("bench", odd(case, tmp_path / "odd.onnx"), "--engine", engine, *QUICK)
    assert result.code == 2
    assert len(result.err.splitlines()) == 1
    assert "odd.onnx" in result.err


def test_engine_that_is_not_installed(simroot: Simroot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = simroot("bench", "simnet2", "--engine", "onnxruntime")
    assert result.code == 2
    assert result.err.startswith("simroot bench: error: engine onnxruntime is not installed; install it with pip")


def test_cost_with_the_time_of_each_layer(simroot: Simroot, monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"": 1.0, "similarities.0.conv": 4.0, "similarities.0.similarity": 3.0}
    asked: list[int] = []

    def time_layers(model: torch.nn.Module, size: tuple[int, ...], *, batch: int) -> dict[str, float]:
        asked.append(batch)
        return {name: times.get(name, 0.5) for name, _ in model.named_modules()}

    monkeypatch.setattr("simroot.measure.time_layers", time_layers)
    found = simroot("cost", "simnet2", "--time", "--batch", 16, "--json").json
    layers = {layer["name"]: layer for layer in found["layers"]}
    assert layers["similarities.0.conv"]["seconds"] == 4
    assert layers["similarities.0.conv"]["share"] == pytest.approx(4 / found["seconds"])
    assert (found["batch"], asked) == (16, [16])
    monkeypatch.setenv("COLUMNS", "120")
    out = simroot("cost", "simnet2", "--time").out
    assert "4000.000" in out
    assert f"{100 * 4 / found['seconds']:.2f} %" in out


@pytest.mark.slow
def test_cost_times_every_row(simroot: Simroot) -> None:
    found = simroot("cost", "resnet50", "--set", "image_size=32", "--time", "--json").json
    named = [layer["name"] for layer in found["layers"]]
    for index, layer in enumerate(found["layers"]):
        assert (layer["seconds"] is None) == (layer["name"] in named[:index])
    assert 0 < sum(layer["share"] or 0 for layer in found["layers"]) <= 1


def test_cost_without_time_says_nothing_of_it(simroot: Simroot) -> None:
    found = simroot("cost", "simnet2", "--json").json
    assert "seconds" not in found
    assert "seconds" not in found["layers"][0]
