"""Miniature data sets in the official files' formats; no test touches the network."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import pickle
import struct
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from scipy.io import savemat

from simroot.data import load, load_test, named
from simroot.errors import DataError

CLASSES = {"cifar10": 10, "cifar100": 100, "svhn": 10, "fashion-mnist": 10}


def sample(classes: int, copies: int, shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random images whose labels are 0..classes-1, ``copies`` times."""
    images = np.random.default_rng(seed).integers(0, 256, (classes * copies, *shape), dtype=np.uint8)
    return images, np.tile(np.arange(classes), copies)


def write_cifar(root: Path, classes: int, protocol: int | None = None) -> None:
    folder = root / ("cifar-10-batches-py" if classes == 10 else "cifar-100-python")
    folder.mkdir(parents=True)
    files = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"] if classes == 10 else ["train", "test"]
    for seed, file in enumerate(files):
        images, labels = sample(classes, 5, (3072,), seed)
        key = "labels" if classes == 10 else "fine_labels"
        (folder / file).write_bytes(pickle.dumps({"data": images, key: labels.tolist()}, protocol))
    meta, key = ("batches.meta", "label_names") if classes == 10 else ("meta", "fine_label_names")
    (folder / meta).write_bytes(pickle.dumps({key: [f"class {k}" for k in range(classes)]}, protocol))


def write_svhn(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for seed, part in enumerate(("train", "test")):
        images, labels = sample(10, 20, (32, 32, 3), seed)
        labels = np.where(labels == 0, 10, labels)[:, None].astype(np.uint8)
        savemat(root / f"{part}_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": labels})


def write_idx(folder: Path, *, compressed: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, part in enumerate(("train", "t10k")):
        images, labels = sample(10, 6, (28, 28), seed)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels.astype(np.uint8))):
            content = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()
            path = folder / f"{part}-{kind}-ubyte{'.gz' if compressed else ''}"
            path.write_bytes(gzip.compress(content) if compressed else content)


WRITERS: dict[str, Callable[[Path], None]] = {
    "cifar10": lambda root: write_cifar(root, 10),
    "cifar100": lambda root: write_cifar(root, 100),
    "svhn": write_svhn,
    "fashion-mnist": lambda root: write_idx(root / "FashionMNIST" / "raw", compressed=False),
}
SHAPES = {"cifar10": (3, 32, 32), "cifar100": (3, 32, 32), "svhn": (3, 32, 32), "fashion-mnist": (1, 28, 28)}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


def test_digits() -> None:
    data = load()
    assert (data.name, len(data.train), len(data.val)) == ("digits", 1437, 360)
    assert (data.image_size, data.channels, data.classes) == (8, 1, tuple("0123456789"))
    images = torch.cat([split.read(torch.arange(len(split))) for split in (data.train, data.val)])
    assert (images.dtype, images.min().item(), images.max().item()) == (torch.uint8, 0, 255)
    assert set(images.unique().tolist()) == {round(k * 255 / 16) for k in range(17)}
    shares = data.val.labels.bincount() / torch.cat([data.train.labels, data.val.labels]).bincount()
    assert ((shares - 360 / 1797).abs() < 1 / 170).all()  # less than one image a class


def test_the_split_of_the_digits_never_changes() -> None:
    digest = hashlib.sha256(load().val.read(torch.arange(360)).numpy().tobytes()).hexdigest()
    assert digest[:16] == "4de6358ea20238cd"


def test_digits_have_no_test_part() -> None:
    with pytest.raises(DataError, match="digits has no test part"):
        load_test("digits", classes=tuple("0123456789"), image_size=8, channels=1)


