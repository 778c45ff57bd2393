"""Deployed: simnet2 and its ReLU twin against convnet_caffe in ONNX Runtime and OpenVINO, float32.

    python benchmarks/deployment_speed.py --threads 1 2 --out results/deployment_speed.json

Each engine's outputs are checked against PyTorch's first; see engine_speed.py for how it is measured and resumed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from engine_speed import Family, run

NETWORKS = ("convnet_caffe", "simnet2:order=2", "simnet2:order=1", "simnet2_twin")
FAMILIES = [Family("simnet2", NETWORKS, batches=(1, 64))]


def main(argv: Sequence[str] | None = None) -> int:
    return run(__doc__, FAMILIES, ("onnxruntime", "openvino"), "results/deployment_speed.json", argv)


if __name__ == "__main__":
    sys.exit(main())
