"""The model card of a run's file."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from simroot.data import ImageData
from simroot.errors import UnknownOperatorError
from simroot.export import Exported
from simroot.export.description import Description
from simroot.training import Run, export_options, train
from simroot.training.card import card, write_card
from training.support import QUICK


@pytest.fixture
def run(data: ImageData, out: Path) -> Run:
    return train("tiny", data, replace(QUICK, epochs=1), out, overrides={"width": 6}, accelerator="cpu", progress=False)


def exported(run: Run, kind: str = "onnx", **changes: object) -> Exported:
    cost = {"parameters": 1234567, "macs": 89, "flops": None}
    description = Description((3, 8, 8), run.classes, run.mean, run.std, model=run.model_name, cost=cost)
    figures = {"difference": 2e-6, "tolerance": 1e-3, "agreement": 1.0, "accuracy": 0.5, "network_accuracy": 0.75}
    file = Exported(
        run.path / "model.onnx", kind, description, 4321, 22, **figures, milliseconds=None, float32_milliseconds=None
    )
    return replace(file, **changes)  # type: ignore[arg-type]


def test_it_says_what_a_person_has_to_know(run: Run) -> None:
    text = card(run, exported(run))
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == [
        *("How good it is", "What it costs", "How to use it", "What goes in", "Limits", "Data", "How it was made")
    ]
    for name, own in run.summary["per_class"].items():
        assert re.search(
            rf"^\| {name} \| {own['images']} \| \S+ \| {own['recall']:.1%} \| {own['f1']:.1%} \|$", text, re.M
        )
    for line in (
        f"| accuracy of the best epoch on the validation images | {run.summary['accuracy']:.1%} |",
        "| accuracy of this file on 22 labelled images | 50.0% |",
        "| size of the file | 4,321 bytes |",
        "| parameters | 1,234,567 |",
        "| images | uint8, 0 to 255, shape (N, 3, 8, 8): channels, height, width |",
        "| training images | 48 |",
        "| network, width | 6 |",
        "| recipe, learning_rate | 0.05 |",
        "- It knows these 3 classes. Whatever an image shows, it gets one of them.",
        "- Fewer than 20 validation images speak of ant, bee, cat.",
        'session = onnxruntime.InferenceSession("model.onnx")',
    ):
        assert f"\n{line}\n" in text, line
    assert "operations" not in text  # not counted
    assert "milliseconds" not in text  # not measured


def test_int8_says_its_time_and_what_it_does(run: Run) -> None:
    file = exported(run, milliseconds=0.25, float32_milliseconds=0.5, accuracy=None)
    text = card(run, replace(file, description=replace(file.description, precision="int8")))
    assert "| milliseconds, one thread of the machine that wrote it | 0.25 |" in text
    assert "- It computes in 8 bits" in text
    assert "- This file itself was not checked on labelled images." in text


@pytest.mark.parametrize("kind", ["openvino", "torch", "c", "web", "another"])
def test_every_format_has_one(run: Run, kind: str) -> None:
    assert write_card(run, exported(run, kind)) == run.path / "model.onnx.card.md"


def test_names_from_outside_stay_names(run: Run) -> None:
    names = ("a|b", "<script>", "new\nline [x](y)")
    figures = dict(zip(names, run.summary["per_class"].values(), strict=True))
    text = card(replace(run, classes=names, summary={**run.summary, "per_class": figures}), exported(run))
    rows = [line for line in text.splitlines() if line.startswith((r"| a\|", "| \\<", "| new"))]
    assert [row.split(" | ")[0] for row in rows] == [r"| a\|b", r"| \<script\>", r"| new\\nline \[x\](y)"]


def test_a_run_of_before_has_no_figures_of_classes(run: Run) -> None:
    text = card(replace(run, summary={}), exported(run))
    assert "The classes, in the order of the scores: ant, bee, cat." in text


def test_an_operator_that_is_not_counted_keeps_no_file_back(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise UnknownOperatorError("no formula for fold")

    monkeypatch.setattr("simroot.training.exporting.count", refuse)
    assert "cost" not in export_options(run, images=0)
