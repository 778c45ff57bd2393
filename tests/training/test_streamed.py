"""Training on large images that are read from files: random windows, resumed bit for bit, evaluated in the middle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from simroot.data import ImageData, decode, load, normalise
from simroot.errors import ConfigError
from simroot.training import Recipe, evaluate, load_run, resume, train
from training.conftest import Install

RECIPE = Recipe(epochs=3, batch_size=4, learning_rate=0.01, crop="random-resized", mirror=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of noise, brighter on the left or on the right, all of different sizes."""
    root = tmp_path_factory.mktemp("large")
    generator = np.random.default_rng(0)
    for part, count in (("train", 8), ("val", 3)):
        for label in ("left", "right"):
            (root / part / label).mkdir(parents=True)
            for number in range(count):
                height, width = generator.integers(80, 140, 2)
                pixels = generator.integers(0, 128, (height, width, 3))
                pixels[:, : width // 2] += 100 * (label == "left")
                pixels[:, width // 2 :] += 100 * (label == "right")
                Image.fromarray(pixels.astype(np.uint8)).save(root / part / label / f"{number}.png")
    return root


@pytest.fixture
def large(folder: Path) -> ImageData:
    return load(folder, image_size=72, check=False)


class Stop(Exception):
    """Ends a training at a batch."""


def test_a_resumed_training_ends_in_the_same_weights(large: ImageData, out: Path, at_batch: Install) -> None:
    whole = train("tiny", large, RECIPE, out.with_name("whole"), progress=False, workers=2)

    def stop(batch: int) -> float:
        if batch == 7:  # in the second epoch
            raise Stop
        return 1.0

    at_batch(stop)
    with pytest.raises(Stop):
        train("tiny", large, RECIPE, out, progress=False)
    at_batch(lambda batch: 1.0)
    again = resume(out, data=large, progress=False)
    state, expected = again.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_evaluation_sees_the_middle_of_the_scaled_image(large: ImageData, out: Path, folder: Path) -> None:
    run = train("tiny", large, RECIPE, out, progress=False)
    assert (run.recipe.crop, run.recipe.shift) == ("random-resized", 0)
    files = sorted(folder.glob("val/*/*.png"))
    pixels = torch.stack([decode(file, 3, 72, "random-resized") for file in files])
    with torch.no_grad():
        scores = load_run(out).model(normalise(pixels, run.mean, run.std))
    right = [
        int(score.argmax()) == large.classes.index(file.parent.name) for score, file in zip(scores, files, strict=True)
    ]
    found = evaluate(run, large.val)
    assert found.accuracy == sum(right) / len(files)
    assert found.top5 == 1  # of two classes
    assert found.accuracy == run.summary["accuracy"]


def test_windows_need_large_images(data: ImageData, out: Path) -> None:
    with pytest.raises(ConfigError, match="crop is 'scale', but these images are kept in memory at 8 pixels"):
        train("tiny", data, Recipe(epochs=1, crop="scale"), out, progress=False)
