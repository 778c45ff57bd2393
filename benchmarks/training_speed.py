"""A training step, and on demand a whole epoch, of simnet2 against convnet_caffe; what bfloat16 and the rest change.

    python benchmarks/training_speed.py --threads 1 2 --epoch 6400 --options --out results/training_speed.json

The networks take turns, on the same batch, with simroot's own training step and optimizer. Checked first: that each
loss is finite, and that native and reference kernels give the same gradient. ``--options`` measures the same step with
bfloat16, with torch.compile and with an optimizer that is not fused, in turns with the plain step. Prints a table and
writes JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from training_step import random_images

from simroot import ops
from simroot.borrowed.from_torch import compile_every_kind
from simroot.data import ImageData
from simroot.engines.pytorch import torch_threads
from simroot.models import create_model, model_entry
from simroot.training import Recipe, build_optimizer, recipe
from simroot.training.environment import versions
from simroot.training.module import Batch, ClassificationModule
from simroot.training.session import keep_freed_memory, quiet, reproducible
from simroot.training.trainer import make_trainer

BASE = "convnet_caffe"
NETWORKS: dict[str, dict[str, Any]] = {
    BASE: {},
    "simnet2:order=2": {"order": 2.0},
    "simnet2:order=1": {"order": 1.0},
    "simnet2:order=1.37": {"order": 1.37},
}
OPTIONS = ("plain", "bf16", "compile", "unfused")
# Of a parameter's gradient, by norm. The normalisations amplify rounding: the reference's own gradient changes by 3e-3
# when the images of the batch are put in another order.
GRADIENT_TOLERANCE = 1e-2

Times = dict[str, list[float]]


def main(argv: Sequence[str] | None = None) -> int:
    """Check, measure, print and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=5, help="in a turn, besides one that is not timed")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--epoch", type=int, metavar="IMAGES", help="also time whole epochs of so many images")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of each network (default: %(default)s)")
    parser.add_argument("--options", action="store_true", help="also time each option")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args(argv)
    keep_freed_memory()
    data = random_images(max(arguments.epoch or 0, arguments.batch_size), 32)
    batch = first_batch(data, arguments.batch_size)
    for name in arguments.networks:
        check_gradients(name, data, batch)
    rows = []
    for threads in arguments.threads:
        with torch_threads(threads), reproducible(torch.device("cpu")), compile_every_kind():
            steps = {name: Step(name, data, batch) for name in arguments.networks}
            times = in_turns(steps, arguments.rounds, arguments.steps)
            rows += summary("step", threads, times, BASE)
            if arguments.epoch:
                epochs = {name: epoch(name, data, arguments.batch_size) for name in arguments.networks}
                rows += summary("epoch", threads, in_turns(epochs, arguments.epochs, 1, warm=False), BASE)
            if arguments.options:
                for name in arguments.networks:
                    variants = {f"{name} {option}": Step(name, data, batch, option) for option in OPTIONS}
                    times = in_turns(variants, arguments.rounds, arguments.steps)
                    rows += summary("step", threads, times, f"{name} plain")
    result = {"batch_size": arguments.batch_size, "images": arguments.epoch, "versions": versions(), "rows": rows}
    print_rows(rows)
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def chosen_recipe(name: str, batch_size: int) -> Recipe:
    """The recipe that the network is registered with, for one epoch, with a rate at which random labels do no harm."""
    registered = model_entry(name.partition(":")[0]).recipe
    fixed = {"epochs": 1, "batch_size": batch_size, "shift": 4, "mirror": True, "learning_rate": 1e-3}
    return recipe(**{**registered, **fixed})


def classifier(name: str, data: ImageData, batch_size: int) -> ClassificationModule:
    """The network as simroot trains it, with the same initial weights on every call, channels-last."""
    torch.manual_seed(0)
    model = create_model(name.partition(":")[0], len(data.classes), data.channels, **NETWORKS[name])
    return ClassificationModule(model.to(memory_format=torch.channels_last), data, chosen_recipe(name, batch_size))


