"""Training on large images that are read from files: random windows, resumed bit for bit, evaluated in the middle."""

from __future__ import annotations

import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from simroot.data import ImageData, decode, load, normalise
from simroot.errors import ConfigError
from simroot.training import Recipe, evaluate, load_run, resume, train
from simroot.training.run import LOG
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


@pytest.fixture
def shards(folder: Path, tmp_path: Path) -> ImageData:
    """The same images in shards."""
    for part in ("train", "val"):
        with tarfile.open(tmp_path / f"{part}-0.tar", "w") as archive:
            for number, path in enumerate(sorted(folder.glob(f"{part}/*/*.png"))):
                for kind, content in (("png", path.read_bytes()), ("cls", path.parent.name.encode())):
                    member = tarfile.TarInfo(f"{number:02}.{kind}")
                    member.size = len(content)
                    archive.addfile(member, BytesIO(content))
    return load(tmp_path / "{train,val}-0.tar", image_size=72, check=False)


def test_a_training_from_shards_resumed_ends_in_the_weights_of_one_from_files(
    large: ImageData, shards: ImageData, out: Path, at_batch: Install
) -> None:
    whole = train("tiny", large, RECIPE, out.with_name("whole"), progress=False, workers=2)
    assert "streaming" not in (whole.path / LOG).read_text()

    def stop(batch: int) -> float:
        if batch == 7:  # in the second epoch
            raise Stop
        return 1.0

    at_batch(stop)
    with pytest.raises(Stop):
        train("tiny", shards, RECIPE, out, progress=False)
    at_batch(lambda batch: 1.0)
    again = resume(out, data=shards, progress=False)
    assert "streaming 22 images from 2 .tar files" in (out / LOG).read_text()
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
