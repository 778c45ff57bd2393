"""What Lightning, the metrics and the files cost: a training through simroot against a bare PyTorch loop.

    python benchmarks/training_step.py --model simnet2 --steps 10 --repeats 5

Both train the same network on the same batches from the same weights; that they end in the same weights is checked
first. Then they take turns, and the medians of their seconds a step are compared. Prints a table, then JSON. The data
is random images: nothing here depends on what they show.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.table import Table
from torch import nn

from simroot.data import ImageData, from_arrays, loader
from simroot.models import create_model
from simroot.training import Recipe, build_optimizer, recipe, schedule_factor
from simroot.training.environment import versions
from simroot.training.module import ClassificationModule, epoch_seed
from simroot.training.session import quiet, reproducible
from simroot.training.trainer import make_trainer


class Clock(Callback):
    """Times every step from the start of one batch's loading to the start of the next one's."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._before = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._before = time.perf_counter()

    def on_train_batch_end(self, *arguments: Any) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self._before)
        self._before = now


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="simnet2")
    parser.add_argument("--overrides", type=json.loads, default={}, help="of the network, as JSON")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10, help="in a repeat")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args(argv)
    chosen = recipe(epochs=1, batch_size=arguments.batch_size, shift=4, mirror=True, learning_rate=0.01)
    data = random_images(arguments.steps * arguments.batch_size, arguments.image_size)

    through_lightning: list[float] = []
    bare: list[float] = []
    loading: list[float] = []
    for repeat in range(arguments.repeats + 1):
        one, seconds = train_with_lightning(fresh(arguments.model, data, arguments.overrides), data, chosen)
        other, bare_seconds, share = train_bare(fresh(arguments.model, data, arguments.overrides), data, chosen)
        if differing := [name for name in one if not torch.equal(one[name], other[name])]:
            raise SystemExit(f"the two loops give different weights: {', '.join(differing)}")
        if repeat:  # the first round warms up
            through_lightning += seconds[1:]
            bare += bare_seconds[1:]
            loading.append(share)
    result = {
        "model": arguments.model,
        "overrides": arguments.overrides,
        "batch_size": arguments.batch_size,
        "steps": len(bare),
        "simroot_ms": 1e3 * median(through_lightning),
        "bare_ms": 1e3 * median(bare),
        "ratio": median(through_lightning) / median(bare),
        "loading_share": median(loading),
        "same_weights": True,
        "versions": versions(),
    }
    print_result(result)
    print(json.dumps(result, indent=2))
    return 0


def random_images(count: int, size: int) -> ImageData:
    """Training images of ten classes and a few to validate on."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count + 20, 3, size, size), generator=generator, dtype=torch.uint8)
    return from_arrays(images, torch.arange(count + 20) % 10, validation=20)


def fresh(name: str, data: ImageData, overrides: Mapping[str, Any]) -> nn.Module:
    """The network with the same initial weights on every call, channels-last."""
    torch.manual_seed(0)
    model = create_model(name, len(data.classes), data.channels, image_size=data.image_size, **overrides)
    return model.to(memory_format=torch.channels_last)


def train_with_lightning(
    model: nn.Module, data: ImageData, chosen: Recipe
) -> tuple[dict[str, torch.Tensor], list[float]]:
    """An epoch as simroot trains it: the weights and the seconds of each step."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder, quiet():
        trainer = make_trainer(Path(folder), chosen, [clock], {"accelerator": "cpu"})
        with reproducible(torch.device("cpu")):
            trainer.fit(ClassificationModule(model, data, chosen))
    return model.state_dict(), clock.seconds


def train_bare(model: nn.Module, data: ImageData, chosen: Recipe) -> tuple[dict[str, torch.Tensor], list[float], float]:
    """An epoch in a plain loop: the weights, the seconds of each step and the share of them spent on loading."""
    optimizer = build_optimizer(model, chosen)
    rates = [group["lr"] for group in optimizer.param_groups]
    batches = loader(
        data.train, chosen.batch_size, mean=data.mean, std=data.std, train=True, channels_last=True,
        shift=chosen.shift or 0, mirror=bool(chosen.mirror), seed=chosen.seed,
    )  # fmt: skip
    steps = len(batches)
    seconds, loading = [], 0.0
    with reproducible(torch.device("cpu")):
        torch.manual_seed(epoch_seed(chosen.seed, 0))
        model.train()
        start = time.perf_counter()
        for step, (images, labels) in enumerate(batches):
            loading += time.perf_counter() - start
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * schedule_factor(chosen, step, steps)
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            now = time.perf_counter()
            seconds.append(now - start)
            start = now
    return model.state_dict(), seconds, loading / sum(seconds)


def print_result(result: dict[str, Any]) -> None:
    """The figures as a table."""
    table = Table(title=f"A training step of {result['model']}, {result['batch_size']} images", title_justify="left")
    for column in ("simroot", "bare loop", "ratio", "loading's share"):
        table.add_column(column, justify="right")
    table.add_row(
        f"{result['simroot_ms']:.1f} ms",
        f"{result['bare_ms']:.1f} ms",
        f"{result['ratio']:.3f}",
        f"{result['loading_share']:.1%}",
    )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
