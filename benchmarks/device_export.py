"""What the C export in integers takes on small processors: instructions in emulators, and memory.

    python benchmarks/device_export.py --out results/device_export.json

The networks have random weights, which change nothing but the scores. For each processor the same text is compiled with
the form of its dot products that belongs to the processor, and in C alone (`SR_PORTABLE`); the scores of both must be
those of the reference in NumPy, every bit. Instructions are the emulator's; a board takes more cycles for some of them,
loads of flash first of all. Arenas are those of the plan by rows and of one layer at a time. `widths` has
instructions for each multiply-accumulate of a network in several widths.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from simroot import create_model
from simroot.engines.host import channels_last
from simroot.export.c import steps, whole
from simroot.export.c.capture import capture, normalised
from simroot.export.c.emit import Examples, files
from simroot.export.c.floats import FloatArithmetic
from simroot.export.c.integer_text import IntegerArithmetic
from simroot.export.c.layers import macs
from simroot.export.c.quantise import quantise
from simroot.export.c.simplify import simplify
from simroot.export.c.verify import TARGETS, verify
from simroot.export.description import Description
from simroot.training.environment import versions

Network = tuple[str, dict[str, Any]]

TIMED: dict[str, Network] = {
    "simnet_mixed 5K": ("simnet_mixed", {"channels": 8, "depth": 1}),
    "simnet_mixed 20K, root 4": ("simnet_mixed", {"channels": 25, "depth": 1, "degree": 4}),
    "mlperf_resnet8": ("mlperf_resnet8", {}),
}
PLANNED: dict[str, Network] = {
    **TIMED,
    "simnet2": ("simnet2", {}),
    "simnet3_compact": ("simnet3_compact", {}),
    "convnet_caffe": ("convnet_caffe", {}),
    "nin_compact": ("nin_compact", {}),
}
WIDTHS = {
    f"channels={channels}, root {degree}": ("simnet_mixed", {"channels": channels, "depth": 1, "degree": degree})
    for degree in (1, 4)
    for channels in (22, 23, 24, 25, 26, 32)
}
SIZE = (3, 32, 32)
PIXELS = Description(SIZE, mean=(0.5,) * 3, std=(0.25,) * 3, model="network", precision="int8")


def main(argv: Sequence[str] | None = None) -> int:
    """Count, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", default="cortex-m4,cortex-m55,riscv32")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args(argv)
    targets = arguments.targets.split(",")
    found = {
        "forms": [row for name, network in TIMED.items() for row in forms(name, network, targets)],
        "arenas": [arenas(name, network) for name, network in PLANNED.items()],
        "widths": [
            row for name, network in WIDTHS.items() for row in forms(name, network, targets[:2], portable=False)
        ],
        "command": "python benchmarks/device_export.py",
        "versions": versions(),
    }
    text = json.dumps(found, indent=1)
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text + "\n", encoding="utf-8")
    return 0


def images(count: int) -> torch.Tensor:
    return torch.randint(256, (count, *SIZE), generator=torch.Generator().manual_seed(0)).byte()


def integers(network: Network) -> IntegerArithmetic:
    torch.manual_seed(0)
    name, options = network
    layers = simplify(normalised(capture(create_model(name, 10, **options).eval(), SIZE), PIXELS))
    return IntegerArithmetic(quantise(layers, images(8)), "network")


def floats(network: Network) -> FloatArithmetic:
    name, options = network
    layers = capture(create_model(name, 10, **options).eval(), SIZE)
    return FloatArithmetic(simplify(normalised(layers, PIXELS)), "network")


def forms(name: str, network: Network, targets: Sequence[str], portable: bool = True) -> list[dict[str, Any]]:
    """Instructions, stack and code with the processor's form, and without."""
    arithmetic = integers(network)
    inputs = channels_last(images(2).numpy())
    scores = whole.scores(arithmetic.whole, inputs)
    work = sum(macs(layer) for layer in arithmetic.layers)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for file, text in files(arithmetic, PIXELS, Examples(inputs, scores, 0.0)).items():
            (Path(folder) / file).write_text(text)
        flash = sum(arithmetic.program.flash.values())
        for target in targets:
            row: dict[str, Any] = {"network": name, "processor": target, "macs": work, "flash": flash}
            for form, defined in (("form", ()), ("portable", ("SR_PORTABLE",)))[: 1 + portable]:
                done = verify(target, Path(folder), "network", inputs, scores, flash, defined)
                if done.skipped:
                    raise SystemExit(f"{target}: {done.skipped}")
                row[form] = {
                    "instructions": done.instructions,
                    "per_mac": round(done.instructions / work, 2),
                    "stack": done.stack,
                    "code": done.code,
                }
            rows.append(row)
            print(row, file=sys.stderr)
    return rows


def arenas(name: str, network: Network) -> dict[str, Any]:
    """Bytes of the arena by rows, and one layer at a time."""
    row: dict[str, Any] = {"network": name}
    for precision, build in (("int8", integers), ("float32", floats)):
        by_rows = build(network).schedule
        with mock.patch.object(steps, "joinable", return_value=False):
            apart = build(network).schedule
        row[precision] = {"by_rows": by_rows.arena, "apart": apart.arena}
    print(row, file=sys.stderr)
    return row


if __name__ == "__main__":
    assert set(TARGETS) >= {"cortex-m4", "cortex-m55"}
    sys.exit(main())
