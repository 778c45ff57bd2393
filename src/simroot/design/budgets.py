"""Budgets of parameters, operations and time, and the widest network of a family within one."""

from __future__ import annotations

import json
import logging
import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count as count_from
from typing import Any

import torch
from torch import nn

from simroot.data import ImageData
from simroot.errors import ConfigError
from simroot.images.preparation import ImageSize, sides
from simroot.measure import count, latency
from simroot.models import create_model, deploy, model_entry

# How times are measured: exported, one image at a time.
ENGINE, THREADS, BATCH = "onnxruntime", 1, 1

# Of measuring one network while the widest is looked for.
_SECONDS = 0.3

# Where a limit of time alone is given the search starts here. It ends where so much of the limit is used, and halves
# what is left where so many guesses were not enough.
_FIRST_WIDTH = 8
_FULL = 0.95
_GUESSES = 5

log = logging.getLogger(__name__)

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

    def counts(self, network: nn.Module, task: Task) -> bool:
        """Whether a deployed network is within the limits of parameters and operations."""
        return (self.parameters is None or parameters(network) <= self.parameters) and (
            self.macs is None or count(network, task.input_size).macs <= self.macs
        )


@dataclass
class Times:
    """The milliseconds of networks for a task, each measured once.

    ``found`` has them by model and overrides.
    """

    task: Task
    found: dict[str, float] = field(default_factory=dict)

    def of(self, model: str, overrides: Mapping[str, Any], limit: float) -> float:
        """For one image; what is over the limit gets another chance: a moment's disturbance must not decide."""
        key = json.dumps([model, {**model_entry(model).overrides, **overrides}])
        if key not in self.found:
            network = deployed(model, overrides, self.task)
            time = milliseconds(network, self.task)
            self.found[key] = time if time <= limit else min(time, milliseconds(network, self.task))
            log.info("%s, %s: %.3f ms", model, dict(overrides), self.found[key])
        return self.found[key]


def widest(
    model: str, budget: Budget, widths: Widths, task: Task = CIFAR_10, times: Times | None = None
) -> Mapping[str, Any]:
    """Overrides of the family's largest network within a budget.

    With a limit of time it may use a twentieth less of that than there is: every measurement takes seconds.

    Args:
        model: a name of ``simroot.models.list_models()``.
        budget: what it must be within.
        widths: the family.
        task: what it is for.
        times: what has been measured for this task before; more is added.

    Raises:
        ConfigError: if even a width of 1 needs more, or the family cannot process such images.
    """
    most = None
    if budget.parameters is not None or budget.macs is not None:
        most = _widest_counted(lambda width: budget.counts(deployed(model, widths(width), task), task))
    known, limit = times or Times(task), budget.milliseconds
    found = most if limit is None else _widest_timed(lambda w: known.of(model, widths(w), limit), limit, most)
    if not found:
        raise ConfigError(f"the narrowest {model} is not within {budget}; expected a larger budget")
    return widths(found)


def _widest_counted(fits: Callable[[int], bool]) -> int:
    """The largest width that fits; 0 if none does."""
    above = 1
    while fits(above):
        above *= 2
    candidates = range(above // 2, above)
    return candidates[bisect_left(candidates[1:], True, key=lambda width: not fits(width))] if above > 1 else 0


def _widest_timed(time: Callable[[int], float], limit: float, most: int | None) -> int:
    """A width, at most ``most``, within a limit of time that uses nearly all of it, in few measurements; 0 if none.

    Time grows about as a power of the width. The narrowest that is too slow and the widest that is not tell which.
    """
    if most == 0:
        return 0
    fast, slow = (0, 0.0), (math.inf, math.inf)  # width and time of either
    width = most or _FIRST_WIDTH
    for number in count_from(1):
        found = time(width)
        if found <= limit:
            fast = width, found
            if width == most or found >= _FULL * limit:
                return width
        else:
            slow = width, found
        if slow[0] == fast[0] + 1:
            return fast[0]
        if math.isinf(slow[0]):
            width = max(fast[0] + 1, min(4 * fast[0], int(fast[0] * limit / max(fast[1], 1e-9))))
            width = width if most is None else min(width, most)
        else:
            power = math.log(slow[1] / fast[1]) / math.log(slow[0] / fast[0]) if fast[1] > 0 else 0.5
            start, taken = fast if fast[1] > 0 else slow
            guess = start * (limit / taken) ** (1 / max(power, 0.5)) if number <= _GUESSES else (fast[0] + slow[0]) / 2
            width = max(fast[0] + 1, min(int(slow[0]) - 1, int(guess)))
    raise AssertionError("numbers do not end")


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
