"""Speed of the native l_p similarity against torch.compile, chunked torch and matrix products, ratios within one run.

    python benchmarks/similarity_speed.py [--quick] [--repeats N] [--out results/similarity_speed.json]

For each size and order all ways first compute the same outputs and gradients, which must agree; then they take turns,
on one thread, and the medians of their processor times are compared, so that what else runs on the machine counts
little. The alternatives: the formula by broadcasting through
torch.compile; the library's own PyTorch path, which goes over it in chunks; for p = 2 its expansion into two matrix
products (the usual trick, which loses digits where means are large). At p = 1 the forward pass is also compared with
the arithmetic alone, a loop of subtract, absolute value and multiply-add on data in registers and first-level cache,
and with itself on two threads; that is wall-clock time, and needs a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from simroot.ops import kernels_in_use, similarity
from simroot.ops.native import run
from simroot.ops.similarity.plain import Geometry
from simroot.ops.similarity.tiled import direct_lp

SIZES = ((100_352, 32, 32), (21_632, 64, 64), (16_384, 192, 192))
ORDERS = (1.0, 2.0, 1.37)
TOLERANCE = 1e-4

Function = Callable[[Tensor, Tensor, Tensor], Tensor]


def main(argv: Sequence[str] | None = None) -> int:
    """Check, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="an eighth of the rows, 3 repeats")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("results/similarity_speed.json"))
    arguments = parser.parse_args(argv)
    if kernels_in_use().name == "reference":
        raise SystemExit(f"there are no native kernels to measure: {kernels_in_use().reason}")
    repeats = 3 if arguments.quick else arguments.repeats
    torch.set_num_threads(1)
    limit = arithmetic_limit()
    rows = []
    for size in SIZES:
        count = size[0] // 8 if arguments.quick else size[0]
        for p in ORDERS:
            rows += measure((count, *size[1:]), p, repeats, limit)
            print_rows(rows[-2:])
    result = {
        "machine": {"processor": processor(), "system": platform.platform()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "kernels": kernels_in_use().name,
        "repeats": repeats,
        "arithmetic_limit_ns": limit,
        "rows": rows,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def processor() -> str:
    """The processor's name where the system gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def arithmetic_limit() -> float:
    """Nanoseconds for a coordinate at p = 1 if there were nothing but the arithmetic."""
    coordinates = torch.zeros((), dtype=torch.int64)

    def once() -> float:
        start = time.process_time()
        run("lp_limit", "the limit of arithmetic", repeats=1_000_000, coordinates=coordinates)
        return 1e9 * (time.process_time() - start) / coordinates.item()

    return median(once() for _ in range(50))


def measure(size: tuple[int, int, int], p: float, repeats: int, limit: float) -> list[dict[str, Any]]:
    """One row for the forward pass and one for forward and backward."""
    rows, channels, templates = size
    generator = torch.Generator().manual_seed(0)
    x, z = (torch.randn(n, channels, generator=generator) for n in (rows, templates))
    u = torch.rand(templates, channels, generator=generator)
    ways = functions(p)
    grad = torch.randn(rows, templates, generator=generator)
    check(ways, x, z, u, grad)

    def forward(function: Function) -> Callable[[], object]:
        return lambda: function(x, z, u)

    leaves = [tensor.clone().requires_grad_() for tensor in (x, z, u)]

    def both(function: Function) -> Callable[[], object]:
        return lambda: torch.autograd.grad(function(*leaves), leaves, grad)

    found = []
    for name, wrap in (("forward", forward), ("forward and backward", both)):
        calls = {way: wrap(function) for way, function in ways.items()}
        seconds = interleaved(calls, repeats, time.process_time)
        unit = 1e9 / (rows * channels * templates)
        row: dict[str, Any] = {"size": size, "p": p, "pass": name}
        row["ns"] = {way: {"median": unit * median(s), "min": unit * min(s)} for way, s in seconds.items()}
        native = row["ns"]["native"]["median"]
        row["ratios"] = {way: times["median"] / native for way, times in row["ns"].items() if way != "native"}
        threads = {"one": calls["native"], "two": on_two_threads(calls["native"])}
        one, two = map(median, interleaved(threads, repeats, time.perf_counter).values())
        row["two_threads"] = one / two
        if p == 1 and name == "forward":
            row["share_of_limit"] = limit / native
        found.append(row)
    return found


def functions(p: float) -> dict[str, Function]:
    """The ways to compute the similarity of (rows, C) to (R, C)."""

    def native(x: Tensor, z: Tensor, u: Tensor) -> Tensor:
        return similarity(x, z, u, order=p)

    def broadcast(x: Tensor, z: Tensor, u: Tensor) -> Tensor:
        d = x[:, None] - z
        return -(u * (d.abs() if p == 1 else d.square() if p == 2 else d.abs().pow(p))).sum(-1)

    def chunked(x: Tensor, z: Tensor, u: Tensor) -> Tensor:
        image, templates, weights = x.t()[None, :, :, None], z[..., None, None], u[..., None, None]
        out = direct_lp(image, templates, weights, p, Geometry((1, 1), (1, 1), 1), missing=False)
        return out[0, :, :, 0].t()

    def products(x: Tensor, z: Tensor, u: Tensor) -> Tensor:
        uz = u * z
        return torch.addmm((-uz * z).sum(1), x, 2 * uz.t()) - x.square() @ u.t()

    torch._dynamo.reset()
    compiled: Function = torch.compile(broadcast, dynamic=False)
    ways = {"native": native, "torch.compile": compiled, "chunked": chunked}
    return ways | {"matrix products": products} if p == 2 else ways


def check(ways: dict[str, Function], x: Tensor, z: Tensor, u: Tensor, grad: Tensor) -> None:
    """Compares outputs and gradients; the first calls also compile."""
    expected: list[Tensor] = []
    for name, function in ways.items():
        leaves = [tensor.clone().requires_grad_() for tensor in (x, z, u)]
        with torch.no_grad():
            function(x, z, u)
        y = function(*leaves)
        found = [y.detach(), *torch.autograd.grad(y, leaves, grad)]
        expected = expected or found
        for one, other in zip(found, expected, strict=True):
            difference = float((one - other).abs().max() / other.abs().max())
            if not difference < TOLERANCE:
                raise SystemExit(f"{name} differs by {difference:.2g} from the native kernels")


def on_two_threads(call: Callable[[], object]) -> Callable[[], object]:
    """The same call with two threads."""

    def run() -> object:
        torch.set_num_threads(2)
        try:
            return call()
        finally:
            torch.set_num_threads(1)

    return run


def interleaved(
    calls: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of every call in every round; the first round only warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            start = clock()
            call()
            if turn:
                seconds[name].append(clock() - start)
    return seconds


def print_rows(rows: list[dict[str, Any]]) -> None:
    """The figures of one size and order."""
    first = rows[0]
    table = Table(title=f"{first['size']}, p = {first['p']:g}: ns a coordinate (ratio to native)", title_justify="left")
    table.add_column("pass")
    for way in first["ns"]:
        table.add_column(way, justify="right")
    table.add_column("two threads", justify="right")
    table.add_column("of the limit", justify="right")
    for row in rows:
        ratios = {way: f" ({ratio:.2g})" for way, ratio in row["ratios"].items()}
        cells = [f"{times['median']:.3f}" + ratios.get(way, "") for way, times in row["ns"].items()]
        share = row.get("share_of_limit")
        table.add_row(row["pass"], *cells, f"{row['two_threads']:.2f}", f"{share:.0%}" if share else "")
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
