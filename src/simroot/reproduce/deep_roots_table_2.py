"""Deep Roots, table 2: Network in Network on CIFAR-10."""

from __future__ import annotations

from simroot.reproduce.deep_roots import registry_layers, size_table, total
from simroot.reproduce.tables import SizeTable

_PRINTED = {1: ("9.67", "2.22"), 2: ("7.37", "1.64"), 4: ("4.55", "1.23"), 8: ("3.15", "1.03"), 16: ("2.45", "0.93")}
_READING = (
    "Weights and biases; each weight once for every output position on grids of 32, 16 and 8, each bias once; no batch "
    "normalisation, which folds away."
)


def table() -> SizeTable:
    """Count NiN and its root variants."""
    return size_table(
        "Deep Roots, table 2: Network in Network, CIFAR-10",
        _READING,
        "nin",
        _PRINTED,
        (10**5, 10**8),
        lambda name: total(registry_layers(name)),
    )
