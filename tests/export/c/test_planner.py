"""Where results lie in the arena."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from simroot.export.c.planner import Buffer, fits, plan


@pytest.mark.parametrize("seed", range(5))
def test_a_chain_takes_its_largest_pair(seed: int) -> None:
    sizes = [8 * int(size) for size in np.random.default_rng(seed).integers(1, 100, 20)]
    buffers = [Buffer(size, place, place + 1) for place, size in enumerate(sizes)]
    assert plan(buffers).arena == max(a + b for a, b in itertools.pairwise(sizes))


@pytest.mark.parametrize("seed", range(5))
def test_what_is_needed_at_one_time_does_not_overlap(seed: int) -> None:
    generator = np.random.default_rng(seed)
    firsts, lengths = generator.integers(0, 20, 30), generator.integers(0, 6, 30)
    buffers = [
        Buffer(int(size), int(first), int(first + length))
        for size, first, length in zip(generator.integers(1, 1000, 30), firsts, lengths, strict=True)
    ]
    made = plan(buffers)
    assert all(offset % 8 == 0 for offset in made.offsets)
    assert made.bound <= made.arena <= 1.2 * made.bound
    taken = np.zeros((26, made.arena), dtype=int)
    for buffer, offset in zip(buffers, made.offsets, strict=True):
        taken[buffer.first : buffer.last + 1, offset : offset + buffer.size] += 1
    assert taken.max() == 1
    moved = [0] * len(buffers)
    assert not fits(buffers, moved)


def test_what_is_computed_in_place_takes_no_room_of_its_own() -> None:
    made = plan([Buffer(80, 0, 1), Buffer(80, 1, 2, over=0), Buffer(16, 2, 3)])
    assert made.offsets[0] == made.offsets[1]
    assert made.arena == made.bound == 96
    assert plan([Buffer(80, 0, 1), Buffer(80, 1, 2), Buffer(16, 2, 3)]).arena == 160
    assert plan([]).arena == 0
