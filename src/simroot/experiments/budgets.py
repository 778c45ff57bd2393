"""Budgets of parameters, operations and time, and the widest network of a family within one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from simroot.data import ImageData
from simroot.errors import ConfigError
from simroot.measure import count, latency
from simroot.models import create_model, deploy
from simroot.preparation import ImageSize, sides

# How times are measured: exported, one image at a time.
ENGINE, THREADS, BATCH = "onnxruntime", 1, 1

# Of measuring one network while the widest is looked for.
_SECONDS = 0.3

# Width, a whole number from 1 on -> overrides of the network, whose parameters, operations and time rise with it.
Widths = Callable[[int], Mapping[str, Any]]


@dataclass(frozen=True)
class Task:
    """What a network is for: so many classes, images of so many channels and of this height and width."""

    num_classes: int = 10
    in_channels: int = 3
    image_size: ImageSize = 32

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Shape of one image, (C, H, W)."""
        return (self.in_channels, *sides(self.image_size))


CIFAR_10 = Task()


def task_of(data: ImageData) -> Task:
    """What a network trained on the data is for."""
    return Task(len(data.classes), data.channels, data.image_size)


@dataclass(frozen=True)
class Budget:
    """The most that a deployed network may have and take; None for what does not matter.

    Attributes:
        parameters: their number.
        macs: multiply-accumulates for one image.
        milliseconds: for one image, on one thread, in ONNX Runtime, on this machine.

    Raises:
        ConfigError: if nothing matters.
    """

    parameters: int | None = None
    macs: int | None = None
    milliseconds: float | None = None

    def __post_init__(self) -> None:
        if not str(self):
            raise ConfigError("the budget has no limit; expected a number of parameters, of MACs or of milliseconds")

    def __str__(self) -> str:
        limits = {"{:,} parameters": self.parameters, "{:,} MACs": self.macs, "{:g} ms": self.milliseconds}
        return ", ".join(text.format(limit) for text, limit in limits.items() if limit is not None)

    def allows(self, network: nn.Module, task: Task) -> bool:
        """Whether a deployed network is within it."""
        return (
            (self.parameters is None or parameters(network) <= self.parameters)
            and (self.macs is None or count(network, task.input_size).macs <= self.macs)
            # Over the limit it gets another chance: whatever slowed the machine down for a moment must not decide.
            and (self.milliseconds is None or any(milliseconds(network, task) <= self.milliseconds for _ in range(2)))
        )


def widest(model: str, budget: Budget, widths: Widths, task: Task = CIFAR_10) -> Mapping[str, Any]:
    """Overrides of the family's largest network within a budget.

    Args:
        model: a name of ``simroot.models.list_models()``.
        budget: what it must be within.
        widths: the family.
        task: what it is for.

    Raises:
        ConfigError: if even a width of 1 needs more, or the family cannot process such images.
    """

    def fits(width: int) -> bool:
        return budget.allows(deployed(model, widths(width), task), task)

    if not fits(1):
        raise ConfigError(f"the narrowest {model} is not within {budget}; expected a larger budget")
    above = 2
    while fits(above):
        above *= 2
    candidates = range(above // 2, above)
    fitting = bisect_left(candidates, True, key=lambda width: not fits(width))
    return widths(candidates[fitting - 1])


def deployed(model: str, overrides: Mapping[str, Any], task: Task = CIFAR_10) -> nn.Module:
    """A registered network as it would be used: normalisations folded away; the weights mean nothing."""
    with torch.random.fork_rng(devices=[]):
        options = {"image_size": task.image_size, **overrides}
        return deploy(create_model(model, task.num_classes, task.in_channels, **options))


def parameters(network: nn.Module) -> int:
    """How many it has."""
    return sum(parameter.numel() for parameter in network.parameters())


def milliseconds(network: nn.Module, task: Task) -> float:
    """For one image; untrained networks take as long as trained ones."""
    return latency(
        network, task.input_size, ENGINE, threads=THREADS, batch=BATCH, seconds=_SECONDS
    ).milliseconds_per_image