@pytest.mark.parametrize("name", CLASSES)
def test_local_files_of_each_format(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    WRITERS[name](tmp_path)
    data = load(name, data_root=tmp_path)
    assert len(data.classes) == CLASSES[name]
    assert (data.channels, data.image_size) == (SHAPES[name][0], SHAPES[name][1])
    assert data.train.read(torch.tensor([0])).shape == (1, *SHAPES[name])
    total = len(data.train) + len(data.val)
    assert len(data.val) == round(total * {"svhn": 10_000 / 73_257, "fashion-mnist": 1 / 6}.get(name, 1 / 5))
    assert "checksum differs" in caplog.text or name == "fashion-mnist"
    test = load_test(name, data_root=tmp_path, classes=data.classes, image_size=data.image_size, channels=data.channels)
    assert len(test) == CLASSES[name] * {"svhn": 20, "fashion-mnist": 6}.get(name, 5)


def pairs(images: torch.Tensor, labels: torch.Tensor) -> set[tuple[bytes, int]]:
    return {(image.numpy().tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}


@pytest.mark.parametrize("name", CLASSES)
def test_images_keep_their_pixels_and_labels(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path)
    data = load(name, data_root=tmp_path)
    shape = {"svhn": (32, 32, 3), "fashion-mnist": (28, 28)}.get(name, (3072,))
    copies = {"svhn": 20, "fashion-mnist": 6}.get(name, 5)
    expected = set()
    for seed in range(5 if name == "cifar10" else 1):
        images, labels = sample(CLASSES[name], copies, shape, seed)
        if name == "svhn":
            images = images.transpose(0, 3, 1, 2)
        expected |= pairs(torch.from_numpy(images.reshape(-1, *SHAPES[name]).copy()), torch.from_numpy(labels))
    loaded = [pairs(split.read(torch.arange(len(split))), split.labels) for split in (data.train, data.val)]
    assert loaded[0] | loaded[1] == expected
    assert not loaded[0] & loaded[1]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("folder", [".", "raw", "FashionMNIST/raw", "fashion-mnist"])
def test_fashion_mnist_flat_or_nested_plain_or_compressed(tmp_path: Path, folder: str, compressed: bool) -> None:
    write_idx(tmp_path / folder, compressed=compressed)
    data = load("fashion-mnist", data_root=tmp_path)
    assert (len(data.train), len(data.val)) == (50, 10)
    assert data.classes[0] == "T-shirt/top"


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_cifar_of_any_pickle_protocol(tmp_path: Path, protocol: int) -> None:
    write_cifar(tmp_path, 10, protocol)
    assert len(load("cifar10", data_root=tmp_path / "cifar-10-batches-py").train) == 200


def test_cifar_pickled_by_old_numpy(tmp_path: Path) -> None:
    write_cifar(tmp_path, 10, 2)
    for path in (tmp_path / "cifar-10-batches-py").iterdir():
        path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert len(load("cifar10", data_root=tmp_path).train) == 200


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "ran",)

    write_cifar(tmp_path, 10)
    (tmp_path / "cifar-10-batches-py" / "data_batch_2").write_bytes(pickle.dumps({"data": Payload(), "labels": []}))
    with pytest.raises(DataError, match=r"damaged \(it holds .*, which is not an array\)"):
        load("cifar10", data_root=tmp_path)
    assert not (tmp_path / "ran").exists()


def damage_label(folder: Path) -> None:
    images, labels = sample(10, 5, (3072,), 0)
    labels[3] = 12
    (folder / "data_batch_1").write_bytes(pickle.dumps({"data": images, "labels": labels.tolist()}))


def damage_count(folder: Path) -> None:
    images, labels = sample(10, 5, (3072,), 0)
    (folder / "data_batch_1").write_bytes(pickle.dumps({"data": images, "labels": labels.tolist()[:-1]}))


def truncate(folder: Path) -> None:
    path = folder / "data_batch_1"
    path.write_bytes(path.read_bytes()[:1000])


def not_a_batch(folder: Path) -> None:
    (folder / "data_batch_1").write_bytes(pickle.dumps([1, 2]))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_label, "labels go from 0 to 12 for 10 classes"),
        (damage_count, "250 images, but labels are int64 of shape"),
        (truncate, "damaged"),
        (not_a_batch, "data_batch_1 holds a list"),
        (lambda folder: (folder / "data_batch_4").unlink(), "incomplete: data_batch_4 missing"),
        (lambda folder: (folder / "batches.meta").unlink(), "incomplete: batches.meta missing"),
    ],
)
def test_damaged_cifar(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    write_cifar(tmp_path, 10)
    damage(tmp_path / "cifar-10-batches-py")
    with pytest.raises(DataError, match=message) as caught:
        load("cifar10", data_root=tmp_path)
    assert "\n" not in str(caught.value)
    assert "remove the folder" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "file"), [("svhn", "train_32x32.mat"), ("fashion-mnist", "train-images-idx3-ubyte.gz")]
)
def test_damaged_files_of_other_formats(tmp_path: Path, name: str, file: str) -> None:
    write_svhn(tmp_path)
    write_idx(tmp_path, compressed=True)
    content = (tmp_path / file).read_bytes()
    for broken in (b"", b"something else", content[: len(content) // 2]):
        (tmp_path / file).write_bytes(broken)
        with pytest.raises(DataError, match="damaged"):
            load(name, data_root=tmp_path)


@pytest.mark.parametrize("name", CLASSES)
def test_nothing_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"was not found in .* and downloading is off: put .* there"):
        load(name, data_root=tmp_path, download=False)
    with pytest.raises(DataError, match=r"could not be downloaded .*no network.*: put .* there") as caught:
        load(name, data_root=tmp_path)
    assert "\n" not in str(caught.value)


def test_local_files_are_never_replaced_by_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path, 10)
    (tmp_path / "cifar-10-batches-py" / "test_batch").unlink()

    def fail(root: Path) -> None:
        pytest.fail("downloaded over local files")

    replaced = dataclasses.replace(named.named_set("cifar10"), download=fail)
    monkeypatch.setattr(named, "named_set", {"cifar10": replaced}.__getitem__)
    classes = load("cifar10", data_root=tmp_path).classes
    with pytest.raises(DataError, match="test_batch missing"):
        load_test("cifar10", data_root=tmp_path, classes=classes, image_size=32, channels=3)


