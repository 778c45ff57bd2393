"""Log-mean-exp along one axis with an exact gradient for every beta, the core of MEX and its poolings."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from simroot.ops.common import no_autocast, recording, transformed, without_branches

# Below this, exponentials are taken around the mean with expm1, and log1p; above, around the largest. Both are
# accurate here: they meet where e^t - 1 is neither close to 0 nor large.
_SMALL = 0.5
_SMALLEST = 1e-20
# Elements that are treated at a time: their many temporary tensors stay in cache and reuse the same memory.
_CHUNK = 2**18


def log_mean_exp(x: Tensor, beta: Tensor, dim: int, present: Tensor | None = None) -> Tensor:
    """MEX over `dim`, kept with length 1, for any beta including 0 and +-inf.

    Args:
        x: Finite values.
        beta: Shaped like the result.
        dim: The axis.
        present: What counts, broadcastable to `x`; at least one element along `dim`. None: everything.

    In a recorded graph, where no value may be looked at, beta must be finite.
    """
    if recording():
        return _recorded(Axis(x, dim, present), beta)
    if transformed():
        return _of_any_beta(x, beta, dim, present)
    along = 1 if dim == 0 else 0
    size = _CHUNK * x.shape[along] // x.numel() if x.ndim > 1 and x.numel() else 0
    if 0 < size < x.shape[along]:
        parts = zip(x.split(size, along), beta.split(size, along), strict=True)
        return torch.cat([log_mean_exp(*part, dim, present) for part in parts], along)
    if beta.isinf().any():
        return _of_any_beta(x, beta, dim, present)
    out: Tensor = _LogMeanExp.apply(x, beta, dim, present)
    return out


def _of_any_beta(x: Tensor, beta: Tensor, dim: int, present: Tensor | None) -> Tensor:
    infinite = beta.isinf()
    finite: Tensor = _LogMeanExp.apply(x, beta.masked_fill(infinite, 1.0), dim, present)
    absent = None if present is None else ~present
    largest = (x if absent is None else x.masked_fill(absent, -math.inf)).amax(dim, keepdim=True)
    smallest = (x if absent is None else x.masked_fill(absent, math.inf)).amin(dim, keepdim=True)
    return torch.where(infinite, torch.where(beta > 0, largest, smallest), finite)


def _everywhere(condition: Tensor) -> bool:
    """Whether a condition is known to hold everywhere, so that work can be saved."""
    return not without_branches() and bool(condition.all())


class Axis:
    """Averages along one axis over the elements that are present."""

    def __init__(self, x: Tensor, dim: int, present: Tensor | None) -> None:
        self.dim = dim
        self.present = present
        if present is None:
            self.count = x.new_full((), x.shape[dim])
            self.values, self.mean = x, x.mean(dim, keepdim=True)
        else:
            self.count = present.sum(dim, keepdim=True).to(x.dtype)
            self.mean = self.average(x)
            # Absent elements get the mean: no maximum, minimum or exponential notices them.
            self.values = torch.where(present, x, self.mean)

    def average(self, terms: Tensor) -> Tensor:
        if self.present is None:
            return terms.mean(self.dim, keepdim=True)
        return terms.masked_fill(~self.present, 0.0).sum(self.dim, keepdim=True) / self.count

    def exponents(self, beta: Tensor) -> tuple[Tensor, Tensor]:
        """The exponents beta (x - c) <= 0 and c, the element where beta x is largest, a constant to gradients."""
        values = self.values.detach()
        positive = beta > 0
        if _everywhere(positive):
            reference = values.amax(self.dim, keepdim=True)
        else:
            largest, smallest = values.amax(self.dim, keepdim=True), values.amin(self.dim, keepdim=True)
            reference = torch.where(positive, largest, smallest)
        return beta * (self.values - reference), reference

    def log_probabilities(self, beta: Tensor) -> Tensor:
        """The log of e^(beta x_i) / sum_j e^(beta x_j)."""
        exponents = self.exponents(beta)[0]
        if self.present is not None:
            exponents = exponents.masked_fill(~self.present, -math.inf)
        return exponents.log_softmax(self.dim)


def _is_small(axis: Axis, beta: Tensor) -> Tensor:
    """Where |beta (x - mean)| is below the border everywhere."""
    values, mean = axis.values.detach(), axis.mean.detach()
    spread = torch.maximum(values.amax(axis.dim, keepdim=True) - mean, mean - values.amin(axis.dim, keepdim=True))
    return beta.abs() * spread <= _SMALL


def _around_mean(axis: Axis, beta: Tensor) -> Tensor:
    deviations = axis.values - axis.mean
    # Where beta is so small that beta x is lost to underflow, MEX is the mean to the last digit.
    lost = beta.abs() < torch.finfo(beta.dtype).tiny / torch.finfo(beta.dtype).eps
    inner = axis.average((beta * deviations).expm1_()).log1p_().div_(beta.masked_fill(lost, 1.0))
    return axis.mean + torch.where(lost, axis.average(deviations), inner)


def _around_largest(axis: Axis, beta: Tensor) -> Tensor:
    exponents, reference = axis.exponents(beta)
    return reference + axis.average(exponents.exp_()).log_() / beta


def _recorded(axis: Axis, beta: Tensor) -> Tensor:
    """Around the largest, for any beta: with e^t - 1 where it is close to 0."""
    beta = away_from_zero(beta)
    exponents, reference = axis.exponents(beta)
    excess = axis.average(exponents.expm1())
    return reference + torch.where(excess < -_SMALL, axis.average(exponents.exp()).log(), excess.log1p()) / beta


def away_from_zero(beta: Tensor) -> Tensor:
    """`beta`, but where it is so small that MEX is the mean to the last digit, a number that can be divided by."""
    return torch.where(beta < 0, -1.0, 1.0) * beta.abs().clamp(min=_SMALLEST)


def derivative_of_beta(axis: Axis, beta: Tensor, out: Tensor) -> Tensor:
    r"""dMEX/dbeta = KL(p || uniform) / beta^2, with p the probabilities of log_probabilities.

    For small beta it is the mean of w^2 phi(beta w) with w = x - MEX and
    phi(q) = (e^q (q - 1) + 1) / q^2 = sum_k q^k / (k! (k + 2)): nothing cancels in it and nothing is divided by beta.
    """
    small = _is_small(axis, beta)
    if _everywhere(small):
        return _series(axis, beta, out)
    logs = axis.log_probabilities(beta).clamp(min=-1e30)  # 0 times it is 0, which 0 times -inf is not
    divergence = (logs.exp() * logs).sum(axis.dim, keepdim=True) + axis.count.log()
    if _everywhere(~small):
        return divergence / beta.square()
    series = _series(axis, beta.masked_fill(~small, 0.0), out)
    return torch.where(small, series, divergence / beta.masked_fill(small, 1.0).square())


def _series(axis: Axis, beta: Tensor, out: Tensor) -> Tensor:
    w = axis.values - out
    q = beta * w
    terms = 11 if q.dtype == torch.float32 else 19
    phi = torch.full_like(q, 1 / (math.factorial(terms) * (terms + 2)))
    for k in reversed(range(terms)):
        phi = phi * q + 1 / (math.factorial(k) * (k + 2))
    return axis.average(w.square() * phi)


class _LogMeanExp(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, beta: Tensor, dim: int, present: Tensor | None) -> Tensor:
        axis = Axis(x, dim, present)
        small = _is_small(axis, beta)
        if _everywhere(small):
            return _around_mean(axis, beta)
        if _everywhere(~small):
            return _around_largest(axis, beta)
        far = _around_largest(axis, beta.masked_fill(small, 1.0))
        return torch.where(small, _around_mean(axis, beta.masked_fill(~small, 0.0)), far)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, beta, ctx.dim, present = inputs
        ctx.save_for_backward(x, beta, present, output)
        ctx.save_for_forward(x, beta, present, output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, beta, present, out = ctx.saved_tensors
        with no_autocast(grad):
            axis = Axis(x, ctx.dim, present)
            dx = grad * axis.log_probabilities(beta).exp() if ctx.needs_input_grad[0] else None
            dbeta = grad * derivative_of_beta(axis, beta, out) if ctx.needs_input_grad[1] else None
        return dx, dbeta, None, None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor | None, dbeta: Tensor | None, *_: None) -> Tensor:
        x, beta, present, out = ctx.saved_tensors
        axis = Axis(x, ctx.dim, present)
        change = torch.zeros_like(out)
        if dx is not None:
            change = change + (axis.log_probabilities(beta).exp() * dx).sum(ctx.dim, keepdim=True)
        return change if dbeta is None else change + dbeta * derivative_of_beta(axis, beta, out)
