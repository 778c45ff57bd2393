"""Budgets of parameters, operations and time, and the widest network of a family within one."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import count as count_from
from typing import Any

from torch import nn

from simroot.design.tasks import CIFAR_10, Task, deployed, parameters
from simroot.design.times import Times
from simroot.errors import ConfigError
from simroot.export.c.report import Precision, device_memory
from simroot.measure import count

# The search ends where so much of a limit of time is used, and halves what is left where so many guesses were not
# enough.
_FULL = 0.95
_GUESSES = 5

# The first width that is measured is at most so large, and each other so many times the widest that is fast enough.
_FIRST, _WIDER = 64, 4

# Of a weight in flash.
_BYTES: Mapping[Precision, int] = {"int8": 1, "float32": 4}

# Width, a whole number from 1 on -> overrides of the network, whose parameters, operations and time rise with it.
Widths = Callable[[int], Mapping[str, Any]]


@dataclass(frozen=True)
class Budget:
    """The most that a deployed network may have and take; None for what does not matter.

    Attributes:
        parameters: their number.
        macs: multiply-accumulates for one image.
        milliseconds: for one image, on one thread, in ONNX Runtime, on this machine.
        ram: bytes that its C export works in: the arena, the image, and 1,024 for the stack.
        flash: bytes of the C export's constants; the code comes on top.
        precision: of that C export, ``"int8"`` or ``"float32"``.

    Raises:
        ConfigError: if nothing matters.
    """

    parameters: int | None = None
    macs: int | None = None
    milliseconds: float | None = None
    ram: int | None = None
    flash: int | None = None
    precision: Precision = "int8"

    def __post_init__(self) -> None:
        if not str(self):
            raise ConfigError(
                "the budget has no limit; expected a number of parameters, of MACs, of milliseconds, or of bytes of RAM"
                " or flash"
            )

    def __str__(self) -> str:
        limits = {
            "{:,} parameters": self.parameters,
            "{:,} MACs": self.macs,
            "{:g} ms": self.milliseconds,
            f"{{:,}} bytes of RAM in {self.precision}": self.ram,
            f"{{:,}} bytes of flash in {self.precision}": self.flash,
        }
        return ", ".join(text.format(limit) for text, limit in limits.items() if limit is not None)

    @property
    def on_device(self) -> bool:
        """Whether memory of a device is limited."""
        return self.ram is not None or self.flash is not None

    def counted(self, network: nn.Module, task: Task) -> float:
        """The share that a deployed network uses of the parameters, operations or weights in flash, the largest."""
        size = parameters(network)
        limits = ((size, self.parameters), (size * _BYTES[self.precision], self.flash))
        share = max((used / limit for used, limit in limits if limit is not None), default=0.0)
        if self.macs is None or share > 1:
            return share
        return max(share, count(network, task.input_size).macs / self.macs)

    def used(self, network: nn.Module, task: Task) -> float:
        """The share of a device's memory that a deployed network uses: of RAM or of flash, whichever is larger.

        Raises:
            ConfigError: for a layer that has no C form.
        """
        needed = device_memory(network, task.input_size, self.precision)
        limits = ((needed.ram, self.ram), (needed.flash, self.flash))
        return max(bytes_needed / limit for bytes_needed, limit in limits if limit is not None)


def widest(
    model: str, budget: Budget, widths: Widths, task: Task = CIFAR_10, times: Times | None = None
) -> Mapping[str, Any]:
    """Overrides of the family's largest network within a budget.

    Times are predicted; what is found has been measured, and may use a twentieth less than there is.

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
    if any(limit is not None for limit in (budget.parameters, budget.macs, budget.flash)):
        most = _widest_used(lambda width: budget.counted(deployed(model, widths(width), task), task), None)
    if budget.on_device and most != 0:
        most = _widest_used(lambda width: budget.used(deployed(model, widths(width), task), task), most)
    known, limit = times or Times(task), budget.milliseconds
    found = most
    if limit is not None:
        predict = cache(lambda width: known.predicted(model, widths(width)))
        found = _widest_timed(lambda width: known.of(model, widths(width), limit), predict, limit, most)
    if not found:
        raise ConfigError(f"the narrowest {model} is not within {budget}; expected a larger budget")
    return widths(found)


def _widest_counted(fits: Callable[[int], bool], known: int = 0) -> int:
    """The largest width that fits; ``known``, which does, if no other does."""
    step = 1
    while fits(known + step):
        step *= 2
    candidates = range(known + step // 2, known + step)
    return candidates[bisect_left(candidates[1:], True, key=lambda width: not fits(width))]


def _widest_used(used: Callable[[int], float], most: int | None) -> int:
    """The largest width, at most ``most``, of which a share of at most 1 is used; 0 if none. It rises with the width.

    Each guess is where a power of the width through what is known would reach 1; every third one halves what is left.
    """
    low, high, guess = 0, math.inf if most is None else most + 1, most or _FIRST
    shares: dict[float, float] = {}
    while high > low + 1:
        shares[guess] = used(guess)
        if shares[guess] <= 1:
            low = guess
        else:
            high = guess
        if high == math.inf:
            guess = 2 * low
        elif high in shares:
            power = math.log(shares[high] / shares[low]) / math.log(high / low) if low else 1.0
            reached = high * shares[high] ** (-1 / max(power, 0.1))
            guess = int(reached) if len(shares) % 3 else (low + int(high)) // 2
            guess = min(max(guess, low + 1), int(high) - 1)
    return low


def _widest_timed(time: Callable[[int], float], predict: Callable[[int], float], limit: float, most: int | None) -> int:
    """A width, at most ``most``, whose measured time is within a limit and uses nearly all of it; 0 if none.

    What is predicted to be the widest is measured, and predictions are corrected by what was found.
    """
    fast, slow = 0, math.inf if most is None else most + 1
    corrected, too_slow = 1.0, False
    for number in count_from(1):
        if slow == fast + 1:
            break

        above = min(slow, max(_WIDER * fast, _FIRST) + 1)

        def fits(width: int, share: float = limit / corrected, below: float = above) -> bool:
            return width < below and predict(width) <= share

        width = _widest_counted(fits, fast)
        if width == fast and fast > 0:
            break  # wider ones are expected to be too slow
        width = max(width, 1) if number <= _GUESSES or not too_slow else (fast + int(slow)) // 2
        found = time(width)
        corrected = found / max(predict(width), 1e-9)
        if found > limit:
            slow, too_slow = width, True
        else:
            fast = width
            if found >= _FULL * limit:
                break
    return fast
