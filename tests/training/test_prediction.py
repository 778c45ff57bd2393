"""``Run.predict``: whatever holds the pixels, the probabilities are the same."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from simroot.data import ImageData, normalise
from simroot.errors import DataError
from simroot.training import Run, recipe, train
from training.support import QUICK


@pytest.fixture
def run(data: ImageData, out: Path) -> Run:
    chosen = recipe(**{**QUICK.to_dict(), "epochs": 1})
    return train("tiny", data, chosen, out, accelerator="cpu", progress=False)


def test_arrays_tensors_pillow_and_paths(run: Run, data: ImageData, tmp_path: Path) -> None:
    images = data.val.images
    assert images is not None
    with torch.no_grad():
        expected = run.model(normalise(images, run.mean, run.std)).softmax(1).numpy()
    rows = images.permute(0, 2, 3, 1).numpy()
    paths = [tmp_path / f"{number}.png" for number in range(len(rows))]
    for path, pixels in zip(paths, rows, strict=True):
        Image.fromarray(pixels).save(path)
    given: list[Any] = [images, images.numpy(), rows, [*rows], [Image.open(path) for path in paths], paths]
    for each in given:
        found = run.predict(each)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=1e-6)
    ones: list[Any] = [images[0], rows[0], str(paths[0]), Image.open(paths[0])]
    for each in ones:
        np.testing.assert_allclose(run.predict(each), expected[:1], atol=1e-6)
    assert run.predict([]).shape == (0, 3)


def test_other_sizes_and_grey_are_prepared(run: Run) -> None:
    grey = np.full((20, 30), 100, dtype=np.uint8)
    small = np.full((3, 8, 8), 100, dtype=np.uint8)
    np.testing.assert_allclose(run.predict(grey), run.predict(small), atol=1e-6)
    np.testing.assert_allclose(
        run.predict(np.stack([grey, grey, grey, grey, grey])), run.predict([small] * 5), atol=1e-6
    )


@pytest.mark.parametrize("images", [5, [5], "missing.png", np.zeros((2, 3, 8, 8)), np.zeros((2, 5, 5, 5, 5), np.uint8)])
def test_anything_else_is_refused(run: Run, images: Any) -> None:
    with pytest.raises(DataError):
        run.predict(images)
