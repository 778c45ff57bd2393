"""A folder of C from a network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.c.networks import MEAN, SIDE, STD, images, made, need_compiler
from simroot.engines.host import HostProgram, channels_last
from simroot.errors import ConfigError, ExportError
from simroot.export import to_c
from simroot.export.c import write as jobs
from simroot.export.c.report import device_memory
from simroot.export.c.write import ExportedC
from simroot.models import create_model

SIZE = (3, SIDE, SIDE)
FILES = ["Makefile", "mixed.c", "mixed.c.json", "mixed.h", "mixed_test.c"]


class Cosine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cos(x).mean((2, 3))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> ExportedC:
    need_compiler()
    inputs = images(pixels=True, count=6)
    options = {"mean": MEAN, "std": STD, "classes": ['a"?', "b\\", "é", "*/", "\n"], "name": "Mixed!"}
    labels = np.arange(6) % 5
    found = to_c(made("mixed"), tmp_path_factory.mktemp("c") / "out", SIZE, images=inputs, labels=labels, **options)  # type: ignore[arg-type]
    assert isinstance(found, ExportedC)
    return found


def test_what_is_written(exported: ExportedC) -> None:
    assert sorted(file.name for file in exported.path.iterdir()) == sorted([*FILES, "classes.json"])
    assert json.loads((exported.path / "classes.json").read_text()) == ['a"?', "b\\", "é", "*/", "\n"]
    assert json.loads((exported.path / "mixed.c.json").read_text())["measured"]["agreement"] == 1
    assert [file.name for file in exported.path.parent.iterdir()] == ["out"]
    assert exported.images == 6
    assert exported.agreement == 1
    assert exported.difference <= 1e-5
    assert exported.accuracy == exported.network_accuracy
    text = (exported.path / "mixed.c").read_text()
    assert not any(word in text for word in ("malloc", "stdlib", "stdio", "printf"))
    assert (exported.path / "mixed.h").read_text().isascii()
    assert f"#define MIXED_ARENA_BYTES {exported.memory.arena}\n" in (exported.path / "mixed.h").read_text()


def test_the_memory_is_told(exported: ExportedC) -> None:
    memory = exported.memory
    model = create_model("simnet_mixed", 5, channels=3, depth=1, image_size=SIDE)
    planned = device_memory(model, SIZE)
    assert planned.arena == memory.arena == memory.peak
    assert abs(planned.flash - memory.flash) < 100  # pixels less their centre
    assert sum(row.macs for row in memory.layers) == memory.macs > 0
    assert sum(row.flash for row in memory.layers) == memory.flash
    assert max(row.activations for row in memory.layers) <= memory.arena
    # Of the first convolution, 3 x 16 x 16 numbers, two rows are there at a time.
    assert memory.layers[0].name.startswith("conv1_1 + pool1")
    assert memory.arena < 4 * 3 * 16 * 16 / 2


def test_an_earlier_export_is_replaced_and_other_folders_are_not(exported: ExportedC, tmp_path: Path) -> None:
    need_compiler()
    path = tmp_path / "out"
    path.mkdir()
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
    to_c(model, path, SIZE, name="a")
    to_c(model, path, SIZE, name="b")
    written = ["Makefile", "b.c", "b.c.json", "b.h", "b_test.c"]
    assert sorted(file.name for file in path.iterdir()) == written
    (path / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match="no folder that simroot wrote"):
        to_c(model, path, SIZE, name="a")
    assert sorted(file.name for file in path.iterdir()) == [*written, "notes.txt"]
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Cosine(), "cos of layer the network has no C form"),
        (nn.Sequential(nn.Conv2d(3, 2, 3, padding="same"), nn.AdaptiveAvgPool2d(1), nn.Flatten(1)), "has no C form"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(5), nn.Flatten(1)), "5, 5\\) unequal windows"),
    ],
)
def test_what_has_no_c_form_writes_nothing(model: nn.Module, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        to_c(model, tmp_path / "out", SIZE)
    assert not list(tmp_path.iterdir())


def test_scores_that_differ_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "compiler", lambda: None)
    monkeypatch.setattr(jobs, "scores", lambda layers, batch: torch.ones(len(batch), 3))
    with pytest.raises(ExportError, match="was not written"):
        to_c(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1)), tmp_path / "out", SIZE)
    assert not list(tmp_path.iterdir())


def test_without_a_compiler_the_layers_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jobs, "compiler", lambda: None)
    found = to_c(made("everything"), tmp_path / "out", SIZE, name="mixed", mean=MEAN, std=STD)
    assert found.difference <= 1e-5
    assert "the C text has not been run" in caplog.text
    assert sorted(file.name for file in found.path.iterdir()) == FILES


def test_a_vector_of_inputs(tmp_path: Path) -> None:
    need_compiler()
    found = to_c(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), tmp_path / "out", (4,), name="dense")
    assert found.difference <= 1e-5


def test_options_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="custom operator is for ONNX"):
        to_c(made("mixed"), tmp_path / "out", SIZE, custom_operator=True)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_many_channels_beside_each_other(precision: str, tmp_path: Path) -> None:
    """As many filters and pixels as this processor computes at a time give the bits of C alone."""
    need_compiler()
    inputs = images(pixels=True, count=6)
    model = nn.Sequential(
        nn.Conv2d(3, 20, 3, padding=1), nn.ReLU(), nn.Conv2d(20, 20, 3, padding=1, groups=20), nn.Conv2d(20, 44, 1)
    )
    model.extend([nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(44, 33, 3, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(1)])
    options = {"mean": MEAN, "std": STD, "name": "many", "images": inputs}
    options |= {"calibration": inputs} if precision == "int8" else {}
    source = to_c(model.eval(), tmp_path / "many", SIZE, **options).path / "many.c"  # type: ignore[arg-type]
    here, alone = (
        HostProgram(source, "many", (SIDE, SIDE, 3), 33, np.uint8, flags=["-O1", *more])
        for more in ([], ["-DSR_PORTABLE"])
    )
    pixels = channels_last(inputs)
    np.testing.assert_array_equal(here.scores(pixels), alone.scores(pixels))
