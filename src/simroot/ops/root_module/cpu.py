"""Root modules on the CPU by native kernels: the implementations for float32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from simroot.ops.native import laid_out, run
from simroot.ops.norm.plain import NUMBERS
from simroot.ops.root_module.operator import empty_evaluated, empty_gradients, empty_output

_PURPOSE = "a root module"


@torch.library.impl("simroot::root_module", "cpu")
def _root_module(
    x: Tensor,
    spatial: Tensor,
    embedding: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    activation: str,
    adds: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    out, z, mean, var = empty_output(x, spatial, embedding)
    given = _given(x, spatial, embedding, weight=weight, bias=bias)
    sizes = _sizes(x, embedding, eps, activation, adds)
    run("root_module", _PURPOSE, **given, out=out, z=z, mean=mean, var=var, **sizes)
    return out, z, mean, var


@torch.library.impl("simroot::root_module_evaluated", "cpu")
def _evaluated(
    x: Tensor,
    spatial: Tensor,
    embedding: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    activation: str,
    adds: bool,
) -> Tensor:
    out = empty_evaluated(x, spatial, embedding)
    given = _given(x, spatial, embedding, weight=weight, bias=bias, mean=mean, var=var)
    run("root_module", _PURPOSE, **given, out=out, z=None, **_sizes(x, embedding, eps, activation, adds))
    return out


@torch.library.impl("simroot::root_module_backward", "cpu")
def _backward(
    grad: Tensor,
    x: Tensor,
    spatial: Tensor,
    embedding: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    z: Tensor,
    mean: Tensor,
    var: Tensor,
    eps: float,
    activation: str,
    adds: bool,
    needed: Sequence[bool],
) -> tuple[Tensor, ...]:
    found = empty_gradients(grad, x, spatial, embedding, weight, bias, z, mean, var, eps, activation, adds, needed)
    names = ("dx", "dspatial", "dembedding", "dweight", "dbias")
    results = {name: item if need else None for name, item, need in zip(names, found, needed, strict=True)}
    given = _given(x, spatial, embedding, grad=grad, weight=weight, bias=bias, z=z, mean=mean, var=var)
    run("root_module_backward", _PURPOSE, **given, **results, **_sizes(x, embedding, eps, activation, adds))
    return found


def _given(x: Tensor, spatial: Tensor, embedding: Tensor, **others: Tensor | None) -> dict[str, Tensor | None]:
    """Images channels-last, and filters as matrices: (C, 9) and (D, C)."""
    return laid_out(x=x, spatial=spatial.flatten(1), embedding=embedding.flatten(1), **others)


def _sizes(x: Tensor, embedding: Tensor, eps: float, activation: str, adds: bool) -> dict[str, float]:
    images, channels, height, width = x.shape
    sizes = {"images": images, "height": height, "width": width, "channels": channels, "outputs": embedding.shape[0]}
    return {**sizes, "activation": NUMBERS[activation], "adds": int(adds), "eps": eps}
