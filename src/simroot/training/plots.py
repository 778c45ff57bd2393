"""Pictures of a training as PNG files."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from simroot.training.fonts import families_for
from simroot.training.module import Epoch
from simroot.training.objective import headline
from simroot.training.writing import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

CURVES = "curves.png"
CONFUSION = "confusion.png"

# More classes than these leave no room for names, for shares, and for counts below them.
_MOST_NAMES, _MOST_SHARES, _MOST_COUNTS = 100, 30, 12
_LONGEST_NAME = 24


def plot_curves(path: Path, history: Sequence[Epoch], title: str) -> None:
    """Loss and accuracy, or mean average precision, of training and validation by epoch, side by side."""
    figure = figure_of(10, 4)
    figure.suptitle(_drawable(_plain(title)), parse_math=False)
    epochs = [row["epoch"] for row in history]
    marker = "o" if len(history) <= 30 else None
    name = headline(history[0])
    for axes, what, scale in zip(figure.subplots(1, 2), ("loss", name), (1, 100), strict=True):
        for part, label in (("train", "training"), ("val", "validation")):
            values = [scale * row[f"{part}_{what}"] for row in history]
            axes.plot(epochs, values, marker=marker, markersize=3, label=label)
        words = what.replace("_", " ")
        axes.set_title(words.capitalize())
        axes.set_xlabel("epoch")
        axes.set_ylabel("cross-entropy (nats)" if what == "loss" else f"{words} (%)")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    _save(figure, path)


def plot_confusion(path: Path, confusion: Tensor, classes: Sequence[str], title: str) -> None:
    """A confusion matrix (classes, classes), rows true and columns predicted.

    Colours are shares of the rows; the cells of few classes hold their share in per cent and the number of images, and
    those of some classes the share. Beside each true class stands how many images it has. Where no font of this machine
    has the letters of the classes, these have numbers, and the log says which.
    """
    from matplotlib import rc_context

    names = _drawable_names(path, [_plain(name) for name in classes] if len(classes) <= _MOST_NAMES else [])
    with rc_context({"font.family": families_for("".join(names)) or "sans-serif"}):
        _plot_confusion(path, confusion, names, _drawable(_plain(title), names))


def _plot_confusion(path: Path, confusion: Tensor, classes: Sequence[str], title: str) -> None:
    count = len(confusion)
    size = min(max(5.0, 2 + 0.55 * count), 18.0)
    font = min(9.0, 0.62 * 72 * (size - 2) / count)
    figure = figure_of(size + 1, size)
    axes = figure.subplots()
    images = confusion.sum(1)
    share = 100 * confusion.double() / images[:, None].clamp(min=1)
    image = axes.imshow(share.numpy(), cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(image, ax=axes, label="share of the true class (%)", fraction=0.046, pad=0.04)
    axes.set_title(textwrap.fill(title, int(8 * size)), parse_math=False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class (number of images)")
    if classes:
        names = [_short(name) for name in classes]
        turned = 0 if max(map(len, names)) <= 3 and count <= _MOST_SHARES else 90 if count > _MOST_COUNTS else 45
        axes.set_xticks(
            range(count),
            names,
            rotation=turned,
            rotation_mode="anchor" if turned == 45 else None,
            ha="right" if turned == 45 else "center",
            parse_math=False,
            fontsize=font,
        )
        numbered = [f"{name} ({number})" for name, number in zip(names, images.tolist(), strict=True)]
        axes.set_yticks(range(count), numbered, parse_math=False, fontsize=font)
    if count <= _MOST_SHARES:
        for row, column in torch.nonzero(confusion).tolist():
            colour = "white" if share[row, column] > 50 else "black"
            text = f"{share[row, column]:.0f} %\n{int(confusion[row, column])}"
            text = text if count <= _MOST_COUNTS else f"{share[row, column]:.0f}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=font)
    _save(figure, path)


def _short(name: str) -> str:
    """The name, or its beginning and end if it is long."""
    half = _LONGEST_NAME // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[:half]}…{name[1 - half :]}"


def _drawable_names(path: Path, names: list[str]) -> list[str]:
    """The names of the classes, or their numbers if no font has all letters."""
    if families_for("".join(names)):
        return names
    which = ", ".join(f"{number} is {name}" for number, name in enumerate(names))
    log.warning("%s has numbers for the classes, as no font here has all their letters: %s", path.name, which)
    return [str(number) for number in range(len(names))]


def _drawable(text: str, names: Sequence[str] = ()) -> str:
    """A text with a question mark for every letter that the fonts of the names do not have."""
    families = families_for("".join(names))
    return "".join(letter if families_for("".join((*names, letter))) == families else "?" for letter in text)


def _plain(text: str) -> str:
    """Text with a question mark in place of what cannot be drawn: names of files may be any bytes."""
    return "".join(letter if letter.isprintable() else "?" for letter in text.encode("utf-8", "replace").decode())


def figure_of(width: float, height: float) -> Figure:
    """An empty figure, width and height in inches."""
    # Loaded here because it is slow to load; a Figure of its own needs neither pyplot nor a display.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def _save(figure: Figure, path: Path) -> None:
    write_atomic(path, lambda file: figure.savefig(file, format="png", bbox_inches="tight"))
