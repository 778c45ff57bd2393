"""A training that is killed at random moments and resumed each time, against one that is left alone.

    python benchmarks/kill_resume.py --kills 10 --model simnet2_small --epochs 40

Every training is a process of its own, ``python -m simroot train``, ended by SIGKILL. Prints JSON; exit code 1 if the
weights differ in a bit or metrics.csv in an epoch.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import yaml

COMMAND = (sys.executable, "-m", "simroot", "train", "--quiet")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--model", default="simnet2_small")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0, help="of the training and of the moments of the kills")
    arguments = parser.parse_args(argv)
    words = ["--model", arguments.model, "--data", arguments.data, "--seed", str(arguments.seed)]
    words += ["--recipe.epochs", str(arguments.epochs)]
    with tempfile.TemporaryDirectory(prefix="simroot-kill-") as folder:
        alone, killed = Path(folder, "alone"), Path(folder, "killed")
        start = time.monotonic()
        subprocess.run([*COMMAND, *words, "--out", str(alone)], check=True, stdout=subprocess.DEVNULL)
        whole = time.monotonic() - start
        in_epochs = sum(float(row["seconds"]) for row in metrics(alone))
        kills = run_killed(words, killed, arguments.kills, whole - in_epochs, in_epochs, random.Random(arguments.seed))
        result = {
            "model": arguments.model,
            "data": arguments.data,
            "epochs": arguments.epochs,
            "seconds_alone": round(whole, 2),
            "kills": kills,
            **compare(alone, killed),
            "versions": yaml.safe_load((alone / "config.yaml").read_text())["versions"],
        }
    print(json.dumps(result, indent=2))
    return 0 if result["identical"] else 1


def run_killed(
    words: Sequence[str], path: Path, count: int, before: float, in_epochs: float, moments: random.Random
) -> list[dict[str, Any]]:
    """Start, kill and resume until ``count`` kills have happened, then let the training end.

    Every fifth process is killed somewhere before its first step, the others somewhere in the first of count + 1 equal
    parts of the time in epochs, so that all kills fall before the end.
    """
    kills: list[dict[str, Any]] = []
    while True:
        begun = (path / "config.yaml").exists()
        lines = log_lines(path)
        process = subprocess.Popen(
            [*COMMAND, *(["--resume", str(path)] if begun else [*words, "--out", str(path)])],
            stdout=subprocess.DEVNULL,
        )
        if len(kills) == count:
            if code := process.wait():
                raise SystemExit(f"the training ended with exit code {code} after {len(kills)} kills")
            return kills
        if len(kills) % 5 == 4:
            time.sleep(moments.uniform(0, 0.8 * before))
        else:
            while log_lines(path) == lines and process.poll() is None:  # its first line comes with the first step
                time.sleep(0.01)
            time.sleep(moments.uniform(0, in_epochs / (count + 1)))
        process.kill()
        if process.wait() == 0:
            raise SystemExit(f"the training ended before kill {len(kills) + 1}; give it more epochs")
        kills.append({"epochs": len(metrics(path)), "torn_files": sorted(file.name for file in path.glob(".*.tmp"))})


def log_lines(path: Path) -> int:
    """Lines of a run's log."""
    file = path / "train.log"
    return len(file.read_text(encoding="utf-8").splitlines()) if file.exists() else 0


def metrics(path: Path) -> list[dict[str, str]]:
    """The rows of a run's metrics.csv; none before the first epoch."""
    file = path / "metrics.csv"
    if not file.exists():
        return []
    with file.open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def compare(alone: Path, killed: Path) -> dict[str, Any]:
    """Bit for bit: best weights, last weights with the optimizer's state, and all figures of all epochs."""
    best = [safetensors.torch.load_file(path / "model.safetensors") for path in (alone, killed)]
    last = [torch.load(path / "last.ckpt", weights_only=True) for path in (alone, killed)]
    figures = [[{**row, "seconds": ""} for row in metrics(path)] for path in (alone, killed)]
    found = {
        "best_weights_identical": same(*best),
        "last_weights_identical": same(*(checkpoint["state_dict"] for checkpoint in last)),
        "optimizer_identical": same(*(checkpoint["optimizer_states"] for checkpoint in last)),
        "metrics_identical": figures[0] == figures[1],
    }
    return {**found, "identical": all(found.values())}


def same(one: Any, other: Any) -> bool:
    """Whether two nested values are equal, their tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and as_bytes(one) == as_bytes(other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def as_bytes(tensor: torch.Tensor) -> bytes:
    """A tensor's bits in order of its indices."""
    return tensor.contiguous().numpy().tobytes()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the same number of threads in every process
    sys.exit(main())
