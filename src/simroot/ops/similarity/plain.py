"""The l_p similarity by PyTorch's operations alone: for recorded graphs and for second derivatives."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from simroot.ops.common import windows


class Geometry(NamedTuple):
    """How receptive fields lie on an image that has been padded already."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    groups: int

    def output_size(self, x: Tensor) -> tuple[int, int]:
        """Height and width of the output."""
        height, width = (
            (size - kernel) // stride + 1
            for size, kernel, stride in zip(x.shape[2:], self.kernel, self.stride, strict=True)
        )
        return height, width


def plain_lp(x: Tensor, templates: Tensor, weights: Tensor | None, order: float | Tensor, shape: Geometry) -> Tensor:
    """-sum_i u_i |x_i - z_i|^p, for orders other than 2 by broadcasting. NaN in x: missing."""
    if not isinstance(order, Tensor) and order == 2:
        return quadratic(x, templates, weights, shape, missing=True)[0]

    def columns(parameter: Tensor) -> Tensor:
        """(kh kw, 1, groups, R / groups, C / groups, 1, 1)."""
        return parameter.flatten(2).movedim(2, 0).unflatten(1, (1, shape.groups, -1))[..., None, None]

    patches = windows(x, shape.kernel, shape.stride, shape.output_size(x)).unflatten(2, (shape.groups, 1, -1))
    terms = _power((patches - columns(templates)).masked_fill(patches.isnan(), 0.0), order)
    if weights is not None:
        terms = terms * columns(weights)
    return -terms.sum((0, 4)).flatten(1, 2)


def _power(difference: Tensor, order: float | Tensor) -> Tensor:
    """|difference|^order, differentiable any number of times, with derivative 0 where the difference is 0."""
    tie = difference == 0
    return difference.masked_fill(tie, 1.0).abs().pow(order).masked_fill(tie, 0.0)


def quadratic(
    x: Tensor, templates: Tensor, weights: Tensor | None, shape: Geometry, missing: bool
) -> tuple[Tensor, Tensor]:
    """-sum u (x-z)^2 as sum 2uvy - sum (u y^2 + u v^2) with y = x - c, v = z - c, and the second sum.

    c is each channel's mean over the templates. It makes the terms no larger than the differences of typical rows
    from typical templates, so that a common offset of x and z costs no digits. As a constant it drops out of all
    derivatives.
    """

    def convolve(image: Tensor, filters: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.conv2d(image, filters, bias, stride=shape.stride, groups=shape.groups)

    centre = templates.detach().unflatten(0, (shape.groups, -1)).mean((1, 3, 4), keepdim=True)
    v = (templates.unflatten(0, (shape.groups, -1)) - centre).flatten(0, 1)
    y = x - centre.view(-1, 1, 1)
    u = torch.ones_like(templates) if weights is None else weights
    uv = u * v
    if missing:
        present = ~x.isnan()
        y = y.masked_fill(~present, 0.0)
        squares = convolve(y.square(), u) + convolve(present.to(x.dtype), uv * v)
    else:
        squares = convolve(y.square(), u, (uv * v).sum((1, 2, 3)))
    # In place, as no gradient needs either: fresh memory costs more than arithmetic here.
    return convolve(y, 2 * uv).sub_(squares), squares
