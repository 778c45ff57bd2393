"""Grouped convolutions of root networks with few channels a group: engines against a small C++ kernel, on one thread.

    python benchmarks/grouped_convolution.py --out results/grouped_convolution.json

The kernel, grouped_convolution.cpp, is compiled here and checked against float64. All take turns in short rounds;
the time of each is its shortest round, as others on the machine only ever slow it down. The engines may keep a memory
layout of their own inside a network, so that a network of one layer pays for conversions: where a layer can follow
itself, a network of five is timed, and the time of a layer is a fifth, for all alike. Ratios above 1 favour the kernel.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from simroot.training.environment import versions

SOURCE = Path(__file__).with_suffix(".cpp")
CHAIN = 5
Call = Callable[[], Any]


@dataclass(frozen=True)
class Layer:
    """A grouped convolution with stride 1 of some network."""

    name: str
    inputs: int
    outputs: int
    size: int
    kernel: int
    groups: int

    def network(self, layers: int) -> nn.Sequential:
        """The layer so many times in a row, without biases."""

        def layer() -> nn.Conv2d:
            border = self.kernel // 2
            return nn.Conv2d(self.inputs, self.outputs, self.kernel, padding=border, groups=self.groups, bias=False)

        return nn.Sequential(*(layer() for _ in range(layers))).eval()

    @property
    def macs(self) -> int:
        return self.outputs * self.inputs // self.groups * self.kernel**2 * self.size**2


LAYERS = [
    Layer("nin_root8 conv2a", 96, 192, 16, 5, 8),
    Layer("nin_root16 conv2a", 96, 192, 16, 5, 16),
    Layer("nin_tree8 conv3a", 192, 192, 8, 3, 16),
    Layer("nin_tree16 conv3a", 192, 192, 8, 3, 32),
    Layer("resnet50_root8 layer1", 64, 64, 56, 3, 8),
    Layer("resnet50_root16 layer1", 64, 64, 56, 3, 16),
    Layer("resnet50_root32 layer1", 64, 64, 56, 3, 32),
    Layer("resnet50_root32 layer2", 128, 128, 28, 3, 16),
    Layer("resnet50_root64 layer2", 128, 128, 28, 3, 32),
]


def main(argv: Sequence[str] | None = None) -> int:
    """Check, time, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--milliseconds", type=float, default=5.0, help="least length of a round")
    parser.add_argument("--layers", default="", help="those whose name contains this")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        kernel = build(Path(folder))
        for layer in (each for each in LAYERS if arguments.layers in each.name):
            rows.append(measure(layer, kernel, arguments, Path(folder)))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    show(rows)
    if arguments.out:
        content = {"batch": arguments.batch, "threads": 1, "versions": versions(), "rows": rows}
        arguments.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


def build(folder: Path) -> Any:
    """The kernel as a function of pointers."""
    library = folder / "kernel.so"
    options = ["-O3", "-march=native", "-std=c++17", "-shared", "-fPIC"]
    subprocess.run(["c++", *options, str(SOURCE), "-o", str(library)], check=True)
    function = ctypes.CDLL(str(library)).grouped_convolution
    function.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_int] * 7
    function.restype = None
    return function


