"""Pictures of a pre-training: filters and templates as image tiles, curves of the choice of channels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from simroot.pretraining.report import Curve, LayerReport, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# More tiles than these are too small to see.
_MOST_TILES = 256


def pictures(report: Report) -> dict[str, Figure]:
    """Figures by name: ``layer-1``, ``layer-2``, … and, where channels were chosen, ``channels``."""
    figures = {f"layer-{number}": _layer(layer) for number, layer in enumerate(report.layers, start=1)}
    if report.curves:
        figures["channels"] = _curves(report.curves)
    return figures


def _layer(layer: LayerReport) -> Figure:
    """Filters W, the patterns that they look for (columns of the inverse of W), and templates as patches."""
    figure = _figure(12, 4.6)
    figure.suptitle(f"{layer.name}: {layer.whitened} filters, {layer.templates} templates on patches {layer.patch}")
    channels, kernel, _ = layer.patch
    shape = (-1, channels // layer.groups, kernel, kernel)
    patterns = layer.unwhitening.transpose(1, 2).reshape(shape)
    templates = _templates(layer)
    parts = (("filters", layer.filters), ("patterns of the filters", patterns), ("templates", templates))
    for axes, (title, tiles) in zip(figure.subplots(1, 3), parts, strict=True):
        axes.set_title(title)
        axes.imshow(_mosaic(_images(tiles[:_MOST_TILES])).cpu().numpy(), interpolation="nearest")
        axes.set_axis_off()
    return figure


def _templates(layer: LayerReport) -> Tensor:
    """Means of the mixture's components as patches, less the mean patch, (templates, C, k, k).

    Coordinates that a template of a grouped similarity does not see are taken to be zero.
    """
    white = layer.filters.new_zeros(layer.templates, layer.whitened)
    parts = len(layer.shape)
    for group, rows in enumerate(layer.means.chunk(parts)):
        columns = layer.whitened // parts
        white[group * len(rows) : (group + 1) * len(rows), group * columns : (group + 1) * columns] = rows
    blocks = zip(white.chunk(layer.groups, 1), layer.unwhitening, strict=True)
    return torch.cat([part @ inverse.T.to(part) for part, inverse in blocks], 1).view(-1, *layer.patch)


def _images(tiles: Tensor) -> Tensor:
    """Tiles (n, C, k, k) as images (n, k, k, 3) from 0 to 1, grey for 0, each brought to the full range.

    Three channels are colours, one is grey; of more, the channel with the largest norm is shown.
    """
    if tiles.shape[1] not in (1, 3):
        strongest = tiles.flatten(2).norm(dim=2).argmax(1)
        tiles = tiles[torch.arange(len(tiles)), strongest][:, None]
    largest = tiles.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)
    return (tiles / largest / 2 + 0.5).expand(-1, 3, -1, -1).movedim(1, -1).float()


def _mosaic(images: Tensor) -> Tensor:
    """Images (n, k, k, 3) side by side in a square with white lines between them."""
    count, size = images.shape[:2]
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    sheet = torch.ones(rows * (size + 1) - 1, columns * (size + 1) - 1, 3)
    for place, image in enumerate(images):
        top, left = (index * (size + 1) for index in divmod(place, columns))
        sheet[top : top + size, left : left + size] = image
    return sheet


def _curves(curves: tuple[Curve, ...]) -> Figure:
    figure = _figure(9, 3 * math.ceil(len(curves) / 2))
    for axes, curve in zip(figure.subplots(math.ceil(len(curves) / 2), 2, squeeze=False).flat, curves, strict=True):
        _curve(axes, curve)
    return figure


def _curve(axes: Axes, curve: Curve) -> None:
    axes.plot(curve.candidates, curve.values, marker="o" if len(curve.candidates) < 30 else None, markersize=3)
    axes.axvline(curve.chosen, color="grey", linestyle="--")
    axes.set_title(f"{curve.layer}: {curve.chosen} {curve.what}")
    axes.set_xlabel(curve.what)
    axes.set_ylabel(curve.criterion)
    axes.grid(alpha=0.3)


def _figure(width: float, height: float) -> Figure:
    # Loaded here because it is slow to load; a Figure of its own needs neither pyplot nor a display.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained")
