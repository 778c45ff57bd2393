"""Where in the arena each result lies: known before anything runs, as small as can be found.

Each result lives from the step that makes it to the last that reads it. In a chain two results live at a time, and
putting them at the two ends in turn needs no more than the largest pair: the least possible. For other networks the
results are placed one after the other, each at the lowest place that is free, the largest first; other orders are tried
as long as the sum of what lives at one time, which no plan can go below, is not reached.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ALIGNMENT = 8
_TRIES = 300


@dataclass(frozen=True)
class Buffer:
    """Room for one result.

    Attributes:
        size: bytes.
        first, last: the steps between which it is needed, both included.
        over: the buffer whose place it may take although both are needed in its first step: what is computed in place.
    """

    size: int
    first: int
    last: int
    over: int | None = None

    def meets(self, other: Buffer) -> bool:
        """Whether both are needed at one time."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Plan:
    """Offsets of the buffers in bytes, the bytes of all of them together, and what no plan can go below."""

    offsets: tuple[int, ...]
    arena: int
    bound: int


def plan(buffers: Sequence[Buffer]) -> Plan:
    """Place buffers in one arena."""
    rounded = [Buffer(-(-one.size // ALIGNMENT) * ALIGNMENT, one.first, one.last, one.over) for one in buffers]
    bound = _bound(rounded)
    best: list[int] | None = None
    for offsets in _candidates(rounded, bound):
        if best is None or _arena(rounded, offsets) < _arena(rounded, best):
            best = offsets
        if _arena(rounded, best) <= bound:
            break
    return Plan(tuple(best or ()), _arena(rounded, best or []), bound)


def _bound(buffers: Sequence[Buffer]) -> int:
    """The most that is needed at one time; of what is computed in place only the larger counts."""
    steps = {step for one in buffers for step in (one.first, one.last)}
    largest = 0
    for step in steps:
        living = {place for place, one in enumerate(buffers) if one.first <= step <= one.last}
        shared = sum(
            min(buffers[place].size, buffers[over].size)
            for place in living
            if (over := buffers[place].over) is not None and over in living
        )
        largest = max(largest, sum(buffers[place].size for place in living) - shared)
    return largest


def _arena(buffers: Sequence[Buffer], offsets: Sequence[int]) -> int:
    return max((offset + one.size for offset, one in zip(offsets, buffers, strict=True)), default=0)


def _candidates(buffers: Sequence[Buffer], bound: int) -> Iterable[list[int]]:
    order = sorted(range(len(buffers)), key=lambda place: (-buffers[place].size, buffers[place].first))
    yield _first_fit(buffers, order)
    alternating = [0 if place % 2 == 0 else bound - one.size for place, one in enumerate(buffers)]
    if min(alternating, default=0) >= 0 and fits(buffers, alternating):
        yield alternating
    yield _first_fit(buffers, sorted(order, key=lambda place: buffers[place].first))
    generator = random.Random(0)
    for _ in range(_TRIES):
        place, other = generator.randrange(len(order)), generator.randrange(len(order))
        order = order.copy()
        order[place], order[other] = order[other], order[place]
        yield _first_fit(buffers, order)


def _first_fit(buffers: Sequence[Buffer], order: Sequence[int]) -> list[int]:
    offsets: dict[int, int] = {}
    for place in order:
        others = [other for other in offsets if buffers[place].meets(buffers[other])]
        ends = {0, *(offsets[other] + buffers[other].size for other in others), *(offsets[other] for other in others)}
        offsets[place] = next(
            offset for offset in sorted(ends) if not any(_clash(buffers, place, offset, o, offsets[o]) for o in others)
        )
    return [offsets[place] for place in range(len(buffers))]


def _clash(buffers: Sequence[Buffer], place: int, offset: int, other: int, there: int) -> bool:
    """Whether two buffers that are needed at one time overlap, other than by being computed in place."""
    one, two = buffers[place], buffers[other]
    if offset == there and (one.over == other or two.over == place):
        return False
    return offset < there + two.size and there < offset + one.size


def fits(buffers: Sequence[Buffer], offsets: Sequence[int]) -> bool:
    """Whether no two buffers that are needed at one time overlap."""
    places = range(len(buffers))
    return not any(
        buffers[a].meets(buffers[b]) and _clash(buffers, a, offsets[a], b, offsets[b]) for a in places for b in range(a)
    )
