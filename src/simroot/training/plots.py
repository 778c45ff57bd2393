"""Pictures of a training as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from simroot.training.files import write_atomic
from simroot.training.module import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES = "curves.png"
CONFUSION = "confusion.png"

# More names than these would overlap; more cells cannot hold a readable number.
_MOST_NAMES = 30
_MOST_NUMBERS = 12


def plot_curves(path: Path, history: Sequence[Row], title: str) -> None:
    """Loss and accuracy of training and validation by epoch, side by side."""
    figure = _figure(10, 4)
    figure.suptitle(_plain(title), parse_math=False)
    epochs = [row["epoch"] for row in history]
    marker = "o" if len(history) <= 30 else None
    for axes, what, scale in zip(figure.subplots(1, 2), ("loss", "accuracy"), (1, 100), strict=True):
        for part, label in (("train", "training"), ("val", "validation")):
            values = [scale * row[f"{part}_{what}"] for row in history]
            axes.plot(epochs, values, marker=marker, markersize=3, label=label)
        axes.set_title(what.capitalize())
        axes.set_xlabel("epoch")
        axes.set_ylabel("cross-entropy (nats)" if what == "loss" else "accuracy (%)")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    _save(figure, path)


def plot_confusion(path: Path, confusion: Tensor, classes: Sequence[str], title: str) -> None:
    """A confusion matrix (classes, classes), rows true and columns predicted, as percentages of each row."""
    count = len(classes)
    size = min(max(5.0, 2 + 0.45 * count), 14.0)
    figure = _figure(size + 1, size)
    axes = figure.subplots()
    share = 100 * confusion.double() / confusion.sum(1, keepdim=True).clamp(min=1)
    image = axes.imshow(share.numpy(), cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(image, ax=axes, label="share of the true class (%)", fraction=0.046, pad=0.04)
    axes.set_title(_plain(title), parse_math=False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    if count <= _MOST_NAMES:
        long = max(map(len, classes)) > 3
        names = [_plain(name) for name in classes]
        axes.set_xticks(
            range(count), names, rotation=45 if long else 0, ha="right" if long else "center", parse_math=False
        )
        axes.set_yticks(range(count), names, parse_math=False)
    if count <= _MOST_NUMBERS:
        for row, column in torch.nonzero(confusion).tolist():
            colour = "white" if share[row, column] > 50 else "black"
            axes.text(column, row, str(int(confusion[row, column])), ha="center", va="center", color=colour, fontsize=9)
    _save(figure, path)


def _plain(text: str) -> str:
    """Text with a question mark in place of what was no text: names of files may be any bytes."""
    return text.encode("utf-8", "replace").decode()


def _figure(width: float, height: float) -> Figure:
    # Loaded here because it is slow to load; a Figure of its own needs neither pyplot nor a display.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def _save(figure: Figure, path: Path) -> None:
    write_atomic(path, lambda file: figure.savefig(file, format="png"))
