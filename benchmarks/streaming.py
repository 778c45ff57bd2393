"""Memory and time of a training whose images are read from shards, against the same images kept in memory.

    python benchmarks/streaming.py --images 5000 20000 --out results/streaming.json

Pictures are drawn at random and written as JPEG into WebDataset shards, these once more compressed, of which simroot
keeps the encoded images in memory, and into class folders. A small network is trained on each form in a process of its
own. That all forms give the same weights, bit for bit, is checked. Prints a table and writes JSON. ``peak`` is the most
memory that a process held, before its images were loaded and in all; ``epoch_seconds`` the median time of an epoch with
its validation, ``processor_seconds`` the time of the processor for the training divided by the epochs.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

SIDE, SEEN = 160, 96  # pixels of the pictures, and of what the network sees
CLASSES, PER_SHARD = 10, 1000
WAYS = {"shards, streamed": "shards", "compressed shards, in memory": "compressed", "folder": "folder"}


def main(argv: Sequence[str] | None = None) -> int:
    """Write the pictures, train, check and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[5000, 20_000])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--train-on", type=Path, help=argparse.SUPPRESS)  # in a process of its own
    arguments = parser.parse_args(argv)
    if arguments.train_on:
        print(json.dumps(trained(arguments.train_on, arguments.epochs)))
        return 0
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for count in arguments.images:
            root = Path(folder) / str(count)
            size = write_pictures(root, count)
            found = [{"way": way, "images": count, **measured(root / form, arguments)} for way, form in WAYS.items()]
            if len({row.pop("weights") for row in found}) > 1:
                raise SystemExit("the weights differ: the form of the images must not change them")
            rows += [{**row, "encoded_mib": size / 2**20} for row in found]
            shutil.rmtree(root)
    result = {"side": SIDE, "seen": SEEN, "epochs": arguments.epochs, "cores": os.cpu_count(), "rows": rows}
    report(rows)
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


def write_pictures(root: Path, count: int) -> int:
    """The same pictures in all forms; returns the bytes of them."""
    generator, total = np.random.default_rng(0), 0
    for form in WAYS.values():
        (root / form).mkdir(parents=True)
    for start in range(0, count, PER_SHARD):
        shard = root / "shards" / f"{start // PER_SHARD:04}.tar"
        with tarfile.open(shard, "w") as archive:
            for number in range(start, min(start + PER_SHARD, count)):
                content, label = picture(generator, number % CLASSES), str(number % CLASSES)
                total += len(content)
                path = root / "folder" / label / f"{number:07}.jpg"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
                for kind, part in (("jpg", content), ("cls", label.encode())):
                    member = tarfile.TarInfo(f"{number:07}.{kind}")
                    member.size = len(part)
                    archive.addfile(member, BytesIO(part))
        packed = root / "compressed" / f"{shard.name}.gz"
        packed.write_bytes(gzip.compress(shard.read_bytes(), 1))
    return total


def picture(generator: np.random.Generator, label: int) -> bytes:
    """A JPEG of coloured spots, brighter for later classes."""
    spots = generator.integers(0, 156 + 10 * label, (SIDE // 4, SIDE // 4, 3)).astype(np.uint8)
    content = BytesIO()
    Image.fromarray(spots).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(content, "JPEG", quality=92)
    return content.getvalue()


def measured(path: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """What a process says that trains on the images at a path."""
    command = [sys.executable, __file__, "--train-on", str(path), "--epochs", str(arguments.epochs)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def trained(path: Path, epochs: int) -> dict[str, Any]:
    """Train a small network on the images at a path."""
    import torch
    from torch import nn

    from simroot.data import load
    from simroot.training import Recipe, train

    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 8, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES)
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    data = load(path, image_size=SEEN)
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        run = train(network, data, Recipe(epochs=epochs, batch_size=64), Path(folder) / "run", progress=False)
        used = time.process_time() - began
        rows = (run.path / "metrics.csv").read_text(encoding="utf-8").splitlines()
        seconds = rows[0].split(",").index("seconds")
        weights = hashlib.sha256((run.path / "model.safetensors").read_bytes()).hexdigest()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "weights": weights,
        "before_mib": before / 1024,
        "loaded_mib": loaded / 1024,
        "peak_mib": peak / 1024,
        "epoch_seconds": statistics.median(float(row.split(",")[seconds]) for row in rows[1:]),
        "processor_seconds": used / epochs,
    }


def report(rows: Sequence[dict[str, Any]]) -> None:
    """Print the table."""
    table = Table("images", "form", "encoded", "peak", "seconds an epoch", "of the processor")
    for row in rows:
        memory = f"{row['encoded_mib']:.0f} MiB", f"{row['peak_mib']:.0f} MiB"
        seconds = f"{row['epoch_seconds']:.1f}", f"{row['processor_seconds']:.1f}"
        table.add_row(f"{row['images']:,}", row["way"], *memory, *seconds)
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
