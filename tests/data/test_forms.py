"""The same images in every form of data are the same data, and the same training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from data.written import FORMS, Pictures, hugging_face, photos, write_csv
from simroot.data import ImageData, from_arrays, from_dataset, load, load_test
from simroot.data.columns import Columns
from simroot.data.forms import expanded, tables_of
from simroot.errors import DataError
from simroot.images.sources import content_of
from simroot.training import Recipe, Run, resume, train


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("forms")


@pytest.fixture(scope="module")
def pictures(root: Path) -> Pictures:
    return photos(root / "photos")


@pytest.fixture(scope="module")
def folder(root: Path, pictures: Pictures) -> ImageData:
    assert len(pictures) == 60
    return load(root / "photos")


def assert_same(found: ImageData, expected: ImageData) -> None:
    for one, other in ((found.train, expected.train), (found.val, expected.val)):
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.read(torch.arange(len(one))), other.read(torch.arange(len(other))))
    assert (found.classes, found.mean, found.std) == (expected.classes, expected.mean, expected.std)
    assert found.preparation == expected.preparation


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_the_same_data(root: Path, pictures: Pictures, folder: ImageData, form: str) -> None:
    path = FORMS[form](root / form, pictures)
    data = load(path)
    assert_same(data, folder)
    assert data.origins[1] == f"{data.origins[0]}, held out"
    test = load_test(root / "photos", classes=data.classes, image_size=8, channels=3)
    if form != "parquet":  # whose files are called train
        assert torch.equal(test.read(torch.arange(60)), load_test(path, **of(data)).read(torch.arange(60)))


@pytest.mark.parametrize("form", FORMS)
def test_the_images_alone(root: Path, pictures: Pictures, folder: ImageData, form: str) -> None:
    path = FORMS[form](root / f"alone-{form}", pictures)
    tables = tables_of(path)
    assert tables is not None
    found = [content_of(image.source) for image in tables.images(Columns())]
    in_order = [image.read_bytes() for image, _ in pictures]
    assert sorted(found) == sorted(in_order)
    assert found == in_order or form == "json-shards"  # which hold every third


def of(data: ImageData) -> dict[str, Any]:
    return {"classes": data.classes, "image_size": data.image_size, "channels": data.channels}


def test_objects_are_the_same_data(root: Path, pictures: Pictures, folder: ImageData) -> None:
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import ToTensor

    of_pillow, of_tensors = ImageFolder(root / "photos"), ImageFolder(root / "photos", ToTensor())
    ordered = sorted(pictures)
    of_words = [(str(path), label) for path, label in ordered]
    of_bytes = ((path.read_bytes(), label) for path, label in ordered)
    for dataset in (of_pillow, of_tensors, of_words, of_bytes):
        assert_same(from_dataset(dataset), folder)
    images = torch.stack([image for image, _ in of_tensors])
    assert_same(from_arrays(images, torch.tensor(of_tensors.targets), of_tensors.classes), folder)


def test_data_sets_of_the_datasets_package(pictures: Pictures, folder: ImageData, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    dataset = datasets.Dataset(hugging_face(pictures))
    assert dataset.features["label"].names == ["ant", "bee", "cat"]
    assert_same(from_dataset(dataset), folder)
    parts = datasets.DatasetDict({"train": dataset.select(range(40)), "test": dataset.select(range(40, 60))})
    data = from_dataset(parts)
    assert (len(data.train), len(data.val)) == (40, 20)
    datasets.disable_progress_bars()
    parts.save_to_disk(tmp_path / "saved")
    assert_same(load(tmp_path / "saved"), data)


RECIPE = Recipe(epochs=1, batch_size=16)


@pytest.fixture(scope="module")
def trained(root: Path, folder: ImageData) -> Run:
    return train("simnet_mlp", folder, RECIPE, root / "trained", progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_the_same_training(root: Path, pictures: Pictures, trained: Run, tmp_path: Path, form: str) -> None:
    path = root / form if (root / form).exists() else FORMS[form](root / form, pictures)
    path = root / form / "{000..002}.tar" if form == "json-shards" else path
    run = train("simnet_mlp", load(path), RECIPE, tmp_path / "run", data_source={"name_or_path": path}, progress=False)
    first, second = ((each.path / "model.safetensors").read_bytes() for each in (run, trained))
    assert first == second
    assert run.config["data"]["source"] == {"name_or_path": str(path)}


@pytest.mark.slow
def test_a_run_on_shards_goes_on(root: Path, pictures: Pictures, tmp_path: Path) -> None:
    """Its images are loaded again from where they were."""
    path = FORMS["json-shards"](root / "more", pictures)
    run = train("simnet_mlp", load(path), RECIPE, tmp_path / "run", data_source={"name_or_path": path}, progress=False)
    assert resume(run.path, progress=False).summary["accuracy"] == run.summary["accuracy"]


def test_patterns_with_braces() -> None:
    shards = [str(path) for path in expanded(Path("s/{train,val}-{08..10}.tar"))]
    assert shards == [f"s/{part}-{number}.tar" for part in ("train", "val") for number in ("08", "09", "10")]
    assert [str(path) for path in expanded(Path("{2..0}.csv"))] == ["2.csv", "1.csv", "0.csv"]
    with pytest.raises(DataError, match="more than 100,000 files"):
        next(expanded(Path("{0..99999}/{0..99}.tar")))
    with pytest.raises(DataError, match="more than 100,000 files"):
        next(expanded(Path("{0..999999999}.tar")))


def test_files_that_are_parts(tmp_path: Path) -> None:
    pictures = photos(tmp_path / "photos", 12)
    train_part = write_csv(tmp_path / "train.csv", pictures[:9])
    val_part = write_csv(tmp_path / "val.csv", pictures[9:])
    named, pattern = load(train_part, train=".", val=val_part), load(tmp_path / "{train,val}.csv")
    assert [len(data.train) for data in (named, pattern)] == [9, 9]
    assert (len(pattern.val), pattern.name) == (3, tmp_path.name)
    assert_same(named, pattern)
    assert pattern.origins == ("train of {train,val}.csv", "val of {train,val}.csv")
    with pytest.raises(DataError, match=r"none\.csv does not exist"):
        load(tmp_path / "{train,none}.csv")
    more = write_csv(tmp_path / "more.csv", pictures)
    assert len(load(tmp_path / "photos", train=".", val=more).val) == 12
    with pytest.raises(DataError, match=r"more\.csv lies beside files of parts"):
        load(tmp_path / "{train,more}.csv")
    with pytest.raises(DataError, match="has no part test; its parts are whole"):
        load(train_part, val="test")


def test_files_of_a_folder_with_images_are_none_of_its_data(tmp_path: Path) -> None:
    photos(tmp_path / "photos", 12)
    for name in ("a.parquet", "b.tar"):
        (tmp_path / "photos" / name).write_bytes(b"")
    assert len(load(tmp_path / "photos").train) == 10


def test_a_folder_of_two_forms_and_an_address(tmp_path: Path) -> None:
    for name in ("a.parquet", "b.tar"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match="holds files of several forms"):
        load(tmp_path)
    with pytest.raises(DataError, match="is an address: images are read from files; download it first"):
        load("https://example.org/train.csv")


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "has no items"),
        ([(b"", 0), (b"", "cat")], "words and numbers"),
        ([(b"", 0, 1)], "item 0 of data set is .* expected an image and its label"),
        ([(b"", 0.5)], "has the label 0.5"),
        ([(torch.randn(3, 8, 8) - 9, 0)], "rescale"),
        ([(b"", -1), (b"", 1)], "has the label -1; its 2 classes do not have it"),
        (7, "expected one of torch's"),
    ],
)
def test_objects_that_are_no_data(items: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_dataset(items)
