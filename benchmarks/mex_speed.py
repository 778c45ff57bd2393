"""MEX by native kernels against PyTorch: the dense layer against log-matmul-exp, pooling against max pooling.

    python benchmarks/mex_speed.py --threads 1 2 --out results/mex_speed.json

The dense layer has 21,632 rows, 64 channels and 10 outputs; log-matmul-exp subtracts the largest elements, multiplies
the exponentials as matrices and takes logarithms, and autograd differentiates it. Pooling is over windows of 2 x 2,
channels-last. First the results and gradients are checked to be equal: the dense layer against log-matmul-exp, pooling
against max pooling at a large beta. Then the two take turns; the ratio is that of their medians.
"""

from __future__ import annotations

import argparse
import json
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
from torch.nn import functional as F

from simroot.ops import kernels_in_use, mex_dense, mex_pool2d

ROWS, CHANNELS, OUTPUTS = 21_632, 64, 10
IMAGES = [(128, 32, 32, 32), (32, 64, 32, 32), (128, 64, 14, 14)]

Call = Callable[[], object]


def main(argv: Sequence[str] | None = None) -> int:
    """Check, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="few repeats: whether it runs, not how fast")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args(argv)
    repeats = 3 if arguments.quick else arguments.repeats
    torch.manual_seed(0)
    rows = []
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        rows += [{"threads": threads, **row} for row in dense(repeats)]
        for shape in IMAGES:
            rows += [{"threads": threads, **row} for row in pooling(shape, repeats)]
    result = {"kernels": kernels_in_use().name, "torch": torch.__version__, "repeats": repeats, "rows": rows}
    show(result)
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def log_matmul_exp(x: Tensor, offsets: Tensor, beta: Tensor) -> Tensor:
    """MEX over channels plus offsets as PyTorch users write it."""
    scaled, shifts = beta * x, beta * offsets
    top, peak = scaled.amax(1, keepdim=True), shifts.amax(1, keepdim=True)
    product = (scaled - top).exp() @ (shifts - peak).exp().t() / x.shape[1]
    return (product.log() + top + peak.t()) / beta


def dense(repeats: int) -> list[dict[str, Any]]:
    tensors = [torch.randn(ROWS, CHANNELS), torch.randn(OUTPUTS, CHANNELS), torch.tensor(1.5)]
    learned = [tensor.clone().requires_grad_() for tensor in tensors]
    grad = torch.randn(ROWS, OUTPUTS)

    def train(function: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(function(*learned), learned, grad)

    same("mex_dense", mex_dense(*tensors), log_matmul_exp(*tensors))
    for ours, theirs in zip(train(mex_dense), train(log_matmul_exp), strict=True):
        same("mex_dense's gradient", ours, theirs)
    name, against = f"mex_dense ({ROWS}, {CHANNELS}, {OUTPUTS})", "log-matmul-exp"
    return [
        compare(name, "forward", against, lambda: mex_dense(*tensors), lambda: log_matmul_exp(*tensors), repeats),
        compare(name, "forward + backward", against, lambda: train(mex_dense), lambda: train(log_matmul_exp), repeats),
    ]


def pooling(shape: tuple[int, int, int, int], repeats: int) -> list[dict[str, Any]]:
    x = torch.randn(shape).contiguous(memory_format=torch.channels_last)
    learned = x.clone(memory_format=torch.channels_last).requires_grad_()
    grad = torch.randn_like(F.max_pool2d(x, 2))

    def pool(x: Tensor, beta: float = 1.5) -> Tensor:
        return mex_pool2d(x, beta, 2)

    def max_pool(x: Tensor) -> Tensor:
        return F.max_pool2d(x, 2)

    def train(function: Callable[..., Tensor], *settings: float) -> Tensor:
        return torch.autograd.grad(function(learned, *settings), learned, grad)[0]

    # At beta = 1e9 only elements that agree to nine digits share the gradient, as ties do at the limit.
    same("mex_pool2d at a large beta", pool(x, 1e9), max_pool(x))
    if ((train(pool, 1e9) - train(max_pool)).abs() > 1e-3).float().mean() > 1e-4:
        raise SystemExit("the gradients of mex_pool2d at a large beta and of max_pool2d differ")
    name, against = f"mex_pool2d {shape}", "max_pool2d"
    return [
        compare(name, "forward", against, lambda: pool(x), lambda: max_pool(x), repeats),
        compare(name, "forward + backward", against, lambda: train(pool), lambda: train(max_pool), repeats),
    ]


def same(name: str, ours: Tensor, theirs: Tensor) -> None:
    difference = float((ours - theirs).abs().max() / theirs.abs().max())
    if not difference < 1e-4:
        raise SystemExit(f"{name} differs from PyTorch by {difference:.1e} of the largest value")


def compare(name: str, what: str, against: str, ours: Call, theirs: Call, repeats: int) -> dict[str, Any]:
    """Seconds of both, taking turns after a warm-up."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + 3):
        for call, record in zip((ours, theirs), seconds, strict=True):
            start = time.perf_counter()
            call()
            if repeat >= 3:
                record.append(time.perf_counter() - start)
    milliseconds = [1e3 * median(record) for record in seconds]
    return {
        "operator": name,
        "measured": what,
        "against": against,
        "ms": milliseconds[0],
        "against_ms": milliseconds[1],
        "times_faster": milliseconds[1] / milliseconds[0],
    }


def show(result: dict[str, Any]) -> None:
    """The figures as a table."""
    table = Table(title=f"MEX, kernels: {result['kernels']}", title_justify="left")
    for column in ("operator", "measured", "threads", "ms", "against", "its ms", "times faster"):
        table.add_column(column, justify="left" if column in ("operator", "measured", "against") else "right")
    for row in result["rows"]:
        table.add_row(
            row["operator"],
            row["measured"],
            str(row["threads"]),
            f"{row['ms']:.3f}",
            row["against"],
            f"{row['against_ms']:.3f}",
            f"{row['times_faster']:.2f}",
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
