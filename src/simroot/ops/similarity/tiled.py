"""The direct l_p similarity: one coordinate at a time over tiles that stay in cache, recomputed for the gradient.

No tensor of (rows, templates, coordinates) ever exists. A tile is (templates of a group, positions); for each
coordinate of the receptive field it holds the differences x_i - z_i.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from simroot.errors import ConfigError
from simroot.ops.common import differentiable_vjp, no_autocast, plain_gradient, tile_elements
from simroot.ops.similarity.plain import Geometry, plain_lp


def direct_lp(
    x: Tensor,
    templates: Tensor,
    weights: Tensor | None,
    order: float | Tensor,
    shape: Geometry,
    missing: bool,
) -> Tensor:
    """-sum_i u_i |x_i - z_i|^p by tiles; `missing` says that x may hold NaN, which contributes nothing."""
    learned = order if isinstance(order, Tensor) else None
    p = float(order.detach() if isinstance(order, Tensor) else order)
    if not 0 < p < math.inf:
        raise ConfigError(f"order is {p}, expected a positive number")
    apply: Callable[..., Tensor] = _DirectLp.apply
    if torch.compiler.is_compiling():
        # A compiler would unroll the loops over tiles and coordinates.
        apply = torch.compiler.disable(apply)
    return apply(x, templates, weights, learned, p, shape, missing)


class _Tile(NamedTuple):
    """Some images, one group and some output rows: what one pass over the coordinates covers."""

    images: slice
    group: int
    rows: slice

    def outputs(self, out: Tensor, groups: int) -> Tensor:
        """The view (templates of the group, images, rows, width) of the output."""
        templates = out.shape[1] // groups
        channels = slice(self.group * templates, (self.group + 1) * templates)
        return out[self.images, channels, self.rows].transpose(0, 1)

    def inputs(self, x: Tensor, offset: Sequence[int], width: int, shape: Geometry) -> Tensor:
        """The view (channels of the group, images, rows, width) of x under one offset of the kernel."""
        (i, j), (sh, sw) = offset, shape.stride
        channels = x.shape[1] // shape.groups
        return x[
            self.images,
            self.group * channels : (self.group + 1) * channels,
            self.rows.start * sh + i : (self.rows.stop - 1) * sh + i + 1 : sh,
            j : j + (width - 1) * sw + 1 : sw,
        ].transpose(0, 1)


def _tiles(out: Tensor, groups: int) -> Iterator[_Tile]:
    count, templates, height, width = out.shape
    budget = tile_elements(out.device)
    per_row = max(1, templates // groups * width)
    rows = min(height, max(1, budget // per_row))
    images = max(1, budget // (per_row * height))
    for group, first, top in product(range(groups), range(0, count, images), range(0, height, rows)):
        yield _Tile(slice(first, first + images), group, slice(top, min(top + rows, height)))


def _columns(parameter: Tensor, groups: int) -> Tensor:
    """(R, C/groups, kh, kw) as (groups, kh kw, C/groups, R/groups, 1): a column for each coordinate."""
    return parameter.unflatten(0, (groups, -1)).permute(0, 3, 4, 2, 1).flatten(1, 2).contiguous().unsqueeze(-1)


def _uncolumns(columns: Tensor, like: Tensor) -> Tensor:
    columns = columns.squeeze(-1).unflatten(1, like.shape[2:])
    return columns.permute(0, 4, 3, 1, 2).flatten(0, 1).to(like.dtype)


class _Coordinate(NamedTuple):
    """One coordinate of the receptive field over one tile."""

    column: Tensor  # (1, positions): x_i
    template: Tensor  # (templates, 1): z_i
    weight: Tensor  # (templates, 1): u_i

    def subtract(self, missing: bool, out: Tensor) -> Tensor:
        """(templates, positions): x_i - z_i, 0 where x_i is missing."""
        torch.sub(self.column, self.template, out=out)
        return out.masked_fill_(self.column.isnan(), 0.0) if missing else out


def _power_(difference: Tensor, p: float) -> Tensor:
    """|difference|^p in place."""
    if p == 2:
        return difference.square_()
    difference.abs_()
    if p == 1:
        return difference
    if p == 0.5:
        return difference.sqrt_()
    # exp2 and log2 are vectorised, a general pow is not; log2 0 = -inf gives exp2(-inf) = 0.
    return difference.log2_().mul_(p).exp2_()


def _slope(difference: Tensor, p: float, out: Tensor) -> Tensor:
    """sign(difference) |difference|^(p-1), 0 where the difference is 0, finite where the difference is."""
    if p == 1:
        return torch.sign(difference, out=out)
    out.copy_(difference)
    if p == 2:
        return out
    return _power_(out, p).div_(difference).masked_fill_(difference == 0, 0.0).nan_to_num_(math.nan)


class _DirectLp(torch.autograd.Function):
    @staticmethod
    def forward(
        x: Tensor,
        templates: Tensor,
        weights: Tensor | None,
        order: Tensor | None,
        p: float,
        shape: Geometry,
        missing: bool,
    ) -> Tensor:
        out = x.new_empty((len(x), len(templates), *shape.output_size(x)))
        z = _columns(templates, shape.groups)
        u = torch.ones_like(z) if weights is None else _columns(weights, shape.groups)
        for tile in _tiles(out, shape.groups):
            target = tile.outputs(out, shape.groups)
            total = x.new_zeros((len(target), target[0].numel()))
            terms = torch.empty_like(total)
            for k, offset in enumerate(product(*map(range, shape.kernel))):
                columns = tile.inputs(x, offset, out.shape[3], shape).flatten(1).unsqueeze(1)
                for coordinate in map(_Coordinate, columns, z[tile.group, k], u[tile.group, k]):
                    _power_(coordinate.subtract(missing, out=terms), p)
                    total.addcmul_(terms, coordinate.weight, value=-1)
            target.copy_(total.view(target.shape))
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, templates, weights, order, *ctx.settings = inputs
        ctx.save_for_backward(x, templates, weights, order)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        p, shape, missing = ctx.settings
        needed = ctx.needs_input_grad[:4]
        with no_autocast(grad):
            if plain_gradient():

                def again(x: Tensor, z: Tensor, u: Tensor | None, order: Tensor | None) -> Tensor:
                    return plain_lp(x, z, u, p if order is None else order, shape)

                return (*differentiable_vjp(again, tensors, grad, needed), None, None, None)
            return (*_gradients(tensors, grad, needed, p, shape, missing), None, None, None)


def _gradients(
    tensors: Sequence[Tensor], grad: Tensor, needed: Sequence[bool], p: float, shape: Geometry, missing: bool
) -> list[Tensor | None]:
    """Gradients of x, templates, weights and order, as far as needed.

    With s = sign(x-z) |x-z|^(p-1): dx = -p sum_r g u s, dz = p sum_n g u s, du = -sum_n g s (x-z) and
    dp = -sum g u s (x-z) log|x-z|. Sums over rows are kept in float64 from tile to tile.
    """
    x, templates, weights, order = tensors
    z = _columns(templates, shape.groups)
    u = torch.ones_like(z) if weights is None else _columns(weights, shape.groups)
    dx = torch.zeros_like(x) if needed[0] else None
    dz, du, dp = (torch.zeros_like(z, dtype=torch.float64) for _ in range(3))
    for tile in _tiles(grad, shape.groups):
        g = tile.outputs(grad, shape.groups).flatten(1)
        difference, slope = torch.empty_like(g), torch.empty_like(g)
        # Sums over the rows of this tile: of s, s (x-z) and s (x-z) log|x-z|.
        sums = z.new_zeros((3, *z.shape[1:]))
        for k, offset in enumerate(product(*map(range, shape.kernel))):
            columns = tile.inputs(x, offset, grad.shape[3], shape).flatten(1).unsqueeze(1)
            dcolumns = torch.empty_like(columns)
            coordinates = map(_Coordinate, columns, z[tile.group, k], u[tile.group, k])
            for coordinate, dcolumn, first, second, third in zip(coordinates, dcolumns, *sums[:, k], strict=True):
                coordinate.subtract(missing, out=difference)
                _slope(difference, p, out=slope).mul_(g)
                if dx is not None:
                    torch.mm(coordinate.weight.t(), slope, out=dcolumn)
                if needed[1]:
                    torch.sum(slope, 1, keepdim=True, out=first)
                if needed[2] or needed[3]:
                    torch.sum(slope.mul_(difference), 1, keepdim=True, out=second)
                if needed[3]:
                    # log 0 is cut off at a value so low that any power of it is 0, and 0 times it as well.
                    slope.mul_(difference.abs_().log_().clamp_(min=-1e30))
                    torch.sum(slope, 1, keepdim=True, out=third)
            if dx is not None:
                view = tile.inputs(dx, offset, grad.shape[3], shape)
                view.sub_(dcolumns.view(view.shape), alpha=p)
        for total, part in zip((dz, du, dp), sums, strict=True):
            total[tile.group] += part
    return [
        dx,
        _uncolumns(dz * u * p, templates) if needed[1] else None,
        _uncolumns(-du, weights) if needed[2] else None,
        -(dp * u).sum().to(order.dtype).view_as(order) if needed[3] else None,
    ]
