"""Correlation between the responses of two layers over a data set (Deep Roots, section 4.1, figure 6)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from simroot.errors import ConfigError
from simroot.layers.root import Groups, UnevenConv2d, group_sizes
from simroot.modules import evaluating
from simroot.roots.slicing import balanced_blocks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Samples that are turned into float64 at a time, to bound the memory.
_SAMPLES = 2**14
# Directions in which a layer's responses vary by less than this share of the largest variance are not whitened.
_SMALLEST_VARIANCE = 1e-10


class JointMoments:
    """Means and covariances of two sets of channels, accumulated batch by batch in float64.

    Every position of an image is a sample. The covariances of a new batch are taken around its own mean and merged by
    ``M = M_a + M_b + (m_b - m_a)(m_b - m_a)' n_a n_b / (n_a + n_b)``, which loses no digits to large means.

    Attributes:
        channels: of the first and the second layer.
        count: samples so far.
        mean: float64 (C1 + C2,).
        scatter: float64 (C1 + C2, C1 + C2), sum of the products of deviations from the mean.
    """

    def __init__(self, first: int, second: int) -> None:
        self.channels = (first, second)
        self.count = 0
        self.mean = torch.zeros(first + second, dtype=torch.float64)
        self.scatter = torch.zeros(first + second, first + second, dtype=torch.float64)

    def update(self, samples: Tensor) -> None:
        """Add samples (N, C1 + C2)."""
        for chunk in samples.split(_SAMPLES):
            values = chunk.to("cpu", torch.float64)
            count, mean = len(values), values.mean(0)
            deviations, step = values - mean, mean - self.mean
            total = self.count + count
            self.scatter += deviations.T @ deviations + torch.outer(step, step) * (self.count * count / total)
            self.mean += step * (count / total)
            self.count = total

    def correlation(self, *, whiten: bool) -> Tensor:
        """Float64 (C1, C2), in [-1, 1]; zero for channels that do not vary.

        Args:
            whiten: ``W1 cov(x1, x2) W2`` with ``W = cov(x, x)^(-1/2)`` (ZCA), which takes the correlation of the
                channels inside either layer out; its singular values are the canonical correlations. Otherwise
                Pearson's, ``cov(x1, x2) / (std(x1) std(x2))``.
        """
        first = self.channels[0]
        within = self.scatter[:first, :first], self.scatter[first:, first:]
        left, right = (_whitening(part) if whiten else _scaling(part) for part in within)
        return (left @ self.scatter[:first, first:] @ right).clamp(-1, 1)


@dataclass(frozen=True)
class LayerCorrelation:
    """How the channels of two layers go together.

    Attributes:
        layers: names of the two layers, as in ``named_modules()``.
        matrix: correlations, float64 (C1, C2): rows are channels of the first layer, columns those of the second.
        whitened: whether the correlation inside either layer has been taken out.
        samples: positions of images that it was computed from.
        rows: channels of the first layer in each filter group of the second.
        columns: channels of the second layer in each of its filter groups.
        arranged: whether the channels have been put in the order that gathers most in the blocks.
    """

    layers: tuple[str, str]
    matrix: Tensor
    whitened: bool
    samples: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    arranged: bool = False

    @property
    def share(self) -> float:
        """Share of all squared correlation that lies in the blocks on the diagonal."""
        squares = self.matrix.square()
        total = float(squares.sum())
        blocks = zip(squares.split(self.rows), self.columns, _starts(self.columns), strict=True)
        return sum(float(block[:, start : start + width].sum()) for block, width, start in blocks) / (total or 1.0)

    @property
    def uniform(self) -> float:
        """The share that equal correlations everywhere would give: that of the matrix's entries in the blocks."""
        return sum(r * c for r, c in zip(self.rows, self.columns, strict=True)) / self.matrix.numel()

    @property
    def block_diagonality(self) -> float | None:
        """``(share - uniform) / (1 - uniform)``: 1 if all squared correlation is in the blocks, 0 if the blocks hold
        no more than anywhere else; None for a single group.
        """
        return None if len(self.rows) == 1 else (self.share - self.uniform) / (1 - self.uniform)

    def arrange(self) -> LayerCorrelation:
        """The same with the channels of both layers in an order that gathers squared correlation in the blocks.

        A network without groups has no reason to keep channels that go together side by side: this is how
        block-diagonal it is in the best order that is found.
        """
        columns, rows = balanced_blocks(
            self.matrix.square().T, self.rows, self.columns, move_inputs=True, move_outputs=True
        )
        return replace(self, matrix=self.matrix[rows][:, columns], arranged=True)

    def figure(self, title: str) -> Figure:
        """A picture of the absolute correlations, the blocks outlined, with ``block_diagonality`` in its title."""
        # A Figure of its own needs neither pyplot nor a display.
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 5.6), dpi=120, layout="constrained")
        self.draw(figure, figure.subplots(), title)
        return figure

    def draw(self, figure: Any, axes: Any, title: str) -> None:
        """``figure`` on given axes."""
        from matplotlib.patches import Rectangle

        image = axes.imshow(self.matrix.abs().numpy(), cmap="magma", interpolation="nearest", aspect="auto")
        kind = "correlation after whitening" if self.whitened else "correlation"
        figure.colorbar(image, ax=axes, label=f"absolute {kind}", fraction=0.046, pad=0.04)
        sizes = zip(self.rows, self.columns, _starts(self.rows), _starts(self.columns), strict=True)
        for height, width, top, left in sizes:
            axes.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor="cyan", linewidth=1))
        number = "" if self.block_diagonality is None else f"\nblock-diagonality {self.block_diagonality:.3f}"
        axes.set_title(title + number, fontsize="medium")
        order = ", in the best order" if self.arranged else ""
        axes.set_xlabel(f"channels of {self.layers[1]}{order}")
        axes.set_ylabel(f"channels of {self.layers[0]}{order}")


