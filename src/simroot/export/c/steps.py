"""The order of work: a step for each layer, or for several, all but the last of which are computed by rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from simroot.export.c.chains import joinable, reach, replaceable
from simroot.export.c.layers import Affine, Binary, Gather, Image, Layer, Pool, Unary, readers
from simroot.export.c.planner import Buffer, Plan, plan


@dataclass(frozen=True)
class Step:
    """One call, or one loop over rows.

    Attributes:
        chain: places in the list of layers, each of which reads the one before; rows of all but the last are made as
            they are needed, and only those are kept that are needed again.
    """

    chain: tuple[int, ...]

    @property
    def first(self) -> int:
        """The layer that reads what other steps left."""
        return self.chain[0]

    @property
    def result(self) -> int:
        """The layer whose output it leaves."""
        return self.chain[-1]


@dataclass(frozen=True)
class Schedule:
    """Steps in order, and the places in bytes of their results and of the room that they work in.

    Attributes:
        steps: the calls.
        offsets: of each layer's result, or of its rows that are kept; the image and the last layer have none.
        sizes: bytes of that.
        rooms: offsets of what a layer needs for itself while it works.
        spare: bytes of that.
        arena: bytes of all.
        peak: the most bytes that are needed at one time.
    """

    steps: tuple[Step, ...]
    offsets: dict[int, int]
    sizes: dict[int, int]
    rooms: dict[int, int]
    spare: dict[int, int]
    arena: int
    peak: int


@dataclass(frozen=True)
class Needs:
    """What is to be planned.

    Attributes:
        layers: the network.
        sizes: bytes of one number of each layer's output.
        room: bytes that a layer needs for itself while it works.
    """

    layers: Sequence[Layer]
    sizes: Sequence[int]
    room: Callable[[Layer], int]


def schedule(
    layers: Sequence[Layer], sizes: Sequence[int], room: Callable[[Layer], int], by_rows: bool = True
) -> Schedule:
    """The steps of least memory; see ``Needs``.

    Neighbours are joined as long as less is needed where most is; what the arena does not need joined is taken apart.
    Without ``by_rows`` every layer is a step.
    """
    needs = Needs(layers, sizes, room)
    apart = [Step((place,)) for place, layer in enumerate(layers) if not isinstance(layer, Image)]
    if not by_rows:
        return _planned(needs, apart)
    steps, least = apart, _profile(needs, apart)
    while True:
        tried = [_joined(steps, place) for place in _joinable(layers, steps)]
        profiles = [_profile(needs, one) for one in tried]
        if not tried or min(profiles) >= least:
            break
        least = min(profiles)
        steps = tried[profiles.index(least)]
    best = min((_planned(needs, steps), _planned(needs, apart)), key=lambda one: one.arena)
    for step in best.steps:
        if len(step.chain) > 1:
            parted = [one for each in best.steps for one in (_parts(each) if each == step else [each])]
            best = min((_planned(needs, parted), best), key=lambda one: one.arena)
    return best


def _joinable(layers: Sequence[Layer], steps: Sequence[Step]) -> list[int]:
    """Steps that the next can be joined to: it alone reads their result."""
    reading = readers(list(layers))
    return [
        place
        for place, (step, after) in enumerate(itertools.pairwise(steps))
        if reading[step.result] == [after.first] and joinable(layers, step.chain, after.chain)
    ]


def _joined(steps: Sequence[Step], place: int) -> list[Step]:
    return [*steps[:place], Step(steps[place].chain + steps[place + 1].chain), *steps[place + 2 :]]


def _parts(step: Step) -> list[Step]:
    return [Step((place,)) for place in step.chain]


def _profile(needs: Needs, steps: Sequence[Step]) -> list[int]:
    """What is needed during each step, the most first."""
    buffers = list(_buffers(needs, steps).values())
    return sorted((_living(buffers, time) for time in range(len(steps))), reverse=True)


def _living(buffers: Sequence[Buffer], time: int) -> int:
    living = [one for one in buffers if one.first <= time <= one.last]
    shared = sum(min(one.size, buffers[one.over].size) for one in living if one.over is not None and one.first == time)
    return sum(one.size for one in living) - shared


def _buffers(needs: Needs, steps: Sequence[Step]) -> dict[tuple[str, int], Buffer]:
    """Results, rows and rooms, in the order of time."""
    layers, sizes = needs.layers, needs.sizes
    last: dict[int, int] = {}
    for time, step in enumerate(steps):
        for place in step.chain:
            last |= dict.fromkeys(layers[place].inputs, time)
    found: dict[tuple[str, int], Buffer] = {}
    number: dict[int, int] = {}
    for time, step in enumerate(steps):
        for place, after in zip(step.chain, (*step.chain[1:], None), strict=True):
            layer = layers[place]
            if after is not None:
                found["result", place] = Buffer(
                    reach(layers[after]).rows * layer.shape[1] * layer.shape[2] * sizes[place], time, time
                )
            elif place != len(layers) - 1:  # the last one's numbers go to the caller
                ends = [one for one in layer.inputs if last[one] == time and one in number]
                over = next((number[one] for one in ends if _in_place(needs, step, one)), None)
                number[place] = len(found)
                found["result", place] = Buffer(layer.size * sizes[place], time, last[place], over)
            if room := needs.room(layer):
                found["room", place] = Buffer(room, time, time)
    return found


def _planned(needs: Needs, steps: Sequence[Step]) -> Schedule:
    buffers = _buffers(needs, steps)
    made: Plan = plan(list(buffers.values()))
    offsets = dict(zip(buffers, made.offsets, strict=True))
    return Schedule(
        steps=tuple(steps),
        offsets={place: offset for (what, place), offset in offsets.items() if what == "result"},
        sizes={place: buffer.size for (what, place), buffer in buffers.items() if what == "result"},
        rooms={place: offset for (what, place), offset in offsets.items() if what == "room"},
        spare={place: buffer.size for (what, place), buffer in buffers.items() if what == "room"},
        arena=made.arena,
        peak=made.bound,
    )


def _in_place(needs: Needs, step: Step, source: int) -> bool:
    """Whether a step may write over a layer that it reads: everything is read before its place is written to."""
    layers, layer = needs.layers, needs.layers[step.result]
    if needs.sizes[source] != needs.sizes[step.result]:
        return False
    if len(step.chain) > 1:
        return replaceable(layers, step.chain, source)
    if isinstance(layer, Pool):
        return layer.window.padding == (0, 0)
    if isinstance(layer, Gather):
        return layer.is_plain(layers[source])
    alone = source == layer.inputs[0] and len(set(layer.inputs)) == len(layer.inputs)
    return isinstance(layer, Unary | Affine | Binary) and alone
