"""An ImageNet-style folder, two processes, two epochs: training and evaluation of a network with auxiliary heads."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.result import Simroot

COMMAND = (
    "train --data large --image-size 72 --no-check --model googlenet_root4 --recipe imagenet --recipe.epochs 2 "
    "--recipe.batch_size 8 --recipe.learning_rate 0.01 --recipe.precision bf16 --accelerator cpu --devices 2 "
    "--strategy ddp --workers 2 --threads 1 --out run"
)


@pytest.mark.slow
def test_two_processes(simroot: Simroot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for part, count in (("train", 8), ("val", 3)):
        for label in ("cat", "dog", "owl"):
            (tmp_path / "large" / part / label).mkdir(parents=True)
            for number in range(count):
                height, width = generator.integers(256, 400, 2)
                pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "large" / part / label / f"{number}.jpg")
    source = str(Path(__file__).resolve().parents[2] / "src")
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "simroot", *COMMAND.split()],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with Path("run/metrics.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["recipe"]["crop"] == "scale"
    assert summary["data"]["source"]["check"] is False
    found = simroot("evaluate", "run", "--json").json
    assert found["images"] == 9
    assert found["accuracy"] == summary["accuracy"]
    assert found["top5"] == 1  # of three classes
