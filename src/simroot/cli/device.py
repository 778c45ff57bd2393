"""What a network needs of a device without an operating system, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from simroot.cli.output import count_text, print_table, size_text

if TYPE_CHECKING:
    from simroot.export.c.report import Memory
    from simroot.export.c.verify import Verified


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
        f"{count_text(memory.peak)}), image {count_text(memory.pixels)}, {_stack(memory)}"
        f"constants {count_text(memory.flash)} bytes"
    )
    columns = ["layer", "output", "flash", "activations", "MACs"]
    total = ["total", "", count_text(memory.flash), count_text(memory.peak), count_text(memory.macs)]
    print()
    print_table(title, columns, rows, numbers=columns[2:], total=total, optional=("output",))


def _stack(memory: Memory) -> str:
    """The stack, if it is known."""
    from simroot.export.c.stack import TARGET

    return "" if memory.stack is None else f"stack {count_text(memory.stack)} on {TARGET}, "


def print_verified(tried: Sequence[Verified]) -> None:
    """Print what came of other processors, if any were tried."""
    if not tried:
        return
    rows = [
        [
            one.target,
            "not tried" if one.skipped else count_text(one.images),
            "-" if one.skipped else count_text(one.instructions),
            "-" if one.skipped else count_text(one.stack),
            "-" if one.skipped else count_text(one.code),
        ]
        for one in tried
    ]
    columns = ["processor", "images of the same bits", "instructions an image", "bytes of stack", "bytes of code"]
    print()
    print_table("In emulators", columns, rows, numbers=columns[1:])
