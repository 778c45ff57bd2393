"""Formulas for the cost of each operator that the counter knows, and ``register_cost`` to add one.

A formula receives an operator's first output and its arguments and returns the operator's cost. The convention:

* ``macs``: multiply-accumulates of convolutions, matrix products and similarities, weights times output positions;
  biases are not counted.
* ``flops``: two for each multiply-accumulate, one for each addition (a bias included), multiplication, division, square
  root, comparison or absolute value, and ten for each exp, log or other transcendental function.
* Moving data (views, copies, padding, indexing, concatenation) is free.
* A pooling window counts in full, also where it reaches over the border, just as a convolution's padding does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from simroot import ops
from simroot.borrowed.from_torch import OpOverload
from simroot.ops.cost import TRANSCENDENTAL as EXP
from simroot.ops.cost import OpCost
from simroot.ops.mex.cost import mex_cost, mex_dense_cost, mex_pool_cost
from simroot.ops.similarity import Kind
from simroot.ops.similarity.cost import similarity_cost

Formula = Callable[..., OpCost]
Operator = Callable[..., Any]

SIGMOID = EXP + 3  # 1 / (1 + exp(-x))
TANH = EXP + 4  # (1 - e) / (1 + e) with e = exp(-2 x)
SOFTPLUS = 2 * EXP + 1  # log(1 + exp(x))
POWER = 2 * EXP + 1  # exp(y log(x))
NORMALISE = 5  # mean: 1, difference: 1, variance: 2, scale: 1

_FORMULAS: dict[Operator, Formula] = {}


def register_cost(*operators: Operator) -> Callable[[Formula], Formula]:
    """Register ``formula(output, *args, **kwargs) -> OpCost(macs, flops)`` for one or more operators.

    ``output`` is the operator's first output tensor, ``args`` and ``kwargs`` are what it was called with.

    Args:
        *operators: each either an operator of ``torch.ops``, such as ``torch.ops.aten.erf`` (all its overloads, and its
            in-place form), or a Python function that honours ``__torch_function__``, which is then counted as one
            call whatever it does inside. A later registration replaces an earlier one.

    Example::

        @register_cost(torch.ops.aten.cumprod)
        def products(output, x, dim, *args):
            return OpCost(macs=0, flops=output.numel())
    """

    def decorate(formula: Formula) -> Formula:
        for operator in operators:
            _FORMULAS[operator] = formula
        return formula

    return decorate


def find_formula(operator: Operator) -> Formula | None:
    """The formula registered for an operator, for its overload packet, or for its form that is not in place."""
    if not isinstance(operator, OpOverload):
        return _FORMULAS.get(operator)
    packet = operator.overloadpacket
    functional = getattr(getattr(torch.ops, operator.namespace), packet.__name__.removesuffix("_"), packet)
    return _FORMULAS.get(packet) or _FORMULAS.get(functional)


def _aten(names: str) -> list[Operator]:
    """The operators of these names that the installed version of PyTorch has."""
    found = (getattr(torch.ops.aten, name, None) for name in names.split())
    return [operator for operator in found if operator is not None]


_FLOPS_PER_OUTPUT = {
    "_local_scalar_dense _reshape_alias _reshape_copy _to_copy _unsafe_view as_strided cat clone constant_pad_nd copy "
    "embedding empty_like expand_copy fill flip full_like gather im2col index index_copy index_put index_select "
    "new_empty new_full new_ones new_zeros ones_like pixel_shuffle pixel_unshuffle reflection_pad1d reflection_pad2d "
    "reflection_pad3d repeat replication_pad1d replication_pad2d replication_pad3d roll scatter select_scatter "
    "slice_scatter stack upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact2d zero "
    "zeros_like": 0,
    "abs add bitwise_and bitwise_not bitwise_or ceil clamp_max clamp_min cumsum div eq floor floor_divide fmod ge gt "
    "isfinite isinf isnan le logical_and logical_not logical_or lt masked_fill maximum minimum mul ne neg reciprocal "
    "relu remainder round rsqrt rsub sgn sign sqrt square sub threshold trunc where": 1,
    "addcdiv addcmul hardtanh leaky_relu lerp nan_to_num _prelu_kernel": 2,
    "hardsigmoid": 4,
    "hardswish": 5,
    "upsample_bilinear2d _upsample_bilinear2d_aa": 7,
    "upsample_bicubic2d _upsample_bicubic2d_aa": 31,
    "acos asin atan cos cosh erf erfc exp exp2 log log10 log2 sin sinh tan": EXP,
    "expm1 log1p": EXP + 1,
    "elu": EXP + 3,
    "sigmoid": SIGMOID,
    "silu": SIGMOID + 1,
    "tanh": TANH,
    "softplus logaddexp log_sigmoid_forward": SOFTPLUS,
    "mish": SOFTPLUS + TANH + 1,
}


def _register_per_output(flops: int, names: str) -> None:
    @register_cost(*_aten(names))
    def formula(output: Tensor, *args: Any, **kwargs: Any) -> OpCost:
        return OpCost(0, flops * output.numel())


for _names, _flops in _FLOPS_PER_OUTPUT.items():
    _register_per_output(_flops, _names)


@register_cost(*_aten("gelu"))
def _gelu(output: Tensor, x: Tensor, *, approximate: str = "none") -> OpCost:
    """Exact: x / 2 * (1 + erf(x / sqrt 2)); by tanh: x / 2 * (1 + tanh(a * (x + b * x^3)))."""
    return OpCost(0, output.numel() * (EXP + 4 if approximate == "none" else TANH + 8))


@register_cost(*_aten("clamp"))
def _clamp(output: Tensor, x: Tensor, low: Any = None, high: Any = None) -> OpCost:
    return OpCost(0, output.numel() * ((low is not None) + (high is not None)))


@register_cost(*_aten("pow"))
def _pow(output: Tensor, base: Any, exponent: Any) -> OpCost:
    multiplications = {0.5: 1, 1: 0, 2: 1, 3: 2}
    known = isinstance(exponent, (int, float)) and exponent in multiplications
    return OpCost(0, output.numel() * (multiplications[exponent] if known else POWER))


@register_cost(*_aten("all amax amin any argmax argmin col2im max mean min prod sum"))
def _reduction(output: Tensor, x: Tensor, *args: Any, **kwargs: Any) -> OpCost:
    return OpCost(0, x.numel())


@register_cost(*_aten("var std var_mean std_mean"))
def _variance(output: Tensor, x: Tensor, *args: Any, **kwargs: Any) -> OpCost:
    return OpCost(0, 4 * x.numel() + output.numel())


@register_cost(*_aten("linalg_vector_norm"))
def _vector_norm(output: Tensor, x: Tensor, order: float = 2, *args: Any, **kwargs: Any) -> OpCost:
    per_input = 2 if order in (1, 2, math.inf, -math.inf) else POWER + 2
    return OpCost(0, per_input * x.numel() + output.numel())


@register_cost(*_aten("logsumexp"))
def _logsumexp(output: Tensor, x: Tensor, *args: Any, **kwargs: Any) -> OpCost:
    return OpCost(0, (EXP + 3) * x.numel() + (EXP + 1) * output.numel())


@register_cost(*_aten("_softmax"))
def _softmax(output: Tensor, *args: Any) -> OpCost:
    return OpCost(0, (EXP + 4) * output.numel())


@register_cost(*_aten("_log_softmax"))
def _log_softmax(output: Tensor, x: Tensor, dim: int, *args: Any) -> OpCost:
    return OpCost(0, (EXP + 4) * output.numel() + EXP * (output.numel() // output.shape[dim]))


@register_cost(*_aten("convolution"))
def _convolution(
    output: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any,
    transposed: bool, *args: Any,
) -> OpCost:  # fmt: skip
    grid = x if transposed else output
    macs = weight.numel() * (grid.numel() // grid.shape[1])
    return OpCost(macs, 2 * macs + (0 if bias is None else output.numel()))


@register_cost(*_aten("mm bmm mv dot"))
def _product(output: Tensor, a: Tensor, b: Tensor) -> OpCost:
    macs = output.numel() * a.shape[-1]
    return OpCost(macs, 2 * macs)


@register_cost(*_aten("addmm baddbmm addmv"))
def _product_and_bias(output: Tensor, bias: Tensor, a: Tensor, b: Tensor, **kwargs: Any) -> OpCost:
    macs = output.numel() * a.shape[-1]
    return OpCost(macs, 2 * macs + output.numel())


@register_cost(
    *_aten(
        "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention "
        "_scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention"
    )
)
def _attention(output: Tensor, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> OpCost:
    scores = query[..., 0].numel() * key.shape[-2]
    macs = scores * (query.shape[-1] + value.shape[-1])
    return OpCost(macs, 2 * macs + (EXP + 5) * scores)


@register_cost(*_aten("native_batch_norm _native_batch_norm_legit_no_training"))
def _batch_norm(
    output: Tensor, x: Tensor, weight: Any, bias: Any, mean: Any, variance: Any, training: Any, *args: Any
) -> OpCost:
    """In evaluation a scale and a shift; normalising by the example's own statistics costs those as well."""
    return OpCost(0, x.numel() * (2 + NORMALISE * (training is True)))


