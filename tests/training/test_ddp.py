"""Two processes on one machine's CPU against one process with the same global batch."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from simroot.data import ImageData
from simroot.training import train
from training.support import QUICK
from training.test_train import rows, weights

LAUNCH = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
CHILD = Path(__file__).with_name("ddp_child.py")

# Two processes add the gradients of half a batch each: the same terms in another order, nine steps of float32.
RTOL, ATOL = 1e-4, 1e-6


def two_processes(out: Path, *, norm: bool) -> str:
    source = Path(__file__).resolve().parents[2] / "src"
    path = os.pathsep.join(filter(None, [str(source), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [*LAUNCH, str(CHILD), str(out), str(norm)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"returned {out}") == 2
    return done.stderr


@pytest.mark.slow
def test_same_gradients_as_one_process(data: ImageData, out: Path) -> None:
    alone = out.with_name("alone")
    train("tiny", data, QUICK, alone, accelerator="cpu", progress=False)
    said = two_processes(out, norm=False)
    assert "statistics" not in said
    assert len(re.findall("^epoch ", said, re.MULTILINE)) == 3  # one process speaks

    for name, tensor in weights(alone).items():
        torch.testing.assert_close(weights(out)[name], tensor, rtol=RTOL, atol=ATOL)
    # The momentum is the sum of all gradients, each with its weight.
    states = [
        torch.load(path / "last.ckpt", weights_only=True)["optimizer_states"][0]["state"] for path in (out, alone)
    ]
    for one, other in zip(states[0].values(), states[1].values(), strict=True):
        torch.testing.assert_close(one["momentum_buffer"], other["momentum_buffer"], rtol=RTOL, atol=ATOL)
    for one, other in zip(rows(out), rows(alone), strict=True):
        for name in ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate"):
            assert one[name] == pytest.approx(other[name], rel=1e-4), name


@pytest.mark.slow
def test_batch_statistics_of_each_process_are_told(out: Path) -> None:
    said = two_processes(out, norm=True)
    assert "2 processes: BatchNorm2d takes its statistics from the images of one process" in said
    assert "BatchNorm2d takes its statistics" in (out / "train.log").read_text()
    assert len(rows(out)) == 3
