"""Grouped convolutions of root networks: the project's kernels against PyTorch, ONNX Runtime and OpenVINO.

    python benchmarks/grouped_convolution.py --threads 1 --out results/grouped_convolution.json
    python benchmarks/grouped_convolution.py --layers nin --no-networks

Each layer first gives the same results everywhere, compared with float64. Then all take turns in short rounds; the time
of each is its shortest round, as others on the machine only ever slow it down. The engines may keep a memory layout of
their own inside a network, so that a network of one layer pays for conversions: where a layer can follow itself, a
network of five is timed for the output, and the time of a layer is a fifth, for all alike. Gradients are timed for
a larger batch, pass by pass, and the whole of forward and backward as `grouped_conv2d` divides it among the kernels and
PyTorch. Ratios above 1 favour the kernels: the best form of PyTorch, and the best engine of all, against them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from simroot import create_model
from simroot.engines.pytorch import torch_threads
from simroot.models import deploy
from simroot.ops import grouped_conv2d, kernels_in_use, use_kernels
from simroot.ops.grouped.operator import passes_of_kernel
from simroot.training.environment import versions

CHAIN = 5
FORMATS = {"": torch.contiguous_format, ", channels-last": torch.channels_last}
Call = Callable[[], Any]
Row = dict[str, Any]


@dataclass(frozen=True)
class Layer:
    """A grouped convolution of some networks; the input is padded by half the kernel's size."""

    name: str
    groups: int
    inputs: int
    outputs: int
    size: int
    kernel: int
    stride: int = 1

    @property
    def settings(self) -> tuple[int, int, int]:
        return self.stride, self.kernel // 2, self.groups

    @property
    def passes(self) -> dict[str, bool]:
        """Which passes the kernels take by themselves."""
        shape = (self.inputs // self.groups, self.outputs // self.groups, self.kernel, self.size, self.stride)
        return passes_of_kernel(*shape)._asdict()

    @property
    def macs(self) -> int:
        return self.outputs * self.inputs // self.groups * self.kernel**2 * (self.size // self.stride) ** 2

    def network(self, layers: int) -> nn.Sequential:
        """The layer so many times in a row, without biases, by PyTorch."""
        stride, padding, groups = self.settings
        options: dict[str, Any] = {"stride": stride, "padding": padding, "groups": groups, "bias": False}
        return nn.Sequential(*(nn.Conv2d(self.inputs, self.outputs, self.kernel, **options) for _ in range(layers)))


LAYERS = [
    *(Layer(f"nin_root{g} conv2a", g, 96, 192, 16, 5) for g in (2, 4, 8, 16)),
    *(Layer(f"{name} conv3a", g, 192, 192, 8, 3) for name, g in
      (("nin_column4", 4), ("nin_tree4", 8), ("nin_tree8", 16), ("nin_tree16", 32))),
    *(Layer(f"resnet50_root{g} layer1", g, 64, 64, 56, 3) for g in (8, 16, 32, 64)),
    *(Layer(f"resnet50_root{2 * g} layer2", g, 128, 128, 28, 3) for g in (8, 16, 32)),
    Layer("resnet50_root64 layer3", 16, 256, 256, 14, 3),
    *(Layer(f"resnet50_root{2 * g} layer2, stride on 3x3", g, 128, 128, 56, 3, 2) for g in (16, 32)),
]  # fmt: skip
NETWORKS = {"nin_root8": 32, "nin_root16": 32, "resnet50_root16": 224, "resnet50_root32": 224}
TRAINED = ("nin_root8", "nin_root16")


def main(argv: Sequence[str] | None = None) -> int:
    """Check, time, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1, help="images for the output")
    parser.add_argument("--training-batch", type=int, default=16, help="images for gradients and training steps")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--milliseconds", type=float, default=5.0, help="least length of a round")
    parser.add_argument("--layers", default="", help="those whose name contains this")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--no-networks", action="store_true", help="layers only")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder, torch_threads(arguments.threads):
        layers = [measure(layer, arguments, Path(folder)) for layer in LAYERS if arguments.layers in layer.name]
        networks = [] if arguments.no_networks else measure_networks(arguments)
    show(layers, networks)
    if arguments.out:
        settings = {key: getattr(arguments, key) for key in ("threads", "batch", "training_batch")}
        kernels = {"kernels": kernels_in_use().name}
        content = {**settings, **kernels, "versions": versions(), "layers": layers, "networks": networks}
        arguments.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(layer: Layer, arguments: argparse.Namespace, folder: Path) -> Row:
    """Milliseconds of one layer's passes for each contestant, and their ratios to the kernels."""
    torch.manual_seed(0)
    length = CHAIN if layer.inputs == layer.outputs and layer.stride == 1 else 1
    network = layer.network(length)
    x = torch.randn(arguments.batch, layer.inputs, layer.size, layer.size)
    timed = partial(shortest, rounds=arguments.rounds, least=arguments.milliseconds / 1e3)
    with torch.inference_mode():
        calls = inference(network, layer, x, folder, arguments)
        expected = network.double()(x.double())
        network.float()
        check(layer, {name: [torch.as_tensor(call())] for name, call in calls.items()}, [expected])
        found = {"output": {name: value / length for name, value in timed(calls).items()}}
    x = torch.randn(arguments.training_batch, layer.inputs, layer.size, layer.size)
    for name, calls in training(layer, x).items():
        found[name] = timed(calls, rounds=arguments.rounds // 2)
    milliseconds = {name: {key: 1e3 * value for key, value in times.items()} for name, times in found.items()}
    row = {
        "layer": layer.name,
        "channels_a_group": [layer.inputs // layer.groups, layer.outputs // layer.groups],
        "macs": layer.macs,
        "layers_timed": length,
        "kernels_take": layer.passes,
        "kernel_gmacs_per_second": layer.macs * arguments.batch / best(milliseconds["output"], "kernel") / 1e6,
        "milliseconds": milliseconds,
        "ratios": {
            name: {rival: best(times, rival) / best(times, "kernel") for rival in rivals(times)}
            for name, times in milliseconds.items()
        },
    }
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def best(times: dict[str, float], kind: str) -> float:
    """The shortest time of those whose name begins with this."""
    return min(value for name, value in times.items() if name.startswith(kind))


def rivals(times: dict[str, float]) -> list[str]:
    return [name for name in ("eager", "compile", "onnxruntime", "openvino") if name in times]


def check(layer: Layer, found: dict[str, list[Tensor]], expected: Sequence[Tensor]) -> None:
    for name, results in found.items():
        for result, exact in zip(results, expected, strict=True):
            difference = (result.double() - exact).abs().max() / exact.abs().max()
            assert difference < 1e-4, f"{layer.name}: {name} differs by {difference:.2g}"


def inference(
    network: nn.Sequential, layer: Layer, x: Tensor, folder: Path, arguments: argparse.Namespace
) -> dict[str, Call]:
    """Name -> a call that runs the whole network on x."""
    calls: dict[str, Call] = {}
    weights = [conv.get_parameter("weight").clone() for conv in network]
    for suffix, memory_format in FORMATS.items():
        moved = layer.network(len(network))
        moved.load_state_dict(network.state_dict())
        moved.to(memory_format=memory_format)
        images = x.contiguous(memory_format=memory_format)
        calls[f"eager{suffix}"] = partial(moved, images)
        filters = [weight.contiguous(memory_format=memory_format) for weight in weights]
        calls[f"kernel{suffix}"] = partial(run_kernel, layer, images, filters)
    if not arguments.no_compile:
        calls["compile"] = partial(torch.compile(moved), images)
    path = folder / f"{layer.name}.onnx".replace(" ", "-")
    write_onnx(path, layer, [weight.numpy() for weight in weights], tuple(x.shape))
    return calls | engines(path, x, arguments.threads)


def run_kernel(layer: Layer, x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    for weight in weights:
        x = torch.ops.simroot.grouped_conv(x, weight, None, *layer.settings)
    return x


def engines(path: Path, x: Tensor, threads: int) -> dict[str, Call]:
    """Calls of ONNX Runtime and OpenVINO in float32."""
    import onnxruntime
    import openvino

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    array, name = x.numpy(), session.get_inputs()[0].name
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    request = openvino.Core().compile_model(str(path), "CPU", settings).create_infer_request()
    return {
        "onnxruntime": lambda: session.run(None, {name: array})[0],
        "openvino": lambda: request.infer([array], share_inputs=True, share_outputs=True)[0],
    }


def write_onnx(path: Path, layer: Layer, weights: Sequence[Any], shape: tuple[int, ...]) -> None:
    """The network as an ONNX file of convolutions alone."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    stride, padding, groups = layer.settings
    options = {"pads": [padding] * 4, "strides": [stride] * 2, "group": groups}
    nodes = [helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"x{i + 1}"], **options) for i in range(len(weights))]
    result = (shape[0], layer.outputs, *(size // stride for size in shape[2:]))
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"x{len(weights)}", TensorProto.FLOAT, result)],
        [numpy_helper.from_array(weight, f"w{i}") for i, weight in enumerate(weights)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))


def training(layer: Layer, x: Tensor) -> dict[str, dict[str, Call]]:
    """Pass -> name -> a call, after a check of the gradients."""
    stride, padding, groups = layer.settings
    weight = torch.randn(layer.outputs, layer.inputs // groups, layer.kernel, layer.kernel)
    grad = torch.randn_like(F.conv2d(x, weight, None, stride, padding, 1, groups))

    def both(function: Callable[..., Tensor], settings: Sequence[int], x: Tensor, w: Tensor, g: Tensor) -> list[Tensor]:
        inputs = [x.detach().requires_grad_(), w.detach().requires_grad_()]
        return list(torch.autograd.grad(function(*inputs, None, *settings), inputs, g))

    def theirs(mask: list[bool], x: Tensor, w: Tensor, g: Tensor) -> Any:
        sizes = ([stride] * 2, [padding] * 2, [1, 1], False, [0, 0], groups)
        return torch.ops.aten.convolution_backward(g, x, w, None, *sizes, mask)

    calls: dict[str, dict[str, Call]] = {"input_gradient": {}, "filter_gradient": {}, "forward_backward": {}}
    if stride > 1:
        del calls["input_gradient"]
    for suffix, memory_format in FORMATS.items():
        tensors = [t.contiguous(memory_format=memory_format) for t in (x, weight, grad)]
        images, filters, g = tensors
        native = torch.ops.simroot
        for name, mask in (("input_gradient", [True, False, False]), ("filter_gradient", [False, True, False])):
            if name in calls:
                calls[name][f"eager{suffix}"] = partial(theirs, mask, *tensors)
        if stride == 1:
            kernel = partial(native.grouped_conv_input, g, images, filters, padding, groups)
            calls["input_gradient"][f"kernel{suffix}"] = kernel
        kernel = partial(native.grouped_conv_filters, g, images, filters, *layer.settings)
        calls["filter_gradient"][f"kernel{suffix}"] = kernel
        passes = calls["forward_backward"]
        passes[f"eager{suffix}"] = partial(both, F.conv2d, (stride, padding, 1, groups), *tensors)
        passes[f"kernel{suffix}"] = partial(both, grouped_conv2d, layer.settings, *tensors)
    exact = both(F.conv2d, (stride, padding, 1, groups), x.double(), weight.double(), grad.double())
    check(layer, {name: call() for name, call in calls["forward_backward"].items()}, exact)
    for index, name in enumerate(("input_gradient", "filter_gradient")):
        own = {key: call() for key, call in calls.get(name, {}).items() if key.startswith("kernel")}
        found = {key: [out if isinstance(out, Tensor) else out[0]] for key, out in own.items()}
        check(layer, found, exact[index : index + 1])
    return calls


def measure_networks(arguments: argparse.Namespace) -> list[Row]:
    """Whole networks, channels-last, with the kernels and without."""
    rows = []
    for name, size in NETWORKS.items():
        deployed = deploy(create_model(name)).to(memory_format=torch.channels_last)
        for batch in (1, 8):
            x = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
            rows.append(network_row(name, "inference", batch, torch.inference_mode()(partial(deployed, x))))
    for name in TRAINED:
        model = create_model(name).to(memory_format=torch.channels_last)
        x = torch.randn(arguments.training_batch, 3, NETWORKS[name], NETWORKS[name])
        x, labels = x.contiguous(memory_format=torch.channels_last), torch.arange(len(x)) % 10
        rows.append(network_row(name, "training step", len(x), partial(step, model, x, labels)))
    return rows


def step(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    model.zero_grad()
    loss = F.cross_entropy(model(x), labels)
    loss.backward()
    return loss.detach()


def network_row(name: str, what: str, batch: int, run: Call) -> Row:
    """Milliseconds with and without kernels, after a check that the results are the same."""

    def without() -> Any:
        with use_kernels("reference"):
            return run()

    torch.testing.assert_close(run(), without(), rtol=1e-3, atol=1e-3)
    times = shortest({"kernels": run, "eager": without}, rounds=8, least=0.0)
    row = {"network": name, "what": what, "batch": batch, "milliseconds": {k: 1e3 * v for k, v in times.items()}}
    row["ratio"] = times["eager"] / times["kernels"]
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def shortest(calls: dict[str, Call], rounds: int, least: float) -> dict[str, float]:
    """Seconds a call of each in its shortest round; all take turns."""
    numbers = {}
    for key, call in calls.items():
        call()
        start = time.perf_counter()
        call()
        numbers[key] = max(1, round(least / (time.perf_counter() - start)))
    found = dict.fromkeys(calls, np.inf)
    for _ in range(rounds):
        for key, call in calls.items():
            start = time.perf_counter()
            for _ in range(numbers[key]):
                call()
            found[key] = min(found[key], (time.perf_counter() - start) / numbers[key])
    return found


def show(layers: Sequence[Row], networks: Sequence[Row]) -> None:
    """Print the ratios; those of passes that the kernels take are marked."""
    columns = [("output", rival) for rival in ("eager", "compile", "onnxruntime", "openvino")]
    columns += [(name, "eager") for name in ("input_gradient", "filter_gradient", "forward_backward")]
    table = Table("layer", "channels", "GMAC/s", *(f"{name}: {rival}" for name, rival in columns))
    for row in layers:
        cells = []
        for name, rival in columns:
            ratio = row["ratios"].get(name, {}).get(rival)
            mark = "*" if row["kernels_take"].get(name) else ""
            cells.append("" if ratio is None else f"{ratio:.2f}{mark}")
        speed = f"{row['kernel_gmacs_per_second']:.1f}"
        table.add_row(row["layer"], "->".join(map(str, row["channels_a_group"])), speed, *cells)
    console = Console()
    console.print(table)
    table = Table("network", "what", "batch", "with kernels, ms", "without, ms", "ratio")
    for row in networks:
        times = (f"{row['milliseconds'][key]:.2f}" for key in ("kernels", "eager"))
        table.add_row(row["network"], row["what"], str(row["batch"]), *times, f"{row['ratio']:.2f}")
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
