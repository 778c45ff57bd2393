"""What a network costs, without PyTorch: as it is counted, and as an exported file keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

from simroot.errors import ExportError
from simroot.notebook import html_table


@dataclass(frozen=True)
class LayerCost:
    """One row of a network's cost: a call of a module without submodules, or an operator called by a module with some.

    Attributes:
        name: the module's name as in ``named_modules()``; empty for the network itself.
        kind: the module's class, or the operator's name where a module with submodules calls an operator itself.
        output_shape: shape of the (first) output, without the batch dimension.
        parameters: parameters of the module that no earlier row has counted.
        macs: multiply-accumulates.
        flops: floating-point operations.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    macs: int
    flops: int


@dataclass(frozen=True)
class Cost:
    """Cost of a network for one example: the totals, and ``layers`` in the order of execution.

    ``parameters`` counts every parameter of the network once, also those that a layer shares with another and those
    that the evaluated network does not use, such as an auxiliary head's, which are in no row.
    """

    parameters: int
    macs: int
    flops: int
    layers: tuple[LayerCost, ...]

    def _repr_html_(self) -> str:
        """A table, as Jupyter shows it."""
        rows = [
            (each.name, each.kind, "x".join(map(str, each.output_shape)), each.parameters, each.macs, each.flops)
            for each in self.layers
        ]
        total = ("total", "", "", self.parameters, self.macs, self.flops)
        return html_table(
            "Cost of one image", [*rows, total], ("layer", "kind", "output", "parameters", "MACs", "FLOPs")
        )

    def as_dict(self) -> dict[str, Any]:
        """As plain values, each layer a list of its fields: short, since exported files hold it."""
        layers = [list(astuple(layer)) for layer in self.layers]
        return {"parameters": self.parameters, "macs": self.macs, "flops": self.flops, "layers": layers}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str) -> Cost:
        """Read back what ``as_dict`` gave.

        Raises:
            ExportError: if it is something else; the message names the source.
        """
        try:
            layers = [
                LayerCost(str(name), str(kind), tuple(map(int, shape)), int(parameters), int(macs), int(flops))
                for name, kind, shape, parameters, macs, flops in values["layers"]
            ]
            return cls(int(values["parameters"]), int(values["macs"]), int(values["flops"]), tuple(layers))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ExportError(f"the cost in the metadata of {source} is damaged; export it again") from error
