"""Named data sets in their own files, as torchvision downloads them; the digits come with scikit-learn.

Files are read here rather than by torchvision's classes, which refuse every file whose checksum is not the official
one and unpickle without restriction: a set made locally, or a smaller one, loads too, with a warning.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from simroot.data.array_pickles import read_arrays
from simroot.data.splits import MemorySplit
from simroot.errors import DataError
from simroot.untrusted.documents import require_regular

_NUMERALS = tuple("0123456789")
# Bytes of a file, or of what it stands for: several times those of the sets here.
_LARGEST = 1 << 29
_MATLAB_NUMBERS = ("uint8", "uint16", "int32", "uint32", "int64", "double", "single", "int16", "int8", "uint64")

logger = logging.getLogger("simroot")

Arrays = tuple[NDArray[Any], NDArray[Any]]  # uint8 images (N,C,S,S), labels (N,)


@dataclass(frozen=True)
class NamedSet:
    """Where the files of a data set lie below the data folder, how to download them and how to read a part.

    ``held_out`` is the share of the official training part that becomes the validation part; ``classes`` reads their
    names in the folder; a file whose checksum is not in ``checksums`` is read with a warning.
    """

    folders: tuple[str, ...]
    files: Mapping[str, tuple[str, ...]]
    checksums: Mapping[str, str]
    download: Callable[[Path], object]
    read: Callable[[Sequence[Path]], Arrays]
    classes: Callable[[Path], tuple[str, ...]]
    held_out: float


def default_data_root() -> Path:
    """$SIMROOT_DATA, or ~/.cache/simroot."""
    return Path(os.environ.get("SIMROOT_DATA") or Path.home() / ".cache" / "simroot")


def load_named(
    name: str, part: str, data_root: str | Path | None, download: bool
) -> tuple[MemorySplit, tuple[str, ...], float]:
    """The official ``part`` ("train" or "test") of a data set, its classes and the share of it to hold out.

    Raises:
        DataError: no such part, or files that are missing and cannot be downloaded, or are damaged.
    """
    if name == "digits":
        if part == "test":
            raise DataError("digits has no test part: its validation part is all that is held out")
        return _digits()
    known = named_set(name)
    root = Path(data_root).expanduser() if data_root is not None else default_data_root()
    folder = _find(name, root)
    if folder is None:
        folder = _download(name, root, download)
    paths = [_existing(folder, file) for file in known.files[part]]
    missing = [file for file, path in zip(known.files[part], paths, strict=True) if path is None]
    if missing:
        raise DataError(
            f"{name} in {folder} is incomplete: {', '.join(missing)} missing; add the files, or remove the folder to"
            " download them again"
        )
    found = [path for path in paths if path is not None]
    _check_sums(found, known.checksums)
    try:
        images, labels = known.read(found)
        classes = known.classes(folder)
        _check_arrays(images, labels, len(classes))
    except Exception as error:  # damaged files make their readers raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{name} in {folder} is damaged ({reason}): replace the files, or remove the folder to download them again"
        ) from error
    target = torch.from_numpy(labels.astype(np.int64))
    return MemorySplit(torch.from_numpy(np.ascontiguousarray(images)), target), classes, known.held_out


def _digits() -> tuple[MemorySplit, tuple[str, ...], float]:
    """scikit-learn's 1,797 digits, 8 x 8, 0..16 scaled to 0..255; 360 of them to be held out."""
    from sklearn.datasets import load_digits  # only this data set needs it, and it is slow to import

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    return MemorySplit(torch.from_numpy(images), labels), _NUMERALS, 360 / 1797


def _existing(folder: Path, file: str) -> Path | None:
    """The file, or its compressed form."""
    return next((path for path in (folder / file, folder / f"{file}.gz") if path.is_file()), None)


def _find(name: str, root: Path) -> Path | None:
    """The first folder that holds any file of the set."""
    known = named_set(name)
    files = [file for part in known.files.values() for file in part]
    folders = [root / folder for folder in known.folders]
    return next((folder for folder in folders if any(_existing(folder, file) for file in files)), None)


def _download(name: str, root: Path, allowed: bool) -> Path:
    needed = ", ".join(dict.fromkeys(file for part in named_set(name).files.values() for file in part))
    remedy = f"put {needed} there, or give the folder that has them as data root"
    if not allowed:
        raise DataError(f"{name} was not found in {root} and downloading is off: {remedy}")
    logger.info("downloading %s to %s", name, root)
    try:
        named_set(name).download(root)
    except Exception as error:  # urllib, sockets, archives and the file system each have their own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name} was not found in {root} and could not be downloaded ({reason}): {remedy}") from error
    folder = _find(name, root)
    if folder is None:
        raise DataError(f"{name} was downloaded to {root} but its files are not there: {remedy}")
    return folder


