"""Sufficient statistics of EM: what a pass over the samples leaves for the M-step.

Two forms, with the same interface: `Moments` for a shape fixed at 2, `Levels` for every other shape. Statistics are
linear in the responsibilities, hence may be averaged over mini-batches.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from simroot.estimators._density import Parameters
from simroot.estimators._maximization import absolute_moments, best_shapes, locations, scales_of

# Samples of one step of a pass: sums run in the data's own precision within it and in float64 across steps.
_CHUNK = 16384
# A component with a smaller share of the samples keeps its place and form.
_EMPTY = 1e-12
_NOTHING = 1e-30
# How far a mean is expected to move in an M-step, in its scale.
_REACH = 0.05


class Rules(NamedTuple):
    """What an M-step may change: whether shapes are learned, and the least scale."""

    learn_shape: bool
    least_scale: float


class Statistics(Protocol):
    """Encoded samples that an EM pass can go over."""

    def expect(self, parameters: Parameters) -> tuple[Tensor, float]:
        """Statistics averaged over the samples, and the mean log-likelihood, of ``parameters``."""

    def maximize(self, statistics: Tensor, parameters: Parameters, rules: Rules) -> Parameters:
        """The parameters that fit ``statistics`` best."""


def _responsibilities(joint: Tensor) -> tuple[Tensor, float]:
    """P(component | row) from log P(row and component), computed in place, and the sum of log P(row)."""
    total = joint.logsumexp(1, keepdim=True)
    # What is next to nothing becomes nothing: denormal numbers make sums and products many times slower.
    share = torch.threshold_(joint.sub_(total).exp_(), _NOTHING, 0.0)
    return share, float(total.sum(dtype=torch.float64))


def _log_weights(masses: Tensor) -> Tensor:
    share = masses.clamp(min=_EMPTY)
    return (share / share.sum()).log()


class Moments:
    """Weights, sums and sums of squares under the responsibilities: (1 + 2d, K). Exact, for a shape of 2.

    Distances are expanded into matrix products, in float64 because the expansion cancels.
    """

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def expect(self, parameters: Parameters) -> tuple[Tensor, float]:
        precision = parameters.scales.pow(-2)
        slopes = 2 * parameters.means * precision
        constants = parameters.log_constants() - (parameters.means.square() * precision).sum(0)
        features, components = precision.shape
        statistics = precision.new_zeros(1 + 2 * features, components)
        likelihood = 0.0
        for chunk in self.rows.split(_CHUNK):
            x = chunk.double()
            squares = x.square()
            joint = torch.addmm(constants, x, slopes).addmm_(squares, precision, alpha=-1)
            share, logs = _responsibilities(joint)
            statistics += torch.cat([share.sum(0, keepdim=True), x.T @ share, squares.T @ share])
            likelihood += logs
        return statistics / len(self.rows), likelihood / len(self.rows)

    def maximize(self, statistics: Tensor, parameters: Parameters, rules: Rules) -> Parameters:
        masses, sums, squares = statistics.split([1, *[len(parameters.means)] * 2])
        occupied = masses > _EMPTY
        safe = masses.clamp(min=_EMPTY)
        means = sums / safe
        variances = (squares / safe - means.square()).clamp(min=0)
        scales = scales_of(variances, parameters.shapes, rules.least_scale)
        return parameters._replace(
            log_weights=_log_weights(masses[0]),
            means=torch.where(occupied, means, parameters.means),
            scales=torch.where(occupied, scales, parameters.scales),
        )


class Grid(NamedTuple):
    """Levels (d, B), sorted, and the edges (d, B - 1) between them."""

    levels: Tensor
    edges: Tensor

    @classmethod
    def of(cls, rows: Tensor, size: int, *, margin: float = 0.0) -> "Grid":
        """At most ``size`` levels for each coordinate of ``rows``.

        Half of the edges are quantiles, half are evenly spaced, so that tails are resolved too. A coordinate of at
        most ``size`` distinct values has those as levels, and nothing is rounded. With a ``margin`` (a share of the
        range, for samples yet to come) a level is the middle of its edges, otherwise the mean of its samples.
        """
        levels, edges = zip(*(_levels(column, size, margin) for column in rows.T), strict=True)
        longest = max(map(len, levels))

        def padded(parts: tuple[Tensor, ...], length: int) -> Tensor:
            return torch.stack([torch.cat([part, part[-1:].expand(length - len(part))]) for part in parts])

        # Values above the last edge belong to the first of equal levels: later ones stay empty.
        infinite = tuple(torch.cat([edge, edge.new_full((1,), torch.inf)]) for edge in edges)
        return cls(padded(levels, longest), padded(infinite, longest)[:, :-1].contiguous())


def _levels(column: Tensor, size: int, margin: float) -> tuple[Tensor, Tensor]:
    values = column.sort().values
    if not margin:
        distinct = values.unique_consecutive()
        if len(distinct) <= size:
            return distinct.double(), (distinct[1:] + distinct[:-1]) / 2
    reach = margin * float(values[-1] - values[0] or 1)
    low, high = float(values[0]) - reach, float(values[-1]) + reach
    even = torch.linspace(low, high, size // 2 + 1, dtype=values.dtype, device=values.device)
    picks = torch.linspace(0, len(values) - 1, size - size // 2 + 1, device=values.device).long()[1:-1]
    ends = torch.cat([even, values[picks]]).unique()
    if margin:
        return ((ends[1:] + ends[:-1]) / 2).double(), ends[1:-1]
    edges = ends[1:-1]
    starts = torch.searchsorted(values, edges)
    sums = torch.cat([values.new_zeros(1, dtype=torch.float64), values.cumsum(0, dtype=torch.float64)])
    bounds = torch.cat([starts.new_zeros(1), starts, starts.new_full((1,), len(values))])
    counts = bounds.diff()
    middles = ((ends[1:] + ends[:-1]) / 2).double()
    return torch.where(counts > 0, sums[bounds].diff() / counts.clamp(min=1), middles), edges


class _Chunk(NamedTuple):
    """Samples by level, both ways round.

    ``cells`` (n, d): each sample's levels, as places in the flattened table (d * B) of all coordinates' levels;
    ``members`` (d * n,): the samples of every level in turn, from ``starts`` (d * B,) on.
    """

    cells: Tensor
    members: Tensor
    starts: Tensor


class Levels:
    """The weight of every level under every component's responsibilities: (d, B, K). For any shape.

    Each coordinate is rounded to a level of the grid, once. A log-density is then a sum of d rows of a table, and
    the M-step sees B levels instead of all samples: both cost the same for every shape, and neither needs a power
    of each sample's distance.
    """

    def __init__(self, rows: Tensor, grid: Grid) -> None:
        self.grid = grid
        self.dtype = rows.dtype
        self.size = len(rows)
        self.chunks = [self._encode(chunk) for chunk in rows.split(_CHUNK)]

    def _encode(self, chunk: Tensor) -> _Chunk:
        features, levels = self.grid.levels.shape
        values, order = chunk.T.contiguous().sort(1)
        ends = torch.searchsorted(values, self.grid.edges)
        first, last = ends.new_zeros(features, 1), ends.new_full((features, 1), len(chunk))
        bounds = torch.cat([first, ends, last], 1)
        table = torch.arange(features * levels, device=chunk.device)
        index = torch.empty_like(order).scatter_(
            1, order, table.repeat_interleave(bounds.diff(dim=1).flatten()).view_as(order)
        )
        starts = bounds[:, :-1] + torch.arange(features, device=chunk.device)[:, None] * len(chunk)
        return _Chunk(index.T.contiguous().int(), order.flatten().int(), starts.flatten().int())

    def expect(self, parameters: Parameters) -> tuple[Tensor, float]:
        distances = (self.grid.levels[:, :, None] - parameters.means[:, None]).abs_()
        logs = distances.div_(parameters.scales[:, None]).log_().mul_(parameters.shapes[:, None])
        # exp(60) = 1e26 as a distance is infinity for any purpose but overflow
        table = logs.clamp_(max=60).exp_().neg_().to(self.dtype).flatten(0, 1)
        constants = parameters.log_constants().to(self.dtype)
        statistics = table.new_zeros(table.shape, dtype=torch.float64)
        likelihood = 0.0
        for chunk in self.chunks:
            share, found = _responsibilities(embedding_bag(chunk.cells, table, mode="sum") + constants)
            statistics += embedding_bag(chunk.members, share, chunk.starts, mode="sum")
            likelihood += found
        return statistics.view_as(logs) / self.size, likelihood / self.size

    def maximize(self, statistics: Tensor, parameters: Parameters, rules: Rules) -> Parameters:
        masses = statistics[0].sum(0)
        occupied = masses > _EMPTY
        # Sums over levels are short: from here on the samples' own precision will do.
        weights = torch.where(occupied, statistics, _EMPTY).to(self.dtype)
        levels, old_means, reach, old_shapes = (
            part.to(self.dtype)
            for part in (self.grid.levels, parameters.means, _REACH * parameters.scales, parameters.shapes)
        )
        columns = zip(levels, weights, old_shapes.expand_as(old_means), old_means, reach, strict=True)
        means = torch.where(occupied, torch.stack([locations(*column) for column in columns]), old_means)
        shapes = old_shapes
        if rules.learn_shape:
            shapes = best_shapes(levels, weights, means, shapes, rules.least_scale)
        moments, _ = absolute_moments(levels, weights, means, shapes)
        scales = scales_of(moments.double(), shapes.double(), rules.least_scale)
        scales = torch.where(occupied, scales, parameters.scales)
        return Parameters(_log_weights(masses), means.double(), scales, shapes.double())
