"""Pure functions on tensors: the operators of SimNets and what they cost.

Each is one call to `torch.overrides`, so that a `TorchFunctionMode` sees `similarity`, not the operations inside.
"""

from simroot.ops.cost import OpCost
from simroot.ops.excitation import cpu as _excitation_cpu  # noqa: F401 - these register kernels
from simroot.ops.excitation import excited_conv2d
from simroot.ops.grouped import cpu as _grouped_cpu  # noqa: F401
from simroot.ops.grouped import grouped_conv2d
from simroot.ops.mex import cpu as _mex_cpu  # noqa: F401
from simroot.ops.mex import gpu as _mex_gpu  # noqa: F401
from simroot.ops.mex import mex, mex_dense
from simroot.ops.mex.cost import mex_cost, mex_dense_cost, mex_pool_cost
from simroot.ops.mex.pooling import global_mex_pool2d, mex_pool2d
from simroot.ops.narrow import cpu as _narrow_cpu  # noqa: F401
from simroot.ops.narrow import narrow_conv2d
from simroot.ops.native import Kernels, available_kernels, kernels_in_use, use_kernels
from simroot.ops.noise import multiplicative_noise
from simroot.ops.norm import batch_norm_act
from simroot.ops.norm import cpu as _norm_cpu  # noqa: F401
from simroot.ops.pooled_norm import cpu as _pooled_norm_cpu  # noqa: F401
from simroot.ops.root_module import cpu as _root_module_cpu  # noqa: F401
from simroot.ops.similarity import cpu as _similarity_cpu  # noqa: F401
from simroot.ops.similarity import gpu as _similarity_gpu  # noqa: F401
from simroot.ops.similarity import similarity
from simroot.ops.similarity.cost import similarity_cost
from simroot.ops.window_pool import cpu as _window_pool_cpu  # noqa: F401

__all__ = [
    "Kernels",
    "OpCost",
    "available_kernels",
    "batch_norm_act",
    "excited_conv2d",
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
    "narrow_conv2d",
    "similarity",
    "similarity_cost",
    "use_kernels",
]
