"""A training step, forward and backward, of accelerated networks against PyTorch's own, channels-last; and evaluation.

    python benchmarks/accelerated_step.py --out results/accelerated_step.json

Both sides have the same weights and images and are checked first: results and gradients are compared with float64, and
the accelerated network may not be further away than three times PyTorch's distance. Then they take turns; of each side
the fastest turn counts, of one thread in seconds of the processor, so that neighbours disturb the ratio little. Beside
them stands what each keeps for its backward pass, which is most of a training's memory: bytes of all tensors, each
once. Networks of a library that is not installed are left out.

The limit of a step is what its operations take at the machine's own speed: three times the forward pass at the rate of
PyTorch's matrix product of 1,024 x 1,024, or what the accelerated network keeps, written once and read once, at the
rate of a copy, whichever is longer. Both rates are measured in the same run, with as many threads.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from simroot.layers import accelerate
from simroot.measure import count
from simroot.models import create_model
from simroot.training.environment import versions
from simroot.training.session import keep_freed_memory

# Name of a side -> what computes its scores.
Sides = dict[str, Callable[[Tensor], Tensor]]

# Name in the table, registry name or torchvision's, overrides, side of the images.
NETWORKS: list[tuple[str, str, dict[str, Any], int]] = [
    ("simnet_mobile 65K", "simnet_mobile", {"channels": 10.0, "depth": 3}, 32),
    ("mobilenet_v3_compact 65K", "mobilenet_v3_compact", {"channels": 7.5, "depth": 3}, 32),
    ("mobilenet_v2_compact 65K", "mobilenet_v2_compact", {"channels": 8.75, "depth": 3}, 32),
    ("bsconv_wrn_s", "bsconv_wrn_s", {}, 32),
    ("simnet_residual 5K", "simnet_residual", {"channels": [12, 20, 28], "depth": [1, 3, 2]}, 32),
    ("simnet_residual 20K", "simnet_residual", {}, 32),
    ("simnet_mixed root 4, 5K", "simnet_mixed", {"channels": 11.25, "depth": 1, "degree": 4}, 32),
    ("simnet_mixed root 4, 20K", "simnet_mixed", {"channels": 25.0, "depth": 1, "degree": 4}, 32),
    ("simnet_mixed root 4, 65K", "simnet_mixed", {"channels": 25.25, "degree": 4}, 32),
    ("resnet20", "resnet20", {}, 32),
    ("torchvision mobilenet_v3_small", "torchvision:mobilenet_v3_small", {}, 96),
    ("timm efficientnet_lite0", "timm:efficientnet_lite0", {}, 96),
]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], help="networks whose name contains one of these words")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--threads", type=int, nargs="*", default=[1])
    parser.add_argument("--compile", action="store_true", help="compare with torch.compile, too: minutes for each")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args(argv)
    keep_freed_memory()
    rows, speeds = [], {}
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        speeds[threads] = rates()
    for network in NETWORKS:
        library = network[1].partition(":")[0]
        if library == "timm" and find_spec(library) is None:
            continue
        if not arguments.only or any(word in network[0] for word in arguments.only):
            for threads in arguments.threads:
                torch.set_num_threads(threads)
                rows.append(measure(network, threads, arguments, speeds[threads]))
                print(rows[-1], file=sys.stderr, flush=True)
    print_rows(rows)
    result = {"batch_size": arguments.batch_size, "rows": rows, "versions": versions()}
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def build(name: str, overrides: dict[str, Any]) -> nn.Module:
    """A network with the same weights on every call, without dropout, for whose numbers the sides would take turns."""
    torch.manual_seed(0)
    model = create_model(name, **overrides)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model.to(memory_format=torch.channels_last).train()


def measure(
    network: tuple[str, str, dict[str, Any], int],
    threads: int,
    arguments: argparse.Namespace,
    speeds: tuple[float, float],
) -> dict[str, Any]:
    """The row of one network."""
    title, name, overrides, side = network
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(arguments.batch_size, 3, side, side, generator=generator).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (arguments.batch_size,), generator=generator)
    sides: Sides = {"pytorch": build(name, overrides)}
    sides["simroot"] = accelerate(build(name, overrides))
    check(build(name, overrides), images[:64], labels[:64])
    if arguments.compile:
        sides["compiled"] = torch.compile(build(name, overrides))
    clock = time.process_time if threads == 1 else time.perf_counter

    def step(model: Callable[[Tensor], Tensor]) -> None:
        F.cross_entropy(model(images), labels).backward()

    best = in_turns(sides, step, arguments.repeats, clock)
    memory = {f"{key}_kept_mb": round(kept(model, images, labels) / 2**20) for key, model in sides.items()}
    others = min(seconds for key, seconds in best.items() if key != "simroot")
    milliseconds = {f"{key}_ms": round(1e3 * seconds, 1) for key, seconds in best.items()}
    operations = 6 * count(build(name, overrides).eval(), (3, side, side)).macs * arguments.batch_size
    evaluated = in_turns(evaluating(sides, images), lambda model: model(images), arguments.repeats, clock)
    limit = max(operations / speeds[0], 2 * 2**20 * memory["simroot_kept_mb"] / speeds[1])
    return {
        "network": title,
        "threads": threads,
        **milliseconds,
        **memory,
        "ratio": round(others / best["simroot"], 2),
        "limit_ms": round(1e3 * limit, 1),
        "times_the_limit": round(best["simroot"] / limit, 1),
        "evaluation_ratio": round(evaluated["pytorch"] / evaluated["simroot"], 2),
    }


def in_turns(
    sides: Sides, do: Callable[[Callable[[Tensor], Tensor]], object], repeats: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Seconds of each side's fastest turn; the first one warms up."""
    best = dict.fromkeys(sides, float("inf"))
    for repeat in range(repeats + 1):
        for key, model in sides.items():
            start = clock()
            do(model)
            if repeat:
                best[key] = min(best[key], clock() - start)
    return best