@register_cost(*_aten("native_layer_norm"))
def _layer_norm(output: Tensor, x: Tensor, shape: Any, weight: Tensor | None, bias: Tensor | None, eps: Any) -> OpCost:
    return OpCost(0, x.numel() * (NORMALISE + (weight is not None) + (bias is not None)))


@register_cost(*_aten("native_group_norm"))
def _group_norm(output: Tensor, x: Tensor, weight: Tensor | None, bias: Tensor | None, *args: Any) -> OpCost:
    return _layer_norm(output, x, None, weight, bias, None)


def _register_pools(dimensions: int) -> None:
    def window(size: Sequence[int]) -> int:
        return math.prod(size) if len(size) == dimensions else size[0] ** dimensions

    @register_cost(*_aten(f"max_pool{dimensions}d max_pool{dimensions}d_with_indices"))
    def max_pool(output: Tensor, x: Tensor, kernel_size: Sequence[int], *args: Any) -> OpCost:
        return OpCost(0, output.numel() * (window(kernel_size) - 1))

    @register_cost(*_aten(f"avg_pool{dimensions}d"))
    def avg_pool(output: Tensor, x: Tensor, kernel_size: Sequence[int], *args: Any) -> OpCost:
        return OpCost(0, output.numel() * window(kernel_size))

    @register_cost(*_aten(f"_adaptive_avg_pool{dimensions}d"))
    def adaptive_avg_pool(output: Tensor, x: Tensor, size: Any) -> OpCost:
        return OpCost(0, _adaptive_window_elements(x, output, dimensions))

    @register_cost(*_aten(f"adaptive_max_pool{dimensions}d"))
    def adaptive_max_pool(output: Tensor, x: Tensor, size: Any) -> OpCost:
        return OpCost(0, _adaptive_window_elements(x, output, dimensions) - output.numel())


