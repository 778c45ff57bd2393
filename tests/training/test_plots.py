import struct
from pathlib import Path

import pytest
import torch
from matplotlib import font_manager
from matplotlib.figure import Figure

from simroot.training import fonts, plots

SAVE = plots._save


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved."""
    saved: list[Figure] = []

    def save(figure: Figure, path: Path) -> None:
        saved.append(figure)
        SAVE(figure, path)

    monkeypatch.setattr(plots, "_save", save)
    return saved


def png_size(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n")
    return struct.unpack(">II", content[16:24])


def test_curves(tmp_path: Path, figures: list[Figure]) -> None:
    names = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy")
    history = [dict(zip(names, (e, 2.0 / e, e / 10, 2.5 / e, e / 12), strict=True)) for e in range(1, 6)]
    plots.plot_curves(tmp_path / "curves.png", history, "net on data")
    assert min(png_size(tmp_path / "curves.png")) > 300
    loss, accuracy = figures[0].axes
    assert [loss.get_xlabel(), loss.get_ylabel()] == ["epoch", "cross-entropy (nats)"]
    assert [accuracy.get_title(), accuracy.get_ylabel()] == ["Accuracy", "accuracy (%)"]
    assert [line.get_label() for line in loss.lines] == ["training", "validation"]
    assert accuracy.lines[1].get_ydata()[-1] == pytest.approx(100 * 5 / 12)  # type: ignore[index]


@pytest.mark.filterwarnings("ignore:Glyph")  # the font has few letters
def test_names_are_no_formulas_and_may_be_any_bytes(tmp_path: Path, figures: list[Figure]) -> None:
    classes = ["a$_$b", "caf\udce9", "$"]
    plots.plot_confusion(tmp_path / "confusion.png", torch.eye(3, dtype=torch.int64), classes, "$x$ on $_$")
    labels = [label.get_text() for label in figures[0].axes[0].get_yticklabels()]
    assert labels == ["a$_$b (1)", "caf? (1)", "$ (1)"]


@pytest.mark.parametrize(
    ("count", "names", "cells"),
    [
        (2, True, ["25 %\n1", "75 %\n3"]),
        (30, True, ["25", "75", *["100"] * 28]),
        (100, True, []),
        (101, False, []),
    ],
)
def test_confusion(tmp_path: Path, figures: list[Figure], count: int, names: bool, cells: list[str]) -> None:
    classes = [f"class {k}" for k in range(count)]
    confusion = torch.eye(count, dtype=torch.int64) * 3
    confusion[0] = 0  # a class without images
    confusion[1, 0] = 1
    plots.plot_confusion(tmp_path / "confusion.png", confusion, classes, "net")
    assert min(png_size(tmp_path / "confusion.png")) > 300
    axes = figures[0].axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == (
        "predicted class",
        "true class (number of images)",
        "net",
    )
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert (labels[:3] == ["class 0 (0)", "class 1 (4)", "class 2 (3)"][:count]) is names
    assert ([label.get_text() for label in axes.get_xticklabels()] == classes) is names
    assert [text.get_text() for text in axes.texts] == cells
    shown = axes.images[0].get_array()
    assert shown is not None
    assert shown[1].tolist()[:2] == [25.0, 75.0]
    assert shown[0].sum() == 0


def test_classes_in_letters_that_no_font_has_are_numbered(
    tmp_path: Path, figures: list[Figure], caplog: pytest.LogCaptureFixture
) -> None:
    unknown = "\U00016a40"  # of a script that few write
    for title, classes in (("net", ["cat", unknown]), (unknown, ["cat", "dog"]), ("net", ["a\x85b", "c\nd"])):
        plots.plot_confusion(tmp_path / "confusion.png", torch.eye(2, dtype=torch.int64), classes, title)
    labels = [[label.get_text() for label in figure.axes[0].get_yticklabels()] for figure in figures]
    assert labels == [["0 (1)", "1 (1)"], ["cat (1)", "dog (1)"], ["a?b (1)", "c?d (1)"]]
    assert figures[1].axes[0].get_title() == "?"
    assert (
        "confusion.png has numbers for the classes, as no font here has all their letters: 0 is cat, 1 is "
        in caplog.text
    )


def test_a_font_is_found_for_letters_that_the_usual_one_lacks(tmp_path: Path, figures: list[Figure]) -> None:
    usual, other = (font_manager.findfont(name) for name in ("DejaVu Sans", "STIXGeneral"))
    letter = sorted(letter for letter in fonts._letters(other) - fonts._letters(usual) if letter.isprintable())[0]
    families = fonts.families_for(f"cat{letter}")
    assert families is not None
    assert families[0] == "DejaVu Sans"
    assert len(families) == 2
    assert fonts.families_for("cat") == ["DejaVu Sans"]
    plots.plot_confusion(tmp_path / "confusion.png", torch.eye(2, dtype=torch.int64), ["cat", letter], "net")
    assert figures[0].axes[0].get_yticklabels()[1].get_text() == f"{letter} (1)"  # no warning that a glyph is missing
