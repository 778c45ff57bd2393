"""A user's own network trains by the same function and command as simroot's, and its run can be loaded again."""

from __future__ import annotations

import copy
import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

import simroot
from simroot.cli import main
from simroot.data import ImageData
from simroot.errors import ConfigError
from simroot.models import registry
from simroot.training import Run, TrainingInterrupted, evaluate, load_run, recipe, resume, train
from simroot.training.fit import StopTraining
from training.support import CLASSES, small_data

SOURCE = """
from torch import nn


def tiny(num_classes, in_channels, image_size, width=4):
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes)
    )
"""
NAME = "own_net_of_a_test:tiny"
TWO = recipe(epochs=2, batch_size=16)
OPTIONS: dict[str, Any] = {"accelerator": "cpu", "progress": False}


def flat(num_classes: int, in_channels: int, *, image_size: int, width: int = 4) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(in_channels * image_size**2, width), nn.ReLU(), nn.Linear(width, num_classes)
    )


@pytest.fixture
def forget() -> Iterator[Callable[[], None]]:
    """Makes this process know no more than another one would."""

    def now() -> None:
        for name in [name for name in registry.SOURCES if "own_net" in name]:
            del registry.SOURCES[name]
        sys.modules.pop(NAME.partition(":")[0], None)

    yield now
    now()


