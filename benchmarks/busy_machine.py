"""A training with as many threads as cores while other programs want the cores, too: threads that spin, and that sleep.

    python benchmarks/busy_machine.py --out results/busy_machine.json

It starts its own neighbours, a program that never rests for each core. Beside them it trains the digits' network for
some steps: with two threads that wait as those of ``simroot train`` do, with one, and with two that spin, as GNU's
OpenMP has it. That two threads give the same weights whichever way they wait is checked. ``load`` is how many programs
wanted the machine before: they make all ways slower. A way that takes too long ends early.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

# Way -> threads, and variables of the environment; without any, what ``simroot train`` does holds.
WAYS: dict[str, tuple[int, dict[str, str]]] = {
    "two threads that sleep": (2, {}),
    "one thread": (1, {}),
    "two threads that spin": (2, {"GOMP_SPINCOUNT": "300000"}),
}
_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
# Ends with the process that started it.
_NEIGHBOUR = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, check and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--neighbours", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--most", type=float, default=20.0, help="seconds of a way, after which it is ended")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--steps-of", type=int, metavar="THREADS", help=argparse.SUPPRESS)  # in a process of its own
    arguments = parser.parse_args(argv)
    if arguments.steps_of:
        print(json.dumps(steps(arguments.steps_of, arguments.steps, arguments.most)))
        return 0
    load, rows = os.getloadavg()[0], list[dict[str, Any]]()
    with neighbours(arguments.neighbours):
        for name, (threads, settings) in WAYS.items():
            rows.append({"way": name, "threads": threads, **measured(threads, settings, arguments)})
    sleeping, _, spinning = (row.pop("weights") for row in rows)
    compared = min(len(sleeping), len(spinning))
    if sleeping[:compared] != spinning[:compared]:
        raise SystemExit("the weights differ: how threads wait must not change them")
    result: dict[str, Any] = {"neighbours": arguments.neighbours, "cores": os.cpu_count(), "load": load, "rows": rows}
    result["steps_with_the_same_weights"] = compared
    print_rows(rows)
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Programs that never rest."""
    started = [subprocess.Popen([sys.executable, "-c", _NEIGHBOUR]) for _ in range(count)]
    try:
        yield
    finally:
        for each in started:
            each.kill()
            each.wait()


def measured(threads: int, settings: dict[str, str], arguments: argparse.Namespace) -> dict[str, Any]:
    """The steps in a process of their own, as the library reads the variables when it is loaded."""
    environment = {name: value for name, value in os.environ.items() if name not in _SETTINGS}
    words = ["--steps", str(arguments.steps), "--most", str(arguments.most), "--steps-of", str(threads)]
    command = [sys.executable, __file__, *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment | settings)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def steps(threads: int, count: int, most: float) -> dict[str, Any]:
    """Train the digits' network: how many steps it took, their seconds, and a hash of the weights after each."""
    from simroot.cli.waiting import wait_asleep

    wait_asleep()
    import torch
    from torch.nn.functional import cross_entropy

    from simroot.models import create_model

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = create_model("simnet2_small", 10, 1, image_size=8).to(memory_format=torch.channels_last)
    images, labels = torch.randn(128, 1, 8, 8), torch.arange(128) % 10
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    hashes: list[str] = []
    start = time.perf_counter()
    while len(hashes) < count and time.perf_counter() - start < most:
        optimizer.zero_grad()
        cross_entropy(model(images), labels).backward()
        optimizer.step()
        weights = b"".join(value.detach().numpy().tobytes() for value in model.state_dict().values())
        hashes.append(hashlib.sha256(weights).hexdigest())
    seconds = time.perf_counter() - start
    return {
        "steps": len(hashes),
        "seconds": seconds,
        "milliseconds_a_step": 1e3 * seconds / len(hashes),
        "weights": hashes,
    }


def print_rows(rows: Sequence[dict[str, Any]]) -> None:
    """The figures as a table."""
    table = Table(title="A training step beside programs that never rest", title_justify="left")
    for column in ("way", "steps", "ms a step"):
        table.add_column(column)
    for row in rows:
        table.add_row(row["way"], str(row["steps"]), f"{row['milliseconds_a_step']:.0f}")
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