def _adaptive_window_elements(x: Tensor, output: Tensor, dimensions: int) -> int:
    """Elements in all windows: window i of m along an axis of n covers floor(i n / m) to ceil((i + 1) n / m)."""
    axes = zip(x.shape[-dimensions:], output.shape[-dimensions:], strict=True)
    lengths = (sum(-(-(i + 1) * n // m) - i * n // m for i in range(m)) for n, m in axes)
    return math.prod(x.shape[:-dimensions]) * math.prod(lengths)


for _dimensions in (1, 2, 3):
    _register_pools(_dimensions)


@register_cost(ops.similarity)
def _similarity(
    output: Tensor,
    x: Tensor,
    templates: Tensor,
    weights: Tensor | None = None,
    *,
    order: float | Tensor = 2.0,
    kind: Kind = "lp",
    bias: Tensor | None = None,
    **kwargs: Any,
) -> OpCost:
    cost = similarity_cost(
        rows=output.numel() // len(templates),
        templates=len(templates),
        coordinates=templates[0].numel(),
        kind=kind,
        order=float(order),
        weighted=weights is not None,
    )
    return OpCost(cost.macs, cost.flops + (0 if bias is None else output.numel()))


@register_cost(ops.mex)
def _mex(output: Tensor, x: Tensor, beta: float | Tensor, **kwargs: Any) -> OpCost:
    return mex_cost(output.numel(), x.numel() // output.numel(), beta=_one_beta(beta))


@register_cost(ops.mex_dense)
def _mex_dense(output: Tensor, x: Tensor, offsets: Tensor, beta: float | Tensor) -> OpCost:
    outputs, channels = offsets.shape
    return mex_dense_cost(output.numel() // outputs, channels, outputs, beta=_one_beta(beta))


@register_cost(ops.mex_pool2d)
def _mex_pool2d(
    output: Tensor, x: Tensor, beta: float | Tensor, kernel_size: int | Sequence[int], *args: Any, **kwargs: Any
) -> OpCost:
    window = kernel_size**2 if isinstance(kernel_size, int) else math.prod(kernel_size)
    return mex_pool_cost(output.numel(), window, beta=_one_beta(beta))


@register_cost(ops.global_mex_pool2d)
def _global_mex_pool2d(output: Tensor, x: Tensor, beta: float | Tensor) -> OpCost:
    return mex_pool_cost(output.numel(), x.numel() // output.numel(), beta=_one_beta(beta))


def _one_beta(beta: float | Tensor) -> float:
    """The value that decides the cost. A tensor is being learned and costs what any finite beta but 0 does."""
    return float(beta) if isinstance(beta, (int, float)) else 1.0