@pytest.fixture(autouse=True)
def _surroundings(quick_pictures: None, forget: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Quick, and names and folders that a test makes known are unknown afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture(scope="module")
def data() -> ImageData:
    return small_data()


def weights(run: Run) -> dict[str, Tensor]:
    return run.model.state_dict()


def assert_same(first: Run, second: Run) -> None:
    torch.testing.assert_close(weights(first), weights(second), rtol=0, atol=0)


class Stop(Callback):
    """Ends the training in the second epoch."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            raise StopTraining


def test_a_builder_trains_and_its_run_names_it(data: ImageData, tmp_path: Path, forget: Callable[[], None]) -> None:
    run = train(flat, data, TWO, tmp_path / "run", overrides={"width": 5}, **OPTIONS)
    name = f"{__name__}:flat"
    model = yaml.safe_load((run.path / "config.yaml").read_text())["model"]
    assert model == {"name": name, "overrides": {"width": 5}}
    assert (run.model_name, run.summary["model"], run.summary["macs"]) == (name, name, 5 * 192 + 3 * 5)
    assert evaluate(run, data.val).accuracy == run.summary["accuracy"]
    assert_same(load_run(run.path), run)  # handed over once, it is known here
    forget()
    with pytest.raises(ConfigError, match=rf"'{name}' is .* code from elsewhere, .*--trust {name}, .*model='{name}'\)"):
        load_run(run.path)
    assert_same(load_run(run.path, model=flat), run)
    other = load_run(run.path, model=lambda num_classes, **given: flat(num_classes, 3, image_size=8, width=5))
    assert_same(other, run)


def test_a_module_trains_and_is_handed_over_again(data: ImageData, tmp_path: Path) -> None:
    torch.manual_seed(3)
    module = flat(3, 3, image_size=8)
    before = copy.deepcopy(module.state_dict())
    whole = train(module, data, TWO, tmp_path / "whole", **OPTIONS)
    torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)  # yours stays as it is
    assert (whole.model_name, whole.model is module) == ("Sequential()", False)
    with pytest.raises(
        ConfigError, match=r"'Sequential\(\)' was handed over in Python, .*load_run\(path, model=\.\.\.\)"
    ):
        load_run(whole.path)
    with pytest.raises(ConfigError, match="handed over in Python"):
        resume(whole.path, data=data, **OPTIONS)
    torch.manual_seed(4)
    assert_same(load_run(whole.path, model=flat(3, 3, image_size=8)), whole)
    with pytest.raises(TrainingInterrupted, match=r"simroot.training.resume\('.*stopped', model=\.\.\.\)"):
        train(module, data, TWO, tmp_path / "stopped", callbacks=[Stop()], **OPTIONS)
    # Where it starts is kept: other weights in its place change nothing, even before an epoch is complete.
    (tmp_path / "stopped" / "last.ckpt").unlink()
    (tmp_path / "stopped" / "best.ckpt").unlink()
    assert_same(resume(tmp_path / "stopped", model=flat(3, 3, image_size=8), data=data, **OPTIONS), whole)


def test_what_does_not_fit_is_said_before_anything_is_written(data: ImageData, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(ConfigError, match=r"Linear\(\) gives scores of shape \(2, 3, 8, 4\) .*expected \(2, 3\)"):
        train(nn.Linear(8, 4), data, TWO, out, **OPTIONS)
    with pytest.raises(ConfigError, match=r"Sequential\(\) has no override 'width'"):
        train(flat(3, 3, image_size=8), data, TWO, out, overrides={"width": 3}, **OPTIONS)
    assert not out.exists()


def test_one_runs_weights_start_another(data: ImageData, tmp_path: Path) -> None:
    first = train(flat(3, 3, image_size=8), data, recipe(epochs=1), tmp_path / "first", **OPTIONS)
    again = train(flat(3, 3, image_size=8), data, recipe(epochs=1), tmp_path / "again", initial=first.path, **OPTIONS)
    assert "4 of 4 tensors fit" in (again.path / "train.log").read_text()


def test_the_classifier_takes_one_and_is_pickled() -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(40) % 2
    classifier = simroot.Classifier(flat(2, 3, image_size=8), epochs=1, random_state=0).fit(images, labels)
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.predict_proba(images), classifier.predict_proba(images))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a module of the user's and images of three classes."""
    from PIL import Image

    (tmp_path / "own_net_of_a_test.py").write_text(SOURCE)
    generator = np.random.default_rng(0)
    for number in range(24):
        folder = tmp_path / "photos" / CLASSES[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 100, (8, 8, 3)) + 70 * (number % 3)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_commands_take_it_by_name(here: Path, forget: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", NAME, "--set", "width=6", "--data", "photos", "--recipe.epochs", "1", "--quiet"]
    assert main(["train", *words, "--out", "run"]) == 0
    forget()
    capsys.readouterr()
    for command in ("evaluate", "cost"):
        assert main([command, "run"]) == 2
        assert f"--trust {NAME}" in capsys.readouterr().err
        assert main([command, "run", "--trust", NAME]) == 0
        forget()
    assert main(["train", "--resume", "run"]) == 2
    assert main(["train", "--resume", "run", "--trust", NAME, "--quiet"]) == 0
    forget()
    assert main(["train", "--config", "run/config.yaml", "--out", "second", "--quiet"]) == 2
    assert f"--trust {NAME}" in capsys.readouterr().err
    assert not (here / "second").exists()
    assert main(["cost", NAME, "--input-size", "3,8,8", "--num-classes", "3", "--set", "width=6", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == 6 * 28 + 3 * 7
    assert main(["bench", f"{NAME}:width=6", "--seconds", "0.01", "--image-size", "8"]) == 0
    assert NAME in capsys.readouterr().out
    forget()
    assert main(["rootify", NAME, "--degree", "2", "--out", "grouped.safetensors", "--input-size", "4,8,8"]) == 0
    assert main(["cost", NAME.replace("tiny", "tny")]) == 2
    assert "own_net_of_a_test has no 'tny'; did you mean tiny?" in capsys.readouterr().err


@pytest.mark.slow
def test_the_program_finds_it_in_the_current_folder(here: Path) -> None:
    """The installed script has the folder of programs on its path, not the current one."""
    script = "import sys; sys.path.remove(''); from simroot.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", script, "cost", NAME, "--input-size", "3,8,8"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "AdaptiveAvgPool2d" in done.stdout or "Conv2d" in done.stdout) == (0, True), done.stderr


def test_the_examples_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).resolve().parents[1] / "docs" / "own-networks.md"
    file, example, backbones = re.findall(
        r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    (tmp_path / "nets.py").write_text(file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names: dict[str, Any] = {}
    exec(example, names)
    exec(backbones, names)
    assert names["features"].shape == (2, names["pooled"].num_features)
    assert "<td" in names["run"]._repr_html_()
    assert names["run"].model_name == "nets:tiny"
    assert names["again"].model_name == "Sequential()"
    for known in ("nets", "nets:tiny"):
        sys.modules.pop(known, None)
        registry.SOURCES.pop(known, None)
