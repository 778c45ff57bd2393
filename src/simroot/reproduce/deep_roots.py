"""What the tables of Deep Roots have in common."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

from simroot.models import create_model, model_entry
from simroot.reproduce.counting import LayerSize, layer_sizes
from simroot.reproduce.tables import SizeRow, SizeTable

# Parameters and multiply-accumulates.
Sizes = tuple[int, int]


@functools.cache
def registry_layers(name: str, **overrides: object) -> tuple[LayerSize, ...]:
    """Layers of a registered network with its default classes and image size."""
    arguments, size = model_entry(name).arguments(overrides)
    return tuple(layer_sizes(lambda: create_model(name, **arguments), size))


def total(layers: Sequence[LayerSize]) -> Sizes:
    """Weights and biases; multiply-accumulates with each bias once."""
    return sum(layer.parameters for layer in layers), sum(layer.macs for layer in layers)


def size_table(
    title: str,
    reading: str,
    base: str,
    printed: Mapping[int, tuple[str, str]],
    units: Sizes,
    count: Callable[[str], Sizes],
    true: Callable[[str], Sizes] | None = None,
) -> SizeTable:
    """A table of a network and its root variants.

    Args:
        title: the paper and the number of the table.
        reading: the convention that gives the printed numbers.
        base: name of the network without groups.
        printed: degree (1: without groups) -> parameters and multiply-accumulates as printed.
        units: what they are printed in.
        count: counts a network, given its name, by the paper's convention.
        true: counts it as it is, where that differs.
    """
    rows = []
    for degree, (parameters, macs) in printed.items():
        name = base if degree == 1 else f"{base}_root{degree}"
        paper = (round(float(parameters) * units[0]), round(float(macs) * units[1]))
        rows.append(SizeRow(name, *count(name), *paper, *(true(name) if true else ())))
    return SizeTable(title, reading, *units, tuple(rows))
