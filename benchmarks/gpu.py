"""What a GPU makes of simroot: are the Triton kernels right, how fast are they, and which options speed up trainings.

    python benchmarks/gpu.py --out results/gpu.json

One script for a machine with a GPU, of at most 12 minutes. Without one it says so and ends with exit code 2.

1. The kernels' results and gradients against the formulas in float64, on the same GPU.
2. Their time, forward and backward, against the same formulas by torch.compile and by PyTorch's operations.
3. 50 steps of every network of the frontier, float32, channels-last: images in a second.
4. Options, for four networks: channels-last, bfloat16, the fused optimiser, torch.compile and CUDA graphs.

What fails is in the file with its reason, and so is what the minutes did not reach. ``--rehearse`` goes through it on
the CPU with two steps of few networks, where the figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simroot import ops
from simroot.models import create_model
from simroot.ops import use_kernels
from simroot.reproduce.compact_frontier import BUDGETS, networks
from simroot.training.environment import versions

NO_GPU = 2
Row = dict[str, Any]

# Rows, channels, outputs, order; an order of None is a MEX layer.
SIZES = ((100_352, 32, 32), (21_632, 64, 64), (16_384, 192, 192))
KINDS: tuple[float | None, ...] = (1.0, 2.0, 1.37, None)
# Relative to the largest value: of results, of gradients (tests/tolerances.py has the reasons).
ALLOWED = (2e-5, 1e-4)
# Name of the way -> channels-last, bfloat16, fused optimiser, and what the network is wrapped in.
WAYS: dict[str, tuple[bool, bool, bool, str]] = {
    "as it is": (False, False, False, ""),
    "channels-last": (True, False, False, ""),
    "channels-last, fused": (True, False, True, ""),
    "channels-last, fused, bfloat16": (True, True, True, ""),
    "channels-last, fused, CUDA graph": (True, False, True, "graph"),
    "channels-last, fused, compiled": (True, False, True, "compile"),
}
WATCHED = ("simnet_mixed, root 4", "simnet_mobile", "mobilenet_v3_compact", "resnet")
WATCHED_BUDGET = 65_000


class Bench:
    """Where it runs, how long, and for how many minutes more."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.rehearsal: bool = arguments.rehearse
        self.device = torch.device("cpu" if self.rehearsal else "cuda")
        self.steps = 2 if self.rehearsal else arguments.steps
        self.batch = 16 if self.rehearsal else arguments.batch_size
        self.end = time.monotonic() + 60 * arguments.minutes

    def seconds(self, call: Callable[[], object], repeats: int, *, warm: int = 3) -> float:
        """The median of a call's seconds, from launch to the last kernel's end."""
        found = []
        for turn in range(warm + repeats):
            start = time.perf_counter()
            call()
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            if turn >= warm:
                found.append(time.perf_counter() - start)
        return median(found)

    def rows(self, tasks: Sequence[tuple[Row, Callable[[], Row]]]) -> Iterator[Row]:
        """What each task finds, beside its name; or why it found nothing."""
        for name, task in tasks:
            if time.monotonic() > self.end:
                found: Row = {"left out": "no minutes left"}
            else:
                try:
                    found = task()
                except Exception as error:  # one that fails must not take the others with it
                    found = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
            print({**name, **found}, file=sys.stderr, flush=True)
            yield {**name, **found}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write; 1 if a kernel is wrong, 2 without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=12, help="what is not begun by then is left out")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, to see that the script works")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args(argv)
    if not arguments.rehearse and not torch.cuda.is_available():
        print("no GPU: PyTorch sees none here (torch.cuda.is_available()); nothing was measured", file=sys.stderr)
        return NO_GPU
    bench = Bench(arguments)
    kernels = list(bench.rows(correctness(bench)))
    result = {
        "device": "CPU, a rehearsal" if bench.rehearsal else torch.cuda.get_device_name(),
        "versions": {**versions(), "cuda": torch.version.cuda},
        "batch_size": bench.batch,
        "correctness": kernels,
        "speed": list(bench.rows(speed(bench))),
        "networks": list(bench.rows(frontier(bench))),
        "options": list(bench.rows(options(bench))),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")
    return int(any(row.get("right") is not True for row in kernels if "left out" not in row))


def cases(bench: Bench) -> Iterator[tuple[Row, tuple[int, int, int], float | None]]:
    """Every size with every kind of operator."""
    for size in [(512, 8, 8)] if bench.rehearsal else SIZES:
        for order in KINDS:
            operator = "mex_dense" if order is None else f"similarity, order {order:g}"
            yield {"operator": operator, "rows, channels, outputs": list(size)}, size, order


def inputs(size: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """Rows, templates (or offsets) and weights, the same in every precision."""
    rows, channels, outputs = size
    generator = torch.Generator().manual_seed(0)
    shapes = ((rows, channels), (outputs, channels), (outputs, channels))
    x, z, u = (torch.randn(shape, generator=generator) for shape in shapes)
    return [one.to(device, dtype).requires_grad_() for one in (x, z, u.exp())]


def operator_of(order: float | None) -> Callable[..., Tensor]:
    """Simroot's operator."""
    if order is None:
        return lambda x, z, u: ops.mex_dense(x, z * u, 1.5)
    return lambda x, z, u: ops.similarity(x, z, u, order=order)


def formula(order: float | None) -> Callable[..., Tensor]:
    """The same by broadcasting, as one would write it."""
    if order is None:
        return lambda x, z, u: torch.logsumexp(1.5 * (x[:, None] + z * u), 2).sub(torch.tensor(x.shape[1]).log()) / 1.5
    return lambda x, z, u: -((x[:, None] - z).abs() ** order * u).sum(2)


def correctness(bench: Bench) -> list[tuple[Row, Callable[[], Row]]]:
    """The kernels against float64."""

    def compare(size: tuple[int, int, int], order: float | None) -> Row:
        sides = []
        for dtype in (torch.float32, torch.float64):
            tensors = inputs(size, dtype, bench.device)
            y = operator_of(order)(*tensors)
            sides.append([y.detach(), *torch.autograd.grad(y.square().mean(), tensors)])
        far = [
            float((ours.double() - exact).abs().max() / exact.abs().max()) for ours, exact in zip(*sides, strict=True)
        ]
        right = far[0] < ALLOWED[0] and max(far[1:]) < ALLOWED[1]
        return {"error": far[0], "error of gradients": max(far[1:]), "right": right}

    return [(name, lambda s=size, o=order: compare(s, o)) for name, size, order in cases(bench)]  # type: ignore[misc]


def speed(bench: Bench) -> list[tuple[Row, Callable[[], Row]]]:
    """Milliseconds forward and backward: kernels, PyTorch's operations in chunks, torch.compile."""

    def race(size: tuple[int, int, int], order: float | None) -> Row:
        tensors = inputs(size, torch.float32, bench.device)

        def step(function: Callable[..., Tensor]) -> Callable[[], object]:
            return lambda: torch.autograd.grad(function(*tensors).sum(), tensors)

        found = {"simroot_ms": bench.seconds(step(operator_of(order)), 10)}
        with use_kernels("reference"):
            found["pytorch_ms"] = bench.seconds(step(operator_of(order)), 3, warm=1)
        torch.compiler.reset()
        found["compiled_ms"] = bench.seconds(step(torch.compile(formula(order))), 10)
        return {key: round(1e3 * value, 3) for key, value in found.items()}

    return [(name, lambda s=size, o=order: race(s, o)) for name, size, order in cases(bench)]  # type: ignore[misc]


def train(bench: Bench, model: nn.Module, way: str) -> Row:
    """Images in a second, and the memory's peak, of so many steps."""
    last, half, fused, wrapped = WAYS[way]
    layout = torch.channels_last if last else torch.contiguous_format
    model = model.to(bench.device, memory_format=layout).train()  # type: ignore[call-overload]
    images = torch.randn(bench.batch, 3, 32, 32, device=bench.device).to(memory_format=layout)
    labels = torch.randint(0, 10, (bench.batch,), device=bench.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True, fused=fused)
    call: Callable[[Tensor], Any] = model
    if wrapped == "compile":
        torch.compiler.reset()
        call = torch.compile(model)
    elif wrapped == "graph":
        call = torch.cuda.make_graphed_callables(model, (images,))

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(bench.device.type, torch.bfloat16, enabled=half):
            scores = call(images)
        F.cross_entropy(scores.float(), labels).backward()
        optimizer.step()

    start = time.perf_counter()
    step()
    first = time.perf_counter() - start
    seconds = bench.seconds(step, bench.steps)
    found = {"images a second": round(bench.batch / seconds), "first step (s)": round(first, 1)}
    if bench.device.type == "cuda":
        found["peak (MB)"] = round(torch.cuda.max_memory_allocated() / 2**20)
        torch.cuda.reset_peak_memory_stats()
    return found


def frontier(bench: Bench) -> list[tuple[Row, Callable[[], Row]]]:
    """Every network of the frontier."""
    tasks: list[tuple[Row, Callable[[], Row]]] = []
    for budget in BUDGETS[:1] if bench.rehearsal else BUDGETS:
        for network in networks(budget):
            name = {"network": network.name, "budget": budget}
            tasks.append((name, lambda n=network: train(bench, build(n), "channels-last, fused")))  # type: ignore[misc]
    return tasks[:2] if bench.rehearsal else tasks


def options(bench: Bench) -> list[tuple[Row, Callable[[], Row]]]:
    """The ways to train a few networks; those that take a minute of compiling last."""
    chosen = [network for network in networks(WATCHED_BUDGET) if network.name in WATCHED]
    return [
        ({"network": network.name, "way": way}, lambda n=network, w=way: train(bench, build(n), w))  # type: ignore[misc]
        for way in (list(WAYS)[:-1] if bench.rehearsal else WAYS)
        for network in (chosen[:1] if bench.rehearsal else chosen)
    ]


def build(network: Any) -> nn.Module:
    """The network with its first weights."""
    torch.manual_seed(0)
    return create_model(network.model, 10, 3, **{"image_size": 32, **network.overrides})


if __name__ == "__main__":
    sys.exit(main())