def evaluating(sides: Sides, images: Tensor) -> Sides:
    """The uncompiled sides in evaluation, without gradients; stop if they give other results."""
    plain, ours = (cast("nn.Module", sides[key]).eval() for key in ("pytorch", "simroot"))
    ours.load_state_dict(plain.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(ours(images), plain(images), rtol=1e-3, atol=1e-3)
    return {key: torch.no_grad()(model) for key, model in (("pytorch", plain), ("simroot", ours))}


def rates() -> tuple[float, float]:
    """Operations a second of a matrix product, and bytes a second of a copy, read and written."""
    square, line = torch.randn(1024, 1024), torch.randn(2**26)
    other = torch.empty_like(line)

    def fastest(step: Callable[[], Any]) -> float:
        found = []
        for _ in range(12):
            start = time.perf_counter()
            step()
            found.append(time.perf_counter() - start)
        return min(found)

    return 2 * 1024**3 / fastest(lambda: square @ square), 8 * len(line) / fastest(lambda: other.copy_(line))


def kept(model: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> int:
    """Bytes that the backward pass of a step will need."""
    found: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = F.cross_entropy(model(images), labels)
    del loss
    return sum(found.values())


def check(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Stop if the accelerated network is further from float64 than PyTorch's own."""
    distances: list[tuple[float, float]] = []
    for part, answers in zip(images.split(16), labels.split(16), strict=True):

        def gradients(side: nn.Module, x: Tensor, answers: Tensor = answers) -> Tensor:
            F.cross_entropy(side(x), answers).backward()
            return torch.cat([p.grad.flatten().double() for p in side.parameters() if p.grad is not None])

        exact = gradients(copy.deepcopy(model).double(), part.double())
        sides = accelerate(copy.deepcopy(model)), copy.deepcopy(model)
        ours, theirs = ((gradients(side, part) - exact).norm() / exact.norm() for side in sides)
        distances.append((ours.item(), theirs.item()))
    # A number beside the bend of an activation may fall to either side of it, here or there: not in every batch.
    distance, limit = min(one for one, _ in distances), 3 * max(other for _, other in distances) + 1e-5
    if not distance <= limit:
        raise SystemExit(f"the gradients are {distance:.2g} from float64, PyTorch's {limit / 3:.2g}")


def print_rows(rows: list[dict[str, Any]]) -> None:
    """The figures as a table."""
    table = Table(title="A training step, forward and backward", title_justify="left")
    for column in rows[0]:
        table.add_column(column, justify="left" if column == "network" else "right")
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
