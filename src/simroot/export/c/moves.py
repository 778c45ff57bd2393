"""Orders of numbers that are simpler than a table: a part of a grid with steps, maybe with zeros around it."""

from __future__ import annotations

import numpy as np

from simroot.export.c.layers import Gather, Shape


def cut_of(layer: Gather, source: Shape) -> tuple[int, int, int, int, int] | None:
    """First row, column and channel, and the steps down and right, of the part of a grid that a layer takes.

    None if it takes something else.
    """
    height, width, channels = source
    index = layer.index.reshape(layer.shape)
    inside = np.argwhere(index >= 0)
    if not len(inside):
        return None
    places = np.stack(np.unravel_index(index[tuple(inside.T)], source), 1)
    steps = [_step(inside[:, axis], places[:, axis]) for axis in range(2)]
    if None in steps:
        return None
    step_y, step_x = (step or 1 for step in steps)
    first = places[0] - inside[0] * (step_y, step_x, 1)
    rows, columns, depth = (
        start + step * np.arange(count)
        for start, step, count in zip(first, (step_y, step_x, 1), layer.shape, strict=True)
    )
    expected = (rows[:, None, None] * width + columns[:, None]) * channels + depth
    for axis, (line, size) in enumerate(((rows, height), (columns, width), (depth, channels))):
        outside = ((line < 0) | (line >= size)).reshape([-1 if axis == one else 1 for one in range(3)])
        expected = np.where(outside, -1, expected)
    return (*map(int, first), step_y, step_x) if (expected == index).all() else None  # type: ignore[return-value]


def _step(outputs: np.ndarray, inputs: np.ndarray) -> int | None:
    """By how much the source moves for one output; 0 if it never moves."""
    first = outputs == outputs.min()
    last = outputs == outputs.max()
    run = int(outputs.max() - outputs.min())
    if not run:
        return 0
    way = int(inputs[last][0] - inputs[first][0])
    return None if way <= 0 or way % run else way // run
