"""One of several processes of a training: ``ddp_child.py OUT NORM``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import simroot.training.run
from simroot.training import train
from training.support import QUICK, small_data, tiny_network

if __name__ == "__main__":
    out, norm = Path(sys.argv[1]), sys.argv[2] == "True"
    simroot.training.run.create_model = lambda name, *sizes, **overrides: tiny_network(*sizes, **overrides)
    run = train(
        "tiny", small_data(), QUICK, out, overrides={"norm": norm}, accelerator="cpu", devices=2, strategy="ddp"
    )
    print(f"returned {run.path}")
