"""What a network needs of a device without an operating system, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simroot.cli.output import count_text, print_table, size_text

if TYPE_CHECKING:
    from simroot.export.c.report import Memory


def print_memory(memory: Memory | None) -> None:
    """Print what a network needs, if that is known."""
    if memory is None:
        return
    rows = [
        [
            layer.name,
            size_text((layer.shape[2], *layer.shape[:2])),
            count_text(layer.flash),
            count_text(layer.activations),
            count_text(layer.macs),
        ]
        for layer in memory.layers
    ]
    title = (
        f"On a device, {memory.precision}: arena {count_text(memory.arena)} bytes (no plan needs less than "
        f"{count_text(memory.peak)}), constants {count_text(memory.flash)} bytes"
    )
    columns = ["layer", "output", "flash", "activations", "MACs"]
    total = ["total", "", count_text(memory.flash), count_text(memory.peak), count_text(memory.macs)]
    print()
    print_table(title, columns, rows, numbers=columns[2:], total=total, optional=("output",))
