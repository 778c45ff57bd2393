"""From the options of a training to its run, its evaluation, its predictions and its exported file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from cli.result import Simroot

TINY = ["--model", "convnet_plain", "--set", "channels=4", "--set", "depth=1", "--recipe.batch_size", "8"]


def cracks(folder: Path, count: int, width: int = 48) -> Path:
    """Wide pictures: of half of them the left end is darker."""
    generator = np.random.default_rng(0)
    for number in range(2 * count):
        pixels = generator.integers(100, 140, (12, width), dtype=np.uint8)
        name = "ok" if number % 2 else "crack"
        if name == "crack":
            pixels[:, 2:6] -= 60
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name / f"{number:03}.png")
    return folder


def heat(folder: Path, count: int) -> Path:
    """Pictures of 16 bits whose values differ by 200 of 65,536, with stripes across or down."""
    generator = np.random.default_rng(0)
    for number in range(2 * count):
        stripes = np.add.outer(np.arange(16) // 2 % 2 * 150, np.zeros(16)) + generator.integers(0, 50, (16, 16))
        name, values = ("down", stripes.T) if number % 2 else ("across", stripes)
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray((29455 + values).astype(np.uint16)).save(folder / name / f"{number:03}.png")
    return folder


@pytest.mark.slow
def test_a_rectangle_goes_all_the_way(simroot: Simroot, tmp_path: Path) -> None:
    data, run = cracks(tmp_path / "wide", 12), tmp_path / "run"
    options = ["--image-size", "12,40", "--fit", "pad", "--background", "1,2,3", "--recipe.epochs", "1", "--quiet"]
    done = simroot("train", "--data", data, *TINY, *options, "--out", run)
    assert done.code == 0, done.err
    config = yaml.safe_load((run / "config.yaml").read_text())
    found = config["data"]
    assert (found["image_size"], found["fit"], found["pixel_range"], found["background"]) == (
        [12, 40],
        "pad",
        "full",
        [1, 2, 3],
    )
    summary = json.loads((run / "summary.json").read_text())
    assert simroot("cost", run, "--json").json["macs"] == summary["macs"]
    assert simroot("evaluate", run, "--json").json["accuracy"] == summary["accuracy"]
    assert simroot("evaluate", run, "--data", data, "--json").code == 0
    again = simroot("train", "--config", run / "config.yaml", "--quiet", "--out", tmp_path / "again")
    assert again.code == 0, again.err
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    assert simroot("export", run).code == 0
    image = next(data.rglob("*.png"))
    of_run, of_file = (
        {each["class"]: each["probability"] for each in simroot("predict", path, image, "--json").json[0]["classes"]}
        for path in (run, run / "model.onnx")
    )
    assert of_run == pytest.approx(of_file, abs=1e-4)


def test_cost_of_a_rectangle(simroot: Simroot) -> None:
    square, wide = (simroot("cost", "simnet_mixed", "--input-size", f"3,32,{w}", "--json").json for w in (32, 64))
    assert wide["parameters"] == square["parameters"]
    assert 1.9 < wide["macs"] / square["macs"] < 2.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--image-size", "1,2,3"], "'1,2,3' is no image size; expected 32, or height and width as in 24,96"),
        (["--pixel-range", "9,2"], "'9,2' is no pixel range"),
        (["--background", "pink"], "'pink' is no background"),
        (["--fit", "squeeze"], "squeeze"),
    ],
)
def test_mistakes(simroot: Simroot, options: list[str], message: str) -> None:
    found = simroot("train", *options)
    assert found.code == 2
    assert message in found.err


@pytest.mark.slow
def test_what_lies_at_the_margin_and_what_is_faint_is_learned(simroot: Simroot, tmp_path: Path) -> None:
    for data in (cracks(tmp_path / "cracks", 40), heat(tmp_path / "heat", 40)):
        run = tmp_path / f"run-{data.name}"
        options = ["--image-size", "16", "--recipe.epochs", "12", "--recipe.mirror", "false", "--quiet"]
        assert simroot("train", "--data", data, *TINY, *options, "--out", run).code == 0
        assert json.loads((run / "summary.json").read_text())["accuracy"] > 0.9
