"""MEX over channels plus offsets as a matrix product of exponentials, with an exact gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from simroot.ops.common import differentiable_vjp, no_autocast, plain_gradient, tile_elements
from simroot.ops.mex.along_axis import Axis, away_from_zero, derivative_of_beta, log_mean_exp

_SMALL = 0.5
# Below this spread of beta x the derivative of beta is half the variance, to the digits that rounding leaves.
_VARIANCE_ONLY = 3e-8


def mex_dense_rows(x: Tensor, offsets: Tensor, beta: Tensor) -> Tensor:
    """(rows, C), (R, C), a tensor of no dimension -> (rows, R)."""
    out: Tensor = _MexDense.apply(x, offsets, beta, float(beta.detach()))
    return out


def plain_mex_dense(x: Tensor, offsets: Tensor, beta: Tensor) -> Tensor:
    """The same for recorded graphs, where no value may be looked at.

    There beta must be finite, and sums that underflow are cut off at the smallest number. What the offsets of a channel
    have in common is added to x first: in a trained network it takes back the channel's mean, and left in the offsets,
    x and offsets would have their peaks at different channels.
    """
    beta = away_from_zero(beta)
    common = offsets.mean(0)
    x, offsets = x + common, offsets - common
    scaled, shifts = beta * x, beta * offsets
    top, peak = scaled.amax(1, keepdim=True), shifts.amax(1, keepdim=True)
    scaled, shifts = scaled - top, shifts - peak
    product = scaled.exp() @ shifts.exp().t() / x.shape[1]
    # The mean of e^t - 1, which is exact where all exponents are close to 0.
    first, second = scaled.expm1(), shifts.expm1()
    excess = first.mean(1, keepdim=True) + second.mean(1) + first @ second.t() / x.shape[1]
    logs = torch.where(excess < -_SMALL, product.clamp(min=torch.finfo(x.dtype).tiny).log(), excess.log1p())
    return (top + peak.t() + logs) / beta


def summed_mex_dense(x: Tensor, offsets: Tensor, beta: Tensor) -> Tensor:
    """The definition: holds (rows, R, C)."""
    sums = x.unsqueeze(1) + offsets
    return log_mean_exp(sums, beta.expand(sums.shape[0], sums.shape[1], 1), -1).squeeze(-1)


class _Factors(NamedTuple):
    """x and offsets relative to their references, and the sums over channels of the product of their exponentials."""

    x: Tensor  # (rows, C)
    offsets: Tensor  # (R, C)
    reference: Tensor  # (rows, R): of x plus of offsets
    small: Tensor  # (rows, R): where b times the sums hardly varies
    all_small: bool  # whether references are means, else where beta x and beta offsets are largest

    @classmethod
    def of(cls, x: Tensor, offsets: Tensor, b: float) -> _Factors:
        means = x.mean(1, keepdim=True), offsets.mean(1, keepdim=True)
        spreads = [(t - mean).abs().amax(1) for t, mean in zip((x, offsets), means, strict=True)]
        small = abs(b) * (spreads[0].unsqueeze(1) + spreads[1]) <= _SMALL
        all_small = bool(small.all())
        first, second = means if all_small else [(t.amax if b > 0 else t.amin)(1, keepdim=True) for t in (x, offsets)]
        return cls(x - first, offsets - second, first + second.t(), small, all_small)

    def log_means(self, b: float) -> Tensor:
        """Logs of mean_c exp(b (x + offsets)) if all are small.

        log1p(mean A + mean W + A W^T / C) with A = expm1(b x) and W = expm1(b offsets).
        """
        first, second = (b * self.x).expm1_(), (b * self.offsets).expm1_()
        inner = first @ second.t() / first.shape[1]
        return inner.add_(first.mean(1, keepdim=True)).add_(second.mean(1)).log1p_()

    def around_means(self, b: float) -> Tensor:
        """MEX if all are small."""
        info = torch.finfo(self.x.dtype)
        if abs(b) < info.tiny / info.eps:
            return self.reference + self.x.mean(1, keepdim=True) + self.offsets.mean(1)
        return self.reference + self.log_means(b).div_(b)

    def inexact(self, products: Tensor) -> Tensor:
        """Where the product is too rough: terms below the smallest number may matter, or 1 drowns the exponents."""
        info = torch.finfo(products.dtype)
        underflow = products < self.x.shape[1] * info.tiny / info.eps
        return underflow if self.all_small else underflow | self.small


def _pairs(chosen: Tensor, channels: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(row, output) of the chosen entries, as many at a time as make a tile."""
    rows, outputs = chosen.nonzero(as_tuple=True)
    size = max(1, tile_elements(chosen.device) // channels)
    if len(rows):
        yield from zip(rows.split(size), outputs.split(size), strict=True)


def _exactly(sums: Tensor, b: float) -> Tensor:
    """MEX of each row of (pairs, C)."""
    return log_mean_exp(sums, sums.new_full((len(sums), 1), b), 1).squeeze(1)


def _exact_derivatives(sums: Tensor, b: float) -> tuple[Tensor, Tensor]:
    """Of MEX by the sums, which are probabilities, (pairs, C), and by beta, (pairs,)."""
    if math.isinf(b):
        ties = (sums == (sums.amax if b > 0 else sums.amin)(1, keepdim=True)).to(sums.dtype)
        return ties / ties.sum(1, keepdim=True), sums.new_zeros(len(sums))
    axis, beta = Axis(sums, 1, None), sums.new_full((len(sums), 1), b)
    by_beta = derivative_of_beta(axis, beta, log_mean_exp(sums, beta, 1))
    return axis.log_probabilities(beta).exp(), by_beta.squeeze(1)


class _MexDense(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, offsets: Tensor, beta: Tensor, b: float) -> Tensor:
        if not x.numel():
            return x.new_empty((len(x), len(offsets)))
        if math.isinf(b):
            out = x.new_empty((len(x), len(offsets)))
            chosen = torch.ones_like(out, dtype=torch.bool)
        else:
            factors = _Factors.of(x, offsets, b)
            if factors.all_small:
                return factors.around_means(b)
            products = (b * factors.x).exp_() @ (b * factors.offsets).exp_().t()
            chosen = factors.inexact(products)
            out = factors.reference + products.div_(x.shape[1]).log_().div_(b)
        for row, output in _pairs(chosen, x.shape[1]):
            out[row, output] = _exactly(x[row] + offsets[output], b)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, offsets, beta, ctx.b = inputs
        ctx.save_for_backward(x, offsets, beta)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        tensors, needed = ctx.saved_tensors, ctx.needs_input_grad[:3]
        with no_autocast(grad):
            if plain_gradient():
                return (*differentiable_vjp(summed_mex_dense, tensors, grad, needed), None)
            return (*_gradients(tensors, grad, ctx.b, needed[2]), None)


def _gradients(tensors: Sequence[Tensor], grad: Tensor, b: float, learned: bool) -> list[Tensor]:
    """By dx = E ((g / P) F) and likewise for the offsets, with E, F the exponentials and P = E F^T."""
    x, offsets, beta = tensors
    if not x.numel():
        return [torch.zeros_like(tensor) for tensor in tensors]
    if math.isinf(b):
        dx, doffsets, _ = _exact_gradients(x, offsets, grad, b, torch.ones_like(grad, dtype=torch.bool))
        return [dx, doffsets, torch.zeros_like(beta)]
    factors = _Factors.of(x, offsets, b)
    if learned and factors.all_small and x.dtype != torch.float64:
        # The derivative of beta is a difference of two sums that are nearly equal.
        doubles = _gradients([tensor.double() for tensor in tensors], grad.double(), b, learned)
        return [double.to(tensor.dtype) for double, tensor in zip(doubles, tensors, strict=True)]
    first, second = (b * factors.x).exp_(), (b * factors.offsets).exp_()
    products = first @ second.t()
    chosen = factors.inexact(products)
    ratio = (grad / products).masked_fill_(chosen, 0.0)
    dx, doffsets = first * (ratio @ second), second * (ratio.t() @ first)
    dbeta = _beta_gradient(factors, products, ratio, dx, doffsets, grad, b) if learned else torch.zeros_like(beta)
    extra = _exact_gradients(x, offsets, grad, b, chosen)
    return [part + more for part, more in zip((dx, doffsets, dbeta), extra, strict=True)]


def _beta_gradient(
    factors: _Factors, products: Tensor, ratio: Tensor, dx: Tensor, doffsets: Tensor, grad: Tensor, b: float
) -> Tensor:
    """(<x, dx> + <offsets, doffsets> - <g, out>) / beta, all relative to the references; near 0 half the variance."""
    channels = dx.shape[1]
    if factors.all_small and abs(b) * (factors.x.abs().max() + factors.offsets.abs().max()) < _VARIANCE_ONLY:
        variance = factors.x.square().mean(1, keepdim=True) + factors.offsets.square().mean(1)
        return (grad * (variance + 2 * factors.x @ factors.offsets.t() / channels)).sum() / 2
    # ratio * products is the gradient without the entries that are left to the exact sums.
    logs = factors.log_means(b) if factors.all_small else (products / channels).log().masked_fill(ratio == 0, 0.0)
    return ((factors.x * dx).sum() + (factors.offsets * doffsets).sum() - (ratio * products * logs).sum() / b) / b


def _exact_gradients(
    x: Tensor, offsets: Tensor, grad: Tensor, b: float, chosen: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    dx, doffsets, dbeta = torch.zeros_like(x), torch.zeros_like(offsets), grad.new_zeros(())
    for row, output in _pairs(chosen, x.shape[1]):
        probabilities, by_beta = _exact_derivatives(x[row] + offsets[output], b)
        weighted = grad[row, output].unsqueeze(1) * probabilities
        dx.index_add_(0, row, weighted)
        doffsets.index_add_(0, output, weighted)
        dbeta += (grad[row, output] * by_beta).sum()
    return dx, doffsets, dbeta