def first_batch(data: ImageData, size: int) -> Batch:
    """Images as the loader hands them out: normalised, channels-last."""
    images = data.train.read(torch.arange(size)).float() / 255
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (data.mean, data.std))
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last), data.train.labels[:size]


class Step:
    """One step of a training: gradient, clipping, optimizer."""

    def __init__(self, name: str, data: ImageData, batch: Batch, option: str = "plain") -> None:
        self.module = classifier(name, data, len(batch[1]))
        self.batch = batch
        self.autocast = torch.autocast("cpu", torch.bfloat16) if option == "bf16" else nullcontext()
        self.optimizer = build_optimizer(self.module.model, self.module.recipe)
        if option == "unfused":
            for group in self.optimizer.param_groups:
                group["fused"] = None
        if option == "compile":
            self.module.model.compile()
        self.module.train()

    def __call__(self) -> None:
        with self.autocast:
            loss = self.module.training_step(self.batch, 0)
        self.optimizer.zero_grad()
        loss.backward()
        if self.module.recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.module.recipe.clip_norm)
        self.optimizer.step()


def epoch(name: str, data: ImageData, batch_size: int) -> Callable[[], None]:
    """A training of one epoch, with loading, augmentation and validation."""

    def run() -> None:
        module = classifier(name, data, batch_size)
        with tempfile.TemporaryDirectory() as folder, quiet():
            make_trainer(Path(folder), module.recipe, [], {"accelerator": "cpu"}).fit(module)

    return run


def in_turns(runs: dict[str, Any], rounds: int, repeats: int, *, warm: bool = True) -> Times:
    """Seconds of each call; a turn is one call that is not timed, if ``warm``, and some that are."""
    times: Times = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            if warm:
                run()
            for _ in range(repeats):
                start = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - start)
    return times


def check_gradients(name: str, data: ImageData, batch: Batch) -> None:
    """Stop unless the loss is finite and all kernels give the reference's gradient."""
    expected, found = (gradients(name, data, batch, kernels) for kernels in ("reference", "auto"))
    for parameter, gradient in expected.items():
        error = float((found[parameter] - gradient).norm() / gradient.norm().clamp_min(1e-12))
        if not error <= GRADIENT_TOLERANCE:
            raise SystemExit(f"{name}: the native gradient of {parameter} is {error:.1e} from the reference's")


def gradients(name: str, data: ImageData, batch: Batch, kernels: str) -> dict[str, Tensor]:
    """The gradient of the training loss by every parameter."""
    with ops.use_kernels(kernels):
        module = classifier(name, data, len(batch[1])).train()
        loss = module.training_step(batch, 0)
        if not loss.isfinite():
            raise SystemExit(f"{name}: the loss is {float(loss)}")
        loss.backward()
    return {key: p.grad for key, p in module.model.named_parameters() if p.grad is not None}


def summary(what: str, threads: int, times: Times, base: str) -> list[dict[str, Any]]:
    """Medians, quartiles and the ratio of the medians to the base's."""
    rows = []
    reference = statistics.median(times[base]) if base in times else None
    for key, seconds in times.items():
        network, _, option = key.partition(" ")
        median = statistics.median(seconds)
        lower, _, upper = statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else 3 * [median]
        found = {"median": median, "quartiles": [lower, upper], "repeats": len(seconds)}
        ratio = {"ratio": median / reference if reference else None, "to": base}
        rows.append({"what": what, "threads": threads, "network": network, "option": option or "plain"} | found | ratio)
    return rows


def print_rows(rows: Iterable[dict[str, Any]]) -> None:
    """The figures as a table."""
    table = Table(title="Training", title_justify="left")
    for column in ("network", "option", "what", "threads", "median", "quartiles", "ratio", "to"):
        table.add_column(column)
    for row in rows:
        lower, upper = (1e3 * second for second in row["quartiles"])
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.3f}"
        figures = (f"{1e3 * row['median']:.1f} ms", f"{lower:.1f} to {upper:.1f}", ratio, row["to"])
        table.add_row(row["network"], row["option"], row["what"], str(row["threads"]), *figures)
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
