"""One of several processes of a training: ``ddp_child.py OUT NORM``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from simroot.training import run, train
from training.support import QUICK, small_data, tiny_network

if __name__ == "__main__":
    out, norm = Path(sys.argv[1]), sys.argv[2] == "True"
    # The registry's networks are not needed here.
    vars(run)["create_model"] = lambda name, *sizes, **overrides: tiny_network(*sizes, **overrides)
    finished = train(
        "tiny", small_data(), QUICK, out, overrides={"norm": norm}, accelerator="cpu", devices=2, strategy="ddp"
    )
    print(f"returned {finished.path}")