@torch.inference_mode()
def joint_moments(model: nn.Module, first: str, second: str, batches: Iterable[Tensor]) -> JointMoments:
    """Run a network over images and accumulate the moments of two layers' responses, each position a sample.

    Where the layers' grids differ, the smaller one is repeated (nearest neighbour) to the size of the larger.

    Args:
        model: any network with one input; run in evaluation mode and left as it was.
        first: name of a layer as in ``named_modules()``; it gives (N, C, H, W) or (N, C).
        second: another, which may be the same.
        batches: images (N, C, H, W), normalised as for the network; read once.

    Raises:
        ConfigError: for a layer that the network does not have or that does not give one such tensor once for each
            batch, and if there are no images.
    """
    moments: JointMoments | None = None
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with evaluating(model), _responses(model, (first, second)) as taken:
        for images in batches:
            taken.clear()
            model(images.to(device))
            one, other = (_response(name, taken.get(name, [])) for name in (first, second))
            grid = [max(sides) for sides in zip(one.shape[2:], other.shape[2:], strict=True)]
            together = torch.cat([_repeat(one, grid), _repeat(other, grid)], 1)
            moments = moments or JointMoments(one.shape[1], other.shape[1])
            moments.update(together.movedim(1, -1).flatten(0, -2))
    if moments is None or moments.count < 2:
        raise ConfigError("a correlation needs at least two samples; there are too few images")
    return moments


def layer_correlation(
    model: nn.Module,
    first: str,
    second: str,
    moments: JointMoments,
    *,
    groups: Groups | None = None,
    whiten: bool = True,
) -> LayerCorrelation:
    """The correlation of two layers of a network from the moments of their responses.

    Args:
        model: the network, whose second layer gives the blocks.
        first: name of the first layer.
        second: name of the second.
        moments: of ``joint_moments``.
        groups: blocks to mark: a number, or relative sizes; None for the filter groups of the second layer.
        whiten: take out the correlation inside either layer, see ``JointMoments.correlation``.

    Raises:
        ConfigError: if the groups do not divide both layers' channels.
    """
    shares = _groups_of(model.get_submodule(second)) if groups is None else groups
    rows, columns = (group_sizes(shares, channels) for channels in moments.channels)
    if rows is None or columns is None:
        sizes = " and ".join(map(str, moments.channels))
        raise ConfigError(
            f"{shares!r} groups do not divide the {sizes} channels of {first} and {second}; choose a number that "
            "divides both, or relative sizes that do"
        )
    matrix = moments.correlation(whiten=whiten)
    return LayerCorrelation((first, second), matrix, whiten, moments.count, tuple(rows), tuple(columns))


def _groups_of(layer: nn.Module) -> Groups:
    if isinstance(layer, UnevenConv2d):
        return [part.out_channels for part in layer.parts]  # type: ignore[misc]
    groups = getattr(layer, "groups", 1)
    return groups if isinstance(groups, int) else 1


@contextmanager
def _responses(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
    """What the named layers give, copied: the next layer may work in place."""
    modules = dict(model.named_modules())
    if unknown := [name for name in names if name not in modules or not name]:
        raise ConfigError(
            f"{type(model).__name__} has no layer {unknown[0]!r}; its layers are {', '.join(filter(None, modules))}"
        )
    taken: dict[str, list[Any]] = {}

    def taker(name: str) -> Any:
        def take(module: nn.Module, args: Any, output: Any) -> None:
            taken.setdefault(name, []).append(output.clone() if isinstance(output, Tensor) else output)

        return take

    hooks = [modules[name].register_forward_hook(taker(name)) for name in dict.fromkeys(names)]
    try:
        yield taken
    finally:
        for hook in hooks:
            hook.remove()


def _response(name: str, taken: Sequence[Any]) -> Tensor:
    if len(taken) == 1 and isinstance(taken[0], Tensor) and taken[0].ndim in (2, 4):
        response = taken[0]
        return response if response.ndim == 4 else response[:, :, None, None]
    found = f"it is called {len(taken)} times" if len(taken) != 1 else f"it gives {_describe(taken[0])}"
    raise ConfigError(
        f"layer {name!r} has no responses to correlate: {found} for each batch; expected one tensor of (N, C, H, W) or "
        "(N, C)"
    )


def _describe(output: Any) -> str:
    return f"a tensor of {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"


def _repeat(response: Tensor, grid: Sequence[int]) -> Tensor:
    same = list(response.shape[2:]) == list(grid)
    return response if same else functional.interpolate(response, size=tuple(grid), mode="nearest")


def _whitening(scatter: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(scatter)
    kept = values > _SMALLEST_VARIANCE * values[-1].clamp(min=0)
    return (vectors[:, kept] * values[kept].rsqrt()) @ vectors[:, kept].T


def _scaling(scatter: Tensor) -> Tensor:
    variance = scatter.diagonal()
    return torch.diag(torch.where(variance > 0, variance, torch.inf).rsqrt())


def _starts(sizes: Sequence[int]) -> list[int]:
    return [sum(sizes[:index]) for index in range(len(sizes))]
