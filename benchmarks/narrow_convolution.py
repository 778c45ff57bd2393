"""Depthwise and 1x1 convolutions by simroot's kernels against PyTorch's, layer by layer, one thread, channels-last.

    python benchmarks/narrow_convolution.py --out results/narrow_convolution.json

The layers are those of simnet_mobile and mobilenet_v3_compact of 65,000 parameters, of 128 images. For each: the
output, the gradient of x and that of the filters, each by itself; and `all`, forward and backward of batch
normalisation, hardswish and the convolution behind them, which is how a training uses the kernels. Both sides are
compared first, then they take turns; of each side the fastest turn's processor time counts.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from simroot import ops
from simroot.ops.narrow import Norm
from simroot.training.environment import versions
from simroot.training.session import keep_freed_memory

# Side of the images, channels in and out, kernel, stride.
LAYERS = [
    (32, 8, 32, 1, 1),
    (32, 32, 32, 3, 1),
    (32, 32, 32, 5, 2),
    (32, 32, 8, 1, 1),
    (16, 20, 80, 1, 1),
    (16, 80, 80, 5, 1),
    (16, 80, 80, 5, 2),
    (16, 80, 20, 1, 1),
    (16, 60, 60, 5, 1),
    (8, 40, 160, 1, 1),
    (8, 160, 160, 5, 1),
    (8, 160, 40, 1, 1),
]
EPS = 1e-5


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    keep_freed_memory()
    rows = [measure(layer, arguments.images, arguments.repeats) for layer in LAYERS]
    table = Table(*rows[0], title="PyTorch's time over simroot's", title_justify="left")
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)
    if arguments.out:
        result = {"images": arguments.images, "rows": rows, "versions": versions()}
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(layer: tuple[int, int, int, int, int], images: int, repeats: int) -> dict[str, Any]:
    """The ratios of one layer."""
    side, inputs, outputs, kernel, stride = layer
    groups = inputs if kernel > 1 else 1
    settings = (stride, kernel // 2, groups)
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    x = normal(images, inputs, side, side).to(memory_format=torch.channels_last).requires_grad_()
    filters = (normal(outputs, inputs // groups, kernel, kernel) / kernel).requires_grad_()
    weight, bias = normal(inputs).requires_grad_(), normal(inputs).requires_grad_()

    def theirs(x: Tensor, filters: Tensor) -> Tensor:
        return F.conv2d(x, filters, None, stride, kernel // 2, 1, groups)

    def ours(x: Tensor, filters: Tensor) -> Tensor:
        nothing = (None, None, None, None, 0.0, "none")
        y: Tensor = torch.ops.simroot.narrow_conv(x, *nothing, filters, *settings, False)[0]
        return y

    def whole_theirs() -> Tensor:
        z = F.hardswish(F.batch_norm(x, None, None, weight, bias, True, 0.1, EPS))
        y = F.conv2d(z, filters, None, stride, kernel // 2, 1, groups)
        return torch.autograd.grad(y, (filters, x, weight, bias), grad)[0]

    # In a training the convolution before has found these, and the normalisation behind gives the result's a gradient.
    mean, var = (one.detach().requires_grad_() for one in (x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)))
    nothing_more = torch.zeros(outputs)

    def whole_ours() -> Tensor:
        norm = Norm(mean, var, weight, bias, EPS, "hardswish")
        y, moments = ops.narrow_conv2d(x, filters, *settings, norm=norm, moments=True)
        assert moments is not None
        given = grad, nothing_more, nothing_more
        return torch.autograd.grad((y, *moments), (filters, x, mean, var, weight, bias), given)[0]

    grad = torch.randn(theirs(x, filters).shape, generator=generator).to(memory_format=torch.channels_last)
    row: dict[str, Any] = {"side": side, "channels": f"{inputs} -> {outputs}", "kernel": kernel, "stride": stride}
    constants = x.detach(), filters.detach()
    row["output"] = ratio(lambda: theirs(*constants), lambda: ours(*constants), repeats)
    for name, wanted, given in (("of x", x, (x, constants[1])), ("of filters", filters, (constants[0], filters))):
        first, second = (
            partial(torch.autograd.grad, side(*given), wanted, grad, retain_graph=True) for side in (theirs, ours)
        )
        row[f"gradient {name}"] = ratio(lambda a=first: a()[0], lambda b=second: b()[0], repeats)  # type: ignore[misc]
    row["all"] = ratio(whole_theirs, whole_ours, repeats)
    print(row, file=sys.stderr, flush=True)
    return row


def ratio(theirs: Callable[[], Tensor], ours: Callable[[], Tensor], repeats: int) -> float:
    """How many times as fast ours is."""
    expected, found = theirs(), ours()
    if not float((expected - found).abs().max()) <= 1e-3 * float(expected.abs().max()):
        raise SystemExit("the sides differ")
    best = [float("inf")] * 2
    for _ in range(repeats):
        for place, call in enumerate((theirs, ours)):
            start = time.process_time()
            call()
            best[place] = min(best[place], time.process_time() - start)
    return round(best[0] / best[1], 2)


if __name__ == "__main__":
    sys.exit(main())