def test_a_download_goes_to_the_default_folder_and_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    downloads = []

    def download(root: Path) -> None:
        downloads.append(root)
        write_cifar(root, 10)

    replaced = dataclasses.replace(named.named_set("cifar10"), download=download)
    monkeypatch.setattr(named, "named_set", {"cifar10": replaced}.__getitem__)
    monkeypatch.setenv("SIMROOT_DATA", str(tmp_path / "data"))
    assert len(load("cifar10").train) == len(load("cifar10").train) == 200
    assert downloads == [tmp_path / "data"]
    monkeypatch.delenv("SIMROOT_DATA")
    assert named.default_data_root() == Path.home() / ".cache" / "simroot"


def test_named_sets_take_size_limit_and_validation(tmp_path: Path) -> None:
    write_idx(tmp_path, compressed=True)
    data = load("fashion-mnist", data_root=tmp_path, image_size=14, validation=20, limit=30)
    assert (data.image_size, len(data.train), len(data.val)) == (14, 30, 20)
    assert data.train.labels.bincount().tolist() == [3] * 10
    test = load_test("fashion-mnist", data_root=tmp_path, classes=data.classes[::-1], image_size=14, channels=3)
    assert test.labels.tolist()[:3] == [9, 8, 7]
    pixels = test.read(torch.arange(2))
    assert pixels.shape == (2, 3, 14, 14)
    assert torch.equal(pixels[:, 0], pixels[:, 2])


def test_a_network_of_other_classes_cannot_be_tested(tmp_path: Path) -> None:
    write_cifar(tmp_path, 10)
    with pytest.raises(DataError, match="does not know: class 0, class 1"):
        load_test("cifar10", data_root=tmp_path, classes=("cat", "dog"), image_size=32, channels=3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"data": np.zeros((2, 3072), np.float32), "labels": [0, 1]}, "its images are no bytes"),
        ({"data": [[0] * 3072] * 2, "labels": [0, 1]}, "its images are no bytes"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": ["0", "1"]}, "its labels are no whole numbers"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1 << 70]}, "damaged"),
        ({"data": np.zeros((2, 3072), np.uint8)}, "damaged"),
        ({"data": np.array([None], dtype=object), "labels": [0]}, "an array that is not of numbers"),
    ],
)
def test_cifar_of_other_types(tmp_path: Path, content: object, reason: str) -> None:
    write_cifar(tmp_path, 10)
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=reason):
        load("cifar10", data_root=tmp_path)


def test_a_compressed_file_is_not_unpacked_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path, compressed=True)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.write_bytes(gzip.compress(bytes((0, 0, 8, 3)) + struct.pack(">3i", 60, 28, 28) + bytes(10**6)))
    monkeypatch.setattr(named, "_LARGEST", 10**5)
    with pytest.raises(DataError, match="holds more than 100,000 bytes"):
        load("fashion-mnist", data_root=tmp_path)


def test_matlab_files_of_other_things(tmp_path: Path) -> None:
    write_svhn(tmp_path)
    for content in ({"X": np.array(["a", 1], dtype=object), "y": 1}, {"X": "text", "y": 1}, {"y": 1}):
        savemat(tmp_path / "train_32x32.mat", content)
        with pytest.raises(DataError, match="damaged"):
            load("svhn", data_root=tmp_path)