def measure(layer: Layer, kernel: Any, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Milliseconds of one layer in each engine and in the kernel, and their ratios."""
    torch.manual_seed(0)
    length = CHAIN if layer.inputs == layer.outputs else 1
    x = torch.randn(arguments.batch, layer.inputs, layer.size, layer.size)
    network = layer.network(length)
    expected = network.double()(x.double())
    network.float()
    calls = contestants(network, layer, x, kernel, folder, not arguments.no_compile)
    for name, call in calls.items():
        difference = (torch.as_tensor(call()).double() - expected).abs().max() / expected.abs().max()
        assert difference < 1e-4, f"{name} differs by {difference:.2g}"
    seconds = shortest(calls, arguments.rounds, arguments.milliseconds / 1e3)
    times = {name: 1e3 * value / length for name, value in seconds.items()}
    own = times["kernel"]
    return {
        "layer": layer.name,
        "channels_a_group": layer.inputs // layer.groups,
        "macs": layer.macs,
        "layers_timed": length,
        "milliseconds": times,
        "gmacs_per_second": {name: layer.macs * arguments.batch / t / 1e6 for name, t in times.items()},
        "ratio_to_kernel": {name: t / own for name, t in times.items() if name != "kernel"},
    }


def contestants(
    network: nn.Sequential, layer: Layer, x: Tensor, kernel: Any, folder: Path, compiled: bool
) -> dict[str, Call]:
    """Name -> a call that runs the whole network on x."""
    import onnxruntime
    import openvino

    last = x.to(memory_format=torch.channels_last)
    moved = layer.network(len(network))
    moved.load_state_dict(network.state_dict())
    moved.to(memory_format=torch.channels_last)
    calls: dict[str, Call] = {"eager": lambda: network(x), "eager, channels-last": lambda: moved(last)}
    if compiled:
        fast = torch.compile(moved)
        calls["compile"] = lambda: fast(last)

    weights = [conv.get_parameter("weight").contiguous() for conv in network]
    path = folder / f"{layer.name}-{len(network)}.onnx"
    write_onnx(path, layer, [weight.numpy() for weight in weights], tuple(x.shape))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    array, name = x.numpy(), session.get_inputs()[0].name
    calls["onnxruntime"] = lambda: session.run(None, {name: array})[0]

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    model = openvino.Core().compile_model(str(path), "CPU", settings)
    request = model.create_infer_request()
    calls["openvino"] = lambda: request.infer([array], share_inputs=True, share_outputs=True)[0]

    shape = (layer.groups, layer.inputs // layer.groups, layer.outputs // layer.groups)
    sizes = (len(x), *shape, layer.size, layer.size, layer.kernel)

    def own() -> Tensor:
        value = x
        for weight in weights:
            result = torch.empty(len(x), layer.outputs, layer.size, layer.size)
            kernel(value.data_ptr(), weight.data_ptr(), result.data_ptr(), *sizes)
            value = result
        return value

    calls["kernel"] = own
    return calls


def write_onnx(path: Path, layer: Layer, weights: Sequence[Any], shape: tuple[int, ...]) -> None:
    """The network as an ONNX file of convolutions alone."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    border = [layer.kernel // 2] * 4
    nodes = [
        helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"x{i + 1}"], pads=border, group=layer.groups)
        for i in range(len(weights))
    ]
    result = (shape[0], layer.outputs, *shape[2:])
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"x{len(weights)}", TensorProto.FLOAT, result)],
        [numpy_helper.from_array(weight, f"w{i}") for i, weight in enumerate(weights)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))


def shortest(calls: dict[Any, Call], rounds: int, least: float) -> dict[Any, float]:
    """Seconds a call of each in its shortest round; all take turns."""
    numbers = {}
    for key, call in calls.items():
        call()
        start = time.perf_counter()
        call()
        numbers[key] = max(1, round(least / (time.perf_counter() - start)))
    best = dict.fromkeys(calls, np.inf)
    for _ in range(rounds):
        for key, call in calls.items():
            call()
            start = time.perf_counter()
            for _ in range(numbers[key]):
                call()
            best[key] = min(best[key], (time.perf_counter() - start) / numbers[key])
    return best


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print the ratios."""
    names = list(rows[0]["ratio_to_kernel"])
    table = Table("layer", "channels", "kernel GMAC/s", *(f"{name} / kernel" for name in names))
    for row in rows:
        ratios = [f"{row['ratio_to_kernel'][name]:.2f}" for name in names]
        table.add_row(row["layer"], str(row["channels_a_group"]), f"{row['gmacs_per_second']['kernel']:.1f}", *ratios)
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
