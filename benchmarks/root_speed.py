"""Root networks against the originals: NiN and ResNet-50 in PyTorch eager and compiled, ONNX Runtime and OpenVINO.

    python benchmarks/root_speed.py --threads 1 2 --out results/root_speed.json
    python benchmarks/root_speed.py --models nin_root8 --engines openvino --threads 1

Efficiency is speed-up / MAC ratio: the share of the saved operations that is saved time. Each engine's outputs are
checked against eager float32 first; see engine_speed.py for how it is measured and resumed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from engine_speed import Family, run

from simroot.measure import ENGINES

NIN = ("nin", "nin_root2", "nin_root4", "nin_root8", "nin_root16", "nin_column4", "nin_tree4")
RESNET = ("resnet50", *(f"resnet50_root{degree}" for degree in (2, 4, 8, 16, 32, 64)))
FAMILIES = [Family("nin", NIN, batches=(1, 64)), Family("resnet50", RESNET, batches=(1, 8))]


def main(argv: Sequence[str] | None = None) -> int:
    return run(__doc__, FAMILIES, ENGINES, "results/root_speed.json", argv)


if __name__ == "__main__":
    sys.exit(main())
