"""Whether Triton's kernels serve a tensor."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

from simroot.ops.common import without_branches
from simroot.ops.native import reference_chosen

INSTALLED = find_spec("triton") is not None


def has_triton(x: Tensor) -> bool:
    """Whether Triton's kernels serve `x`; ``SIMROOT_KERNELS=reference`` turns them off like all others."""
    fits = x.device.type == "cuda" and x.dtype == torch.float32
    return fits and INSTALLED and not without_branches() and not reference_chosen()
