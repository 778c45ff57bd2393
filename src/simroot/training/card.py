"""The model card of an exported file: what a person who is handed the file has to know, in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from simroot._version import __version__
from simroot.engines import is_network_file
from simroot.errors import counted, listed, printable
from simroot.export import Exported
from simroot.export.evaluation import Evaluation
from simroot.export.multi_label import MultiLabelEvaluation
from simroot.files import write_text
from simroot.images.preparation import Preparation
from simroot.training.recipes import RECIPES
from simroot.training.run import CONFIG, Run

# Fewer validation images of a class than this say little about it.
_FEW = 20
_NAMED = 8

_FITS = {
    "crop": "the largest part in the middle that has the input's shape is seen",
    "pad": "all of it is seen, with the background on two sides",
    "stretch": "all of it is seen, stretched to the input's shape",
}
# How a program other than simroot reads the file.
_CODE = {
    "onnx": """import onnxruntime

session = onnxruntime.InferenceSession("{file}")
(scores,) = session.run(["scores"], {{"images": pixels}})""",
    "openvino": """import openvino

network = openvino.compile_model("{file}")
scores = network(pixels)[0]""",
    "torch": """import torch

network = torch.export.load("{file}").module()
scores = network(torch.from_numpy(pixels))""",
}
_FOLDERS = {
    "c": "The header in the folder says how to call it. Its Makefile builds and runs a test.",
    "web": "A web server serves the folder as it is. `simroot.js` is a module for other pages.",
}


def write_card(run: Run, exported: Exported) -> Path:
    """Write the model card of a run's file beside it, ``FILE.card.md``.

    Args:
        run: the trained network.
        exported: the file, of any format.

    Returns:
        The card.

    Raises:
        ExportError: if it cannot be written.
    """
    path = exported.path.with_name(f"{exported.path.name}.card.md")
    write_text(path, card(run, exported))
    return path


def card(run: Run, exported: Exported) -> str:
    """The text of a card: data, classes, recipe, accuracy, size, cost, time, input, limits, use and origin."""
    name, (height, width) = _plain(run.model_name), run.preparation.size
    kind, classes = "grey" if run.channels == 1 else "in colour", counted(len(run.classes), "class", "classes")
    first = (
        f"Classifies images of {width} x {height} pixels, {kind}, into {classes}. "
        f"The file is {_plain(exported.path.name)}, {exported.format}, {exported.description.precision}."
    )
    sections = {
        "How good it is": _accuracy(run, exported),
        "What it costs": _table(("", "of one image"), _cost(exported)),
        "How to use it": _use(exported),
        "What goes in": _table(("", ""), _input(run.preparation, exported)),
        "Limits": [f"- {line}" for line in _limits(run, exported)],
        "Data": _table(("", ""), _data(run)),
        "How it was made": _origin(run),
    }
    head = ["---", "library_name: simroot", "pipeline_tag: image-classification", "---", "", f"# {name}", "", first]
    parts = (["", f"## {title}", "", *lines] for title, lines in sections.items())
    return "\n".join([*head, *(line for part in parts for line in part)]) + "\n"


def _accuracy(run: Run, exported: Exported) -> list[str]:
    summary, description = run.summary, exported.description
    figure, several = description.task.figure, description.thresholds is not None
    rows = [(f"{figure} of the best epoch on the validation images", _percent(summary.get(figure.replace(" ", "_"))))]
    if exported.accuracy is not None:
        rows.append(
            (f"{figure} of this file on {counted(exported.images, 'labelled image')}", _percent(exported.accuracy))
        )
        rows.append((f"{figure} of the network on the same", _percent(exported.network_accuracy)))
    if several:
        rows.append(("F1 at the thresholds, the mean over the classes", _percent(summary.get("f1"))))
    else:
        rows.append(("balanced accuracy: the mean of the classes' recalls", _percent(summary.get("balanced_accuracy"))))
    same = "classes" if several else "class"
    rows += [
        (f"same {same} as the network, of {counted(exported.images, 'input')}", _percent(exported.agreement)),
        ("largest difference of a score, as a share of the largest", f"{exported.difference:.1e}"),
    ]
    lines = _table(("", ""), rows)
    if by_class := summary.get("per_class"):
        lines += [
            "",
            "Of the best epoch:",
            "",
            *_table(("class", "validation images", *_columns(run).values()), _classes(by_class, _columns(run))),
        ]
    elif description.classes:
        lines += ["", f"The classes, in the order of the scores: {', '.join(map(_plain, description.classes))}."]
    return lines


def _columns(run: Run) -> Mapping[str, str]:
    return (Evaluation if run.thresholds is None else MultiLabelEvaluation).columns


def _classes(figures: Mapping[str, Mapping[str, Any]], columns: Iterable[str]) -> Iterator[tuple[str, ...]]:
    for name, own in figures.items():
        yield name, f"{own['images']:,}", *(_percent(own[key]) for key in columns)


def _cost(exported: Exported) -> Iterator[tuple[str, str]]:
    cost = exported.description.cost or {}
    yield "size of the file", f"{exported.size:,} bytes"
    for key, title in (("parameters", "parameters"), ("macs", "multiply-accumulates"), ("flops", "operations")):
        if cost.get(key) is not None:
            yield title, f"{cost[key]:,}"
    if exported.milliseconds is not None:
        yield "milliseconds, one thread of the machine that wrote it", f"{exported.milliseconds:.3g}"
        yield "the same in float32", f"{exported.float32_milliseconds:.3g}"
    if (memory := getattr(exported, "memory", None)) is not None:
        yield "memory on a device", f"{memory.arena:,} bytes"
        yield "constants on a device", f"{memory.flash:,} bytes"


def _use(exported: Exported) -> list[str]:
    name, lines = _word(exported.path.name), []
    if is_network_file(exported.path):
        extra = "web" if exported.format == "web" else "runtime"
        lines += [
            f"With simroot (`pip install 'simroot[{extra}]'`):",
            "",
            "```sh",
            f"simroot predict {name} image.jpg",
            "```",
            "",
        ]
    if folder := _FOLDERS.get(exported.format):
        lines += [folder, ""]
    if code := _CODE.get(exported.format):
        lines += ["Without simroot, in Python:", "", "```python", *code.format(file=name).splitlines(), "```", ""]
    if exported.description.thresholds is not None:
        said = "the sigmoid of its score. An image has those that reach their thresholds, which the metadata name."
        return [*lines, f"The probability of each class is {said}"]
    return [*lines, "The largest score is the class. The softmax of the scores are its probabilities."]


def _input(preparation: Preparation, exported: Exported) -> Iterator[tuple[str, str]]:
    channels, height, width = preparation.shape
    kind = "uint8, 0 to 255" if exported.description.takes_pixels else "float32, normalised"
    ends = "0 and the largest" if (deep := preparation.pixel_range) is None else f"{deep[0]:g} and {deep[1]:g}"
    yield "images", f"{kind}, shape (N, {channels}, {height}, {width}): channels, height, width"
    yield "an image of another shape", f"{preparation.fit}: {_FITS[preparation.fit]}"
    yield "width and height that are seen", _percent(preparation.share)
    yield "of more than 8 bits, what becomes 0 and 255", ends
    yield "behind transparent pixels", f"red, green, blue = {', '.join(map(str, preparation.background))}"
    for title, values in (("mean", exported.description.mean), ("deviation", exported.description.std)):
        if values is not None:
            numbers = ", ".join(f"{value:.4g}" for value in values)
            yield f"{title} of each channel / 255, which the file takes care of", numbers


def _limits(run: Run, exported: Exported) -> Iterator[str]:
    gets = "one of them" if run.thresholds is None else "those of them that reach their thresholds"
    yield f"It knows these {len(run.classes)} classes. Whatever an image shows, it gets {gets}."
    yield "The figures are of images like those of its training. With another camera or light it may be worse: try it."
    if run.thresholds is None:
        yield "The best epoch was chosen on the validation images, so their accuracy is slightly too good."
    else:
        yield "Best epoch and thresholds were chosen on the validation images, so their figures are slightly too good."
    yield "Its probabilities are not calibrated: do not take 90% for nine in ten without a look."
    figures: Mapping[str, Any] = run.summary.get("per_class") or {}
    if weak := [name for name, own in figures.items() if own["images"] and (own["f1"] or 0) < 0.5]:
        yield f"It does badly (F1 below 50%) on {listed([_plain(name) for name in weak], _NAMED)}."
    if few := [name for name, own in figures.items() if own["images"] < _FEW]:
        yield f"Fewer than {_FEW} validation images speak of {listed([_plain(name) for name in few], _NAMED)}."
    if exported.description.precision == "int8":
        yield "It computes in 8 bits, with ranges from training images. Images of other ranges are cut off."
    if exported.accuracy is None:
        yield "This file itself was not checked on labelled images."


def _data(run: Run) -> Iterator[tuple[str, str]]:
    data = run.config["data"]
    yield "name", str(data.get("name", ""))
    yield "training images", f"{data['train']:,}"
    yield "validation images, held out", f"{data['val']:,}"
    yield "images left out since they were damaged", f"{data.get('skipped', 0):,}"


def _origin(run: Run) -> list[str]:
    recipe, usual, summary = run.recipe.to_dict(), RECIPES["default"].to_dict(), run.summary
    fields = [(name, value) for name, value in recipe.items() if name in ("epochs", "seed") or value != usual[name]]
    overrides = run.config["model"]["overrides"].items()
    rows = [
        ("network", run.model_name),
        *((f"network, {name}", str(value)) for name, value in overrides),
        *((f"recipe, {name}", str(value)) for name, value in fields),
        ("epochs trained", str(summary.get("epochs", "-"))),
        ("seconds of training", f"{summary['seconds']:.0f}" if "seconds" in summary else "-"),
        ("versions", ", ".join(f"{name} {version}" for name, version in run.config.get("versions", {}).items())),
        ("commit", str(summary.get("commit") or "-")),
    ]
    again = f"`simroot train --config {CONFIG}` with the {CONFIG} of the run trains it again."
    return [
        *_table(("", ""), rows),
        "",
        f"{again} Fields that are not named are the recipe's defaults.",
        "",
        f"simroot {__version__} wrote this card.",
    ]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    shown = [[_plain(cell) for cell in row] for row in rows]
    rule = ["---:" if column and index else "---" for index, column in enumerate(columns)]
    return [f"| {' | '.join(cells)} |" for cells in ([*columns], rule, *shown)]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _plain(text: str) -> str:
    """Names from outside as Markdown shows them: they make no table, no link and no HTML."""
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", printable(text))


def _word(name: str) -> str:
    """A file's name inside code: nothing that would end the code."""
    return re.sub(r"[^\w.\- ]", "?", name)