def _check_sums(paths: Sequence[Path], checksums: Mapping[str, str]) -> None:
    for path in paths:
        require_regular(path, _LARGEST)
        expected = checksums.get(path.name)
        if expected and hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != expected:
            logger.warning("%s is not the official file (its checksum differs): read as it is", path)


def _check_arrays(images: NDArray[Any], labels: NDArray[Any], classes: int) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[2] != images.shape[3] or len(images) == 0:
        raise ValueError(f"images are {images.dtype} of shape {images.shape}")
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{len(images)} images, but labels are {labels.dtype} of shape {labels.shape}")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels go from {labels.min()} to {labels.max()} for {classes} classes")


def _read_cifar(paths: Sequence[Path]) -> Arrays:
    batches = [read_arrays(path) for path in paths]
    images = np.concatenate([_pixels(batch["data"]).reshape(-1, 3, 32, 32) for batch in batches])
    labels = [batch["labels"] if "labels" in batch else batch["fine_labels"] for batch in batches]
    return images, np.concatenate([_integers(part) for part in labels])


def _pixels(value: Any) -> NDArray[np.uint8]:
    if not isinstance(value, np.ndarray) or value.dtype != np.uint8:
        raise TypeError("its images are no bytes")
    return value


def _integers(value: Any) -> NDArray[Any]:
    if isinstance(value, list) and all(isinstance(label, int | np.integer) for label in value):
        value = np.array(value, dtype=np.int64)
    if not isinstance(value, np.ndarray) or value.ndim != 1 or value.dtype.kind not in "iu":
        raise TypeError("its labels are no whole numbers")
    return value


def _read_svhn(paths: Sequence[Path]) -> Arrays:
    from scipy.io import loadmat, whosmat  # only this data set needs it, and it is slow to import

    # Looked at before they are read: a file of few bytes can hold arrays of any size, or of objects.
    kinds = {name: (shape, kind) for name, shape, kind in whosmat(paths[0])}
    for name in ("X", "y"):
        shape, kind = kinds[name]
        if kind not in _MATLAB_NUMBERS or math.prod(shape) * np.dtype(kind).itemsize > _LARGEST:
            raise ValueError(f"{name} is {kind} of shape {shape}")
    content = loadmat(paths[0], variable_names=["X", "y"])
    return content["X"].transpose(3, 2, 0, 1), content["y"].reshape(-1) % 10  # the digit 0 has label 10


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise TypeError("the names of its classes are no words")
    return tuple(value)


def _read_idx(paths: Sequence[Path]) -> Arrays:
    images, labels = (_idx(path) for path in paths)
    return images[:, None], labels


def _idx(path: Path) -> NDArray[np.uint8]:
    """The IDX format for bytes: 0, 0, 8, the number of dimensions, each as big-endian int32, then the values."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        content = file.read(_LARGEST + 1)  # a few bytes can stand for any number of them
    if len(content) > _LARGEST:
        raise ValueError(f"{path.name} holds more than {_LARGEST:,} bytes")
    if content[:3] != b"\0\0\x08":
        raise ValueError(f"{path.name} does not start like an IDX file of bytes")
    start = 4 + 4 * content[3]
    shape = tuple(int(size) for size in np.frombuffer(content[4:start], ">u4"))
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


@cache
def named_set(name: str) -> NamedSet:
    """The description of a downloadable data set, built from torchvision's own lists of files and checksums."""
    from torchvision import datasets  # slow to import: the digits and folders of images do without

    if name == "svhn":
        parts = {part: datasets.SVHN.split_list[part] for part in ("train", "test")}
        return NamedSet(
            folders=(".", "svhn"),
            files={part: (file,) for part, (_, file, _) in parts.items()},
            checksums={file: checksum for _, file, checksum in parts.values()},
            download=lambda root: [datasets.SVHN(root, split=part, download=True) for part in parts],
            read=_read_svhn,
            classes=lambda folder: _NUMERALS,
            held_out=10_000 / 73_257,
        )
    if name == "fashion-mnist":
        return NamedSet(
            folders=("FashionMNIST/raw", "raw", ".", "fashion-mnist"),
            files={
                "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
                "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
            },
            checksums=dict(datasets.FashionMNIST.resources),
            download=lambda root: datasets.FashionMNIST(root, download=True),
            read=_read_idx,
            classes=lambda folder: tuple(datasets.FashionMNIST.classes),
            held_out=1 / 6,
        )
    official = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    names = str(official.meta["filename"])
    parts = {"train": official.train_list, "test": official.test_list}
    return NamedSet(
        folders=(official.base_folder, ".", name),
        files={part: (*(file for file, _ in entries), names) for part, entries in parts.items()},
        checksums={names: official.meta["md5"], **dict(official.train_list + official.test_list)},
        download=lambda root: official(root, download=True),
        read=lambda paths: _read_cifar(paths[:-1]),
        classes=lambda folder: _names(read_arrays(folder / names)[official.meta["key"]]),
        held_out=1 / 5,
    )
