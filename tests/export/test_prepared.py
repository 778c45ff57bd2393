"""One image, the same pixels in training, evaluation, prediction and behind an exported file, for every preparation."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from export.networks import require_onnx
from simroot.data import ImageData, load, load_test
from simroot.data.crop import Crop, share, window
from simroot.errors import ExportError
from simroot.export import Description, Predictor, to_onnx
from simroot.images.decoding import read_image
from simroot.images.preparation import FITS, Preparation
from simroot.training.run import data_arguments, data_config

KINDS = ("colour", "deep", "float", "transparent")
SIZES = (8, (6, 10), (12, 5))


def picture(kind: str, number: int) -> Image.Image:
    generator = np.random.default_rng(number)
    height, width = [(9, 30), (20, 14), (16, 16)][number % 3]
    values = generator.integers(0, 256, (height, width), dtype=np.uint8)
    if kind == "deep":
        return Image.fromarray((29455 + values.astype(np.uint16)).astype(np.uint16))
    if kind == "float":
        return Image.fromarray((values / 5 - 20).astype(np.float32))
    if kind == "transparent":
        return Image.merge("RGBA", [Image.new("L", (width, height), 250)] * 3 + [Image.fromarray(values)])
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pictures")
    for kind, part, number in product(KINDS, ("train", "val"), range(8)):
        place = root / kind / part / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        picture(kind, number).save(place / f"{number}.{'tiff' if kind == 'float' else 'png'}")
    return {kind: root / kind for kind in KINDS}


def described(preparation: Preparation) -> Description:
    """What an exported file says of it, written and read back."""
    fitted = (preparation.fit, preparation.pixel_range, preparation.background)
    whole = Description(preparation.shape, None, (0.5,) * 3, (0.2,) * 3, preparation.share, *fitted)
    return Description.from_properties(whole.properties(), "a file")


def files(folder: Path, part: str) -> list[Path]:
    return sorted((folder / part).rglob("*.*"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("fit", "size"), list(product(("auto", *FITS), SIZES)))
def test_everywhere_the_same(folders: dict[str, Path], kind: str, fit: str, size: Any) -> None:
    folder = folders[kind]
    data = load(folder, image_size=size, fit=fit)
    assert data.preparation.fit in FITS
    config = {"data": data_config(data, {"name_or_path": str(folder), "fit": fit, "image_size": size})}
    again = load(**data_arguments(config) or {})
    tested = load_test(folder, classes=data.classes, **Preparation.from_dict(config["data"]).to_dict())
    if data.channels == 3:
        assert described(data.preparation).preparation == data.preparation
    for part, split in (("train", data.train), ("val", data.val)):
        pixels = torch.stack([torch.tensor(read_image(path, data.preparation)) for path in files(folder, part)])
        assert torch.equal(split.read(torch.arange(8)), pixels)
    assert torch.equal(again.train.read(torch.arange(8)), data.train.read(torch.arange(8)))
    assert torch.equal(tested.read(torch.arange(8)), data.val.read(torch.arange(8)))


@pytest.mark.parametrize("crop", ["whole", "scale", "random-resized"])
@pytest.mark.parametrize("fit", FITS)
def test_streamed_images_are_evaluated_as_they_are_predicted(folders: dict[str, Path], fit: str, crop: Crop) -> None:
    folder = folders["colour"]
    data = load(folder, image_size=(66, 80), fit=fit)
    assert data.val.images is None
    preparation = Preparation.from_dict(data.preparation.to_dict(), share(crop))
    pixels = np.stack([read_image(path, described(preparation).preparation) for path in files(folder, "val")])
    assert np.array_equal(data.val.read(torch.arange(8), window(crop, train=False)).numpy(), pixels)
    drawn = data.train.read(torch.arange(8), window(crop, train=True, seed=1))
    assert drawn.shape == (8, 3, 66, 80)


def export(data: ImageData, path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(data.preparation.shape)), 2))
    options: Any = {"classes": data.classes, "mean": data.mean, "std": data.std, "preparation": data.preparation}
    to_onnx(model, path, data.preparation.shape, **options)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["deep", "transparent"])
def test_a_file_prepares_images_as_training_did(folders: dict[str, Path], kind: str, tmp_path: Path) -> None:
    require_onnx()
    data = load(folders[kind], image_size=(6, 10), fit="pad")
    assert (data.preparation.pixel_range is None) == (kind == "transparent")
    assert (data.preparation.background == (0, 0, 0)) == (kind == "transparent")
    export(data, tmp_path / "a.onnx")
    predictor = Predictor(tmp_path / "a.onnx")
    assert predictor.description.preparation == data.preparation
    read = np.stack([predictor.read(path) for path in files(folders[kind], "val")])
    assert np.array_equal(read, data.val.read(torch.arange(8)).numpy())
    assert np.array_equal(predictor.predict(files(folders[kind], "val")), predictor.predict(read))


def test_a_file_without_choices_is_one_that_every_version_reads() -> None:
    old = Description((3, 8, 8), None, (0.5,) * 3, (0.2,) * 3).properties()
    assert old["simroot.format"] == '"1"'
    assert not {"simroot.fit", "simroot.pixel_range", "simroot.background"} & old.keys()
    assert Description.from_properties(old, "a file").preparation == Preparation(3, 8)
    # Versions that would prepare images otherwise refuse it.
    assert described(Preparation(3, 8, "pad")).properties()["simroot.format"] == '"1.1"'


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("fit", '"squeeze"', "fit is 'squeeze'"),
        ("pixel_range", "[2, 1]", "pixel_range is"),
        ("background", "[1, 2]", "background is"),
    ],
)
def test_damaged_choices(key: str, value: str, message: str) -> None:
    properties = {**Description((3, 8, 8)).properties(), f"simroot.{key}": value}
    with pytest.raises(ExportError, match=f"the metadata of a file cannot be used: {message}"):
        Description.from_properties(properties, "a file")
