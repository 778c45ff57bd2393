"""Deep Roots, table 6: GoogLeNet."""

from __future__ import annotations

from simroot.reproduce.deep_roots import registry_layers, size_table, total
from simroot.reproduce.tables import SizeTable

_PRINTED = {1: ("1.88", "1.72"), 2: ("1.88", "1.54"), 4: ("1.85", "1.29"), 8: ("1.75", "0.96"), 16: ("1.63", "0.76")}
_READING = (
    "The network as it trains: both auxiliary heads, and pools padded so that the grids are 56, 28, 15 and 8, with "
    "4096 features for the classifier and 3200 for the auxiliary heads. Weights and biases; each weight once for every "
    "output position, each bias once; no batch normalisation, which folds away. The second table has the "
    "network that classifies, without auxiliary heads, on grids of 14 and 7, of which the groups save a larger share."
)


def table() -> SizeTable:
    """Count GoogLeNet and its root variants, as the paper trains them and as they are used."""
    return size_table(
        "Deep Roots, table 6: GoogLeNet",
        _READING,
        "googlenet",
        _PRINTED,
        (10**7, 10**9),
        lambda name: total(registry_layers(name, layout="padded")),
        lambda name: total(registry_layers(name, auxiliary=False)),
    )
