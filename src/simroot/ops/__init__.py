"""Pure functions on tensors: the operators of SimNets and what they cost.

Each is one call to `torch.overrides`, so that a `TorchFunctionMode` sees `similarity`, not the operations inside.
"""

from simroot.ops import _native_grouped, _native_lp, _native_mex  # noqa: F401 - register the CPU's kernels
from simroot.ops._native import Kernels, available_kernels, kernels_in_use, use_kernels
from simroot.ops.cost import OpCost, mex_cost, mex_dense_cost, mex_pool_cost, similarity_cost
from simroot.ops.grouped_conv import grouped_conv2d
from simroot.ops.mex import mex, mex_dense
from simroot.ops.noise import multiplicative_noise
from simroot.ops.pooling import global_mex_pool2d, mex_pool2d
from simroot.ops.similarity import similarity

__all__ = [
    "Kernels",
    "OpCost",
    "available_kernels",
    "global_mex_pool2d",
    "grouped_conv2d",
    "kernels_in_use",
    "mex",
    "mex_cost",
    "mex_dense",
    "mex_dense_cost",
    "mex_pool2d",
    "mex_pool_cost",
    "multiplicative_noise",
    "similarity",
    "similarity_cost",
    "use_kernels",
]
