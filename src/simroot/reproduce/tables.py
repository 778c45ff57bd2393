"""A paper's table beside ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SizeRow:
    """One network of a table of sizes.

    Attributes:
        model: its name in the registry.
        parameters: counted by the paper's convention.
        macs: multiply-accumulates, counted by the paper's convention.
        paper_parameters: as printed.
        paper_macs: as printed.
        true_parameters: what the network has, where the paper's convention counts something else; else None.
        true_macs: likewise.
    """

    model: str
    parameters: int
    macs: int
    paper_parameters: int
    paper_macs: int
    true_parameters: int | None = None
    true_macs: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """The row without what it does not have."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class SizeTable:
    """A table of a paper: what it is, how it counts, and its rows.

    Attributes:
        title: the paper and the number of the table.
        reading: the convention that gives the printed numbers, and where it is wrong.
        parameter_unit: unit of the printed parameters, which have two decimals.
        mac_unit: unit of the printed multiply-accumulates, which have two decimals.
        rows: one for each network.
    """

    title: str
    reading: str
    parameter_unit: int
    mac_unit: int
    rows: tuple[SizeRow, ...]

    def printed(self, row: SizeRow) -> tuple[str, str]:
        """Our parameters and multiply-accumulates, to the digits that the paper prints."""
        return f"{row.parameters / self.parameter_unit:.2f}", f"{row.macs / self.mac_unit:.2f}"

    def paper(self, row: SizeRow) -> tuple[str, str]:
        """The paper's, as printed."""
        return f"{row.paper_parameters / self.parameter_unit:.2f}", f"{row.paper_macs / self.mac_unit:.2f}"

    def matches(self, row: SizeRow) -> bool:
        """Whether both agree to the printed digits."""
        return self.printed(row) == self.paper(row)
