"""Pictures inside a page: as data, so that the page is one file."""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from torch import Tensor

from simroot.report.looked import Calibration
from simroot.training.plots import figure_of

_SIDE = 112  # pixels of a thumbnail's longer side


def of_file(path: Path) -> str | None:
    """The PNG file as a data address; None if it is not there."""
    return _address(path.read_bytes()) if path.is_file() else None


def drawn(draw: Callable[[Path], None]) -> str:
    """What a function draws into a PNG file, as a data address."""
    with tempfile.TemporaryDirectory() as folder:
        draw(path := Path(folder, "picture.png"))
        return _address(path.read_bytes())


def thumbnail(image: Tensor) -> str:
    """uint8 (C,H,W) as a data address; small images are enlarged by whole numbers, with their pixels to be seen."""
    array = image.permute(1, 2, 0).numpy()
    picture = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    longer = max(picture.size)
    if longer > _SIDE:
        picture.thumbnail((_SIDE, _SIDE))
    elif (times := _SIDE // longer) > 1:
        picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return _address(file.getvalue())


def plotted(calibration: Calibration, *, several: bool = False) -> str:
    """How often it is right against how sure it is, with the diagonal where both agree.

    Where images may have ``several`` classes, of pairs of image and class how many have it.
    """
    words = ("probability of a class (%)", "that have it among such pairs (%)", "pairs of image and class")
    if not several:
        words = ("highest probability (%)", "right among such images (%)", "images")
    figure = figure_of(5, 4)
    axes = figure.subplots()
    sure, right = ([100 * value for value in values] for values in (calibration.sure, calibration.right))
    axes.plot((0, 100), (0, 100), color="grey", linestyle="dashed", label="as sure as it is right")
    axes.plot(sure, right, marker="o", label="this network")
    for x, y, count in zip(sure, right, calibration.count, strict=True):
        axes.annotate(f"{count:,}", (x, y), textcoords="offset points", xytext=(5, -11), fontsize=7)
    axes.set_xlabel(words[0])
    axes.set_ylabel(words[1])
    axes.set_title(f"Calibration; the numbers are of {words[2]}", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend()
    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight")
    return _address(file.getvalue())


def _address(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")
