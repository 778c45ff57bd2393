"""Ctrl-C in a process that has run networks in OpenVINO."""

import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from simroot.export import to_onnx

SCRIPT = """
import gc, signal, sys
from pathlib import Path
from simroot.engines import ENGINES, load_file

signal.signal(signal.SIGINT, signal.default_int_handler)
loaded = [load_file(Path(sys.argv[1]), ENGINES["openvino"]) for _ in range(2)]
del loaded[0]
gc.collect()
del loaded[0]
gc.collect()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.slow
def test_interrupts_arrive_after_several_networks_have_ended(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    path = tmp_path / "model.onnx"
    to_onnx(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval(), path, (1, 2, 2))
    command = [sys.executable, "-X", "faulthandler", "-c", SCRIPT, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
