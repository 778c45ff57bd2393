r"""The M-step on weighted levels: the best mean, scale and shape of every component and coordinate.

A coordinate's values are given as levels x_1 <= … <= x_B with a weight for each component, so that a step costs
B rather than the number of samples, whatever the shape. Work is in the dtype of the arguments.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

SHAPE_BOUNDS = (0.2, 20.0)
# One M-step moves a learned shape by at most this factor: its root search then starts from a short bracket.
_SHAPE_STEP = 1.5
_SHAPE_REACH = 0.03
# For means, in standard deviations of the coordinate, and for log-shapes.
_TOLERANCE = 1e-7
_TINY = 1e-37


class Bracket(NamedTuple):
    """Where to look for a root: from ``start``, first within ``reach`` of it, then as far as ``low`` or ``high``."""

    start: Tensor
    reach: Tensor | float
    low: Tensor
    high: Tensor


def decreasing_root(function: Callable[[Tensor], Tensor], bracket: Bracket, tolerance: float) -> Tensor:
    """Where decreasing functions, one an entry, cross zero; ``low`` or ``high`` if they do not in between.

    Chandrupatla's method (Advances in Engineering Software 28, 1997): inverse quadratic interpolation where it is
    safe, bisection elsewhere, so the bracket always shrinks.
    """
    start, reach, low, high = bracket
    b, at_b = start, function(start)
    right = at_b > 0
    a = torch.minimum(torch.maximum(torch.where(right, start + reach, start - reach), low), high)
    at_a = function(a)
    if bool((missed := (at_a > 0) == right).any()):
        far = torch.where(right, high, low)
        b, at_b = torch.where(missed, a, b), torch.where(missed, at_a, at_b)
        a = torch.where(missed, far, a)
        at_a = function(a)
    outside = (at_a > 0) == right
    end = a
    step: Tensor | float = 0.5
    rounding = 4 * torch.finfo(start.dtype).eps
    for _ in range(100):
        width = (b - a).abs()
        least = (tolerance + rounding * a.abs()) / width.clamp(min=tolerance)
        if bool((outside | (least > 0.5) | (at_a == 0)).all()):
            break
        new = a + step * (b - a)
        at_new = function(new)
        same = (at_new > 0) == (at_a > 0)
        c, at_c = torch.where(same, a, b), torch.where(same, at_a, at_b)
        b, at_b = torch.where(same, b, a), torch.where(same, at_b, at_a)
        a, at_a = new, at_new
        xi, phi = (a - b) / (c - b), (at_a - at_b) / (at_c - at_b)
        quadratic = at_a / (at_b - at_a) * at_c / (at_b - at_c)
        quadratic = quadratic + (c - a) / (b - a) * at_a / (at_c - at_a) * at_b / (at_c - at_b)
        safe = (phi.square() < xi) & ((1 - phi).square() < 1 - xi) & quadratic.isfinite()
        least = ((tolerance + rounding * a.abs()) / (b - a).abs().clamp(min=tolerance)).clamp(max=0.5)
        step = torch.where(safe, quadratic, 0.5).clamp(least, 1 - least)
    return torch.where(outside, end, torch.where(at_a.abs() < at_b.abs(), a, b))


def locations(levels: Tensor, weights: Tensor, shapes: Tensor, start: Tensor, reach: Tensor) -> Tensor:
    r"""argmin over mu of :math:`\sum_b w_b |x_b - \mu|^\beta` for each of K columns.

    The weighted mean for a shape of 2 and the weighted median for 1. Other shapes above 1: the root of the slope,
    which is monotone. Below 1 the sum is concave between levels, so the minimum is at a level: all are tried.

    Args:
        levels: sorted values (B,)
        weights: weights of the levels (B, K), each column with a positive sum
        shapes: shapes (K,)
        start: where a root is looked for first (K,)
        reach: how far it is expected from there (K,)

    Returns:
        Locations (K,).
    """
    total = weights.sum(0)
    result = (levels @ weights) / total
    if bool((median := shapes == 1).any()):
        below_half = weights[:, median].cumsum(0) < total[median] / 2
        result[median] = levels[below_half.sum(0)]
    for shape in shapes[shapes < 1].unique():
        columns = shapes == shape
        distances = (levels[:, None] - levels).abs().pow(shape) @ weights[:, columns]
        result[columns] = levels[distances.argmin(0)]
    if bool((convex := (shapes > 1) & (shapes != 2)).any()):
        power, mass = shapes[convex] - 1, weights[:, convex] / total[convex]

        def pull(at: Tensor) -> Tensor:
            distance = levels[:, None] - at
            force = distance.abs().clamp_(min=_TINY).log_().mul_(power).exp_()
            return force.copysign_(distance).mul_(mass).sum(0)

        bracket = Bracket(start[convex], reach[convex], levels[0], levels[-1])
        result[convex] = decreasing_root(pull, bracket, _TOLERANCE)
    return result


def absolute_moments(levels: Tensor, weights: Tensor, means: Tensor, shapes: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted means of |x - mu|^beta and of |x - mu|^beta log|x - mu|, each (d, K).

    ``levels`` (d, B), ``weights`` (d, B, K), ``means`` (d, K), ``shapes`` broadcastable to (d, K).
    """
    plain, logarithmic = torch.empty_like(means), torch.empty_like(means)
    for t, shape in enumerate(shapes.expand_as(means)):
        logs = (levels[t, :, None] - means[t]).abs_().clamp_(min=_TINY).log_()
        powers = (logs * shape).exp_().mul_(weights[t])
        plain[t] = powers.sum(0)
        logarithmic[t] = powers.mul_(logs).sum(0)
    total = weights.sum(1)
    return plain / total, logarithmic / total


def scales_of(moments: Tensor, shapes: Tensor, floor: float) -> Tensor:
    r"""The best scale for mean absolute powers m: :math:`\alpha = (\beta m)^{1/\beta}`, at least ``floor``."""
    return (shapes * moments).pow(1 / shapes).clamp(min=floor)


def best_shapes(levels: Tensor, weights: Tensor, means: Tensor, shapes: Tensor, floor: float) -> Tensor:
    r"""Shapes that maximise the likelihood when every scale is the best for the shape, near ``shapes``.

    The root of the profile likelihood's slope, with :math:`z = |x - \mu| / \alpha(\beta)` and the sum over the
    components and coordinates (weighted by their mass) that share the shape:

    .. math:: \sum \left( \frac1\beta + \frac{\psi(1/\beta)}{\beta^2} - E[z^\beta \log z] \right) = 0 .

    By the envelope theorem the slope of alpha does not appear, neither where it is free nor at the floor.
    """
    mass = weights.sum(1)
    shared = [axis for axis in (0, 1) if shapes.shape[axis] == 1]

    def slope(log_shapes: Tensor) -> Tensor:
        trial = log_shapes.exp()
        plain, logarithmic = absolute_moments(levels, weights, means, trial)
        scales = scales_of(plain, trial, floor)
        spread = (logarithmic - plain * scales.log()) / scales.pow(trial)
        slopes = 1 / trial + torch.special.digamma(1 / trial) / trial.square() - spread
        return (slopes * mass).sum(shared, keepdim=True) / mass.sum(shared, keepdim=True)

    low, high = ((shapes * factor).clamp(*SHAPE_BOUNDS).log() for factor in (1 / _SHAPE_STEP, _SHAPE_STEP))
    return decreasing_root(slope, Bracket(shapes.log(), _SHAPE_REACH, low, high), _TOLERANCE).exp()
