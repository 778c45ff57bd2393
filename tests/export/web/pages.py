"""A small network as a web page, and what runs it outside of Python."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from simroot.images.preparation import Preparation

MEAN, STD = (0.49, 0.48, 0.44), (0.25, 0.24, 0.26)
CLASSES = ("dark", "light", "<b>é</b>")
BACKGROUND = (30, 200, 90)


def need_compiler() -> None:
    for package in ("ziglang", "wasmtime"):
        pytest.importorskip(package, reason=f"{package} is not installed: simroot[web]")


def need_node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed")
    return found


def network(channels: int = 3) -> nn.Module:
    """Gives the classes about equally often, with scores of about 1."""
    torch.manual_seed(3)
    dense = nn.Linear(6, 3)
    model = nn.Sequential(nn.Conv2d(channels, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), dense)
    with torch.no_grad():
        scores = model(torch.randn(64, channels, 1, 1).expand(-1, -1, 9, 9))
        dense.bias.copy_((dense.bias - scores.mean(0)) / scores.std())
        dense.weight.copy_(dense.weight / scores.std())
    return model.eval()


def options(height: int = 9, width: int = 9, fit: str = "crop", channels: int = 3, share: float = 1.0) -> Any:
    size = height if height == width else (height, width)
    preparation = Preparation(channels, size, fit, background=BACKGROUND, share=share)
    return {
        "classes": CLASSES,
        "mean": MEAN[:channels],
        "std": STD[:channels],
        "preparation": preparation,
        "name": "Tiny!",
        "data": "photos",
    }


def pictures(count: int) -> list[NDArray[np.uint8]]:
    """(H, W, 4) of many sizes: smooth, so that they differ; every third has transparent parts."""
    generator = np.random.default_rng(7)
    found = []
    for index in range(count):
        height, width = generator.integers(3, 60, 2)
        corners = generator.integers(0, 256, (2, 2, 4)).astype(float)
        down, across = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
        rows = [corners[row, 0] * (1 - across) + corners[row, 1] * across for row in (0, 1)]
        picture = rows[0] * (1 - down) + rows[1] * down + generator.integers(-20, 21, (height, width, 4))
        if index % 3:
            picture[..., 3] = 255
        found.append(picture.clip(0, 255).astype(np.uint8))
    return found


_SCRIPT = """
import { readFileSync, writeFileSync } from "node:fs";
const [folder, pictures, scores] = process.argv.slice(1);
globalThis.fetch = async (url) => new Response(readFileSync(url));
const { load } = await import(folder + "simroot.js");
const network = await load();
const bytes = readFileSync(pictures), all = [];
for (let at = 0; at < bytes.length; ) {
  const [height, width] = [bytes.readUInt32LE(at), bytes.readUInt32LE(at + 4)];
  const end = at + 8 + 4 * width * height;
  all.push({ width, height, data: new Uint8ClampedArray(bytes.subarray(at + 8, end)) });
  at = end;
}
writeFileSync(scores, Buffer.concat(all.map((picture) => Buffer.from(network.scores(picture).buffer))));
const refused = [];
for (const wrong of [{ width: 2, height: 2, data: new Uint8Array(3) }, { width: 0, height: 0 }, {}]) {
  try { network.classify(wrong); } catch (error) { refused.push(error.message); }
}
const { best, milliseconds } = network.classify(all[0], 2);
console.log(JSON.stringify({ best, milliseconds, card: network.card, classes: network.classes, refused }));
"""


def in_node(folder: Path, images: list[NDArray[np.uint8]], room: Path) -> tuple[NDArray[np.float32], Any]:
    """The scores of pictures by simroot.js, and what it says of the first."""
    sizes = [np.array(image.shape[:2], "<u4").tobytes() + image.tobytes() for image in images]
    (room / "pictures").write_bytes(b"".join(sizes))
    words = [need_node(), "--input-type=module", "--eval", _SCRIPT, f"{folder.as_uri()}/"]
    words += [str(room / "pictures"), str(room / "scores")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return np.fromfile(room / "scores", "<f4").reshape(len(images), -1), json.loads(done.stdout)
