"""Deep Roots, table 4: ResNet-50."""

from __future__ import annotations

from simroot.reproduce.deep_roots import Sizes, registry_layers, size_table, total
from simroot.reproduce.tables import SizeTable

_PRINTED = {
    1: ("2.55", "3.86"),
    2: ("2.54", "3.68"),
    4: ("2.51", "3.37"),
    8: ("2.32", "2.86"),
    16: ("1.87", "2.43"),
    32: ("1.64", "2.22"),
    64: ("1.53", "2.11"),
}
_READING = (
    "Weights and biases; each weight once for every output position, each bias once. Stages halve the size on their "
    "first 1x1 convolution; conv1 has a bias, the other convolutions none; batch normalisation is not counted."
)


def table() -> SizeTable:
    """Count ResNet-50 and its root variants."""
    return size_table("Deep Roots, table 4: ResNet-50", _READING, "resnet50", _PRINTED, (10**7, 10**9), _count)


def _count(name: str) -> Sizes:
    layers = registry_layers(name)
    parameters, macs = total(layers)
    bias_of_conv1 = layers[0].outputs
    return parameters + bias_of_conv1, macs + bias_of_conv1
