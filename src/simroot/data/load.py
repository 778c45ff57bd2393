"""load: a data set by its name, or any folder or archive of images by its path."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

import torch

from simroot.data.arrays import FIFTH, assemble, to_shape
from simroot.data.files import decode_files
from simroot.data.named import load_named
from simroot.data.names import NAMES
from simroot.data.splits import ImageData, MemorySplit, Split
from simroot.data.tree import WHOLE, ImageFile, read_tree
from simroot.errors import DataError


def load(
    name_or_path: str | Path = "digits",
    *,
    data_root: str | Path | None = None,
    image_size: int | None = None,
    validation: float | int | None = None,
    seed: int = 0,
    limit: int | None = None,
    download: bool = True,
    check: bool = True,
) -> ImageData:
    """Images to train on.

    A path is a folder, or a .tar, .tar.gz, .tgz or .zip archive of one, that holds ``train`` and ``val`` or ``test``,
    each with a folder of images per class, or only the class folders; one folder around all that does no harm.
    Without ``val`` and ``test`` a validation part is held out of the training part. The official test part of a named
    set is never touched: its validation part is held out of the training part too.

    Args:
        name_or_path: "digits", "cifar10", "cifar100", "svhn", "fashion-mnist", or a path.
        data_root: the folder of a named set's files (default: $SIMROOT_DATA, or ~/.cache/simroot).
        image_size: side in pixels to which all images are brought: the shorter side is resized, the centre cropped.
            Default: their own size if all are square, alike and at most 64, else 64.
        validation: what to hold out: a fraction below 1 or a number of images. Default: 360 of the digits, 10,000 of
            CIFAR's and SVHN's training images, a sixth of Fashion-MNIST's, a fifth of a folder's.
        seed: of the held-out part and of ``limit``, in which the classes keep their proportions.
        limit: train on so many images only.
        download: fetch a named set that is not in ``data_root``.
        check: decode every image of a folder once before the training, to leave out corrupt ones and for exact means.
            Otherwise images too large to be kept in memory are first read when they are needed, a corrupt one ends the
            training, and the means are those of a thousand images.

    Raises:
        DataError: there is nothing to train on there; the message says why and what to do.
    """
    _check_size(image_size)
    name = str(name_or_path)
    if name_or_path in NAMES:
        train, classes, held_out = load_named(name, "train", data_root, download)
        train = MemorySplit(to_shape(train.images, image_size, None), train.labels)
        default = round(held_out * len(train)) or 1
        return assemble(name, classes, train, None, validation=validation, default=default, seed=seed, limit=limit)
    return _load_path(_path(name), image_size, validation, seed, limit, check)


def load_test(
    name_or_path: str | Path,
    *,
    classes: Sequence[str],
    image_size: int,
    channels: int,
    data_root: str | Path | None = None,
    download: bool = True,
) -> Split:
    """Images to evaluate a trained network on, prepared for its ``classes``, ``image_size`` and ``channels``.

    The official test part of a named set; of a path ``test``, or else ``val``, or else all of its class folders.

    Raises:
        DataError: there is no such part, or it has a class that the network does not know.
    """
    _check_size(image_size)
    name = str(name_or_path)
    if name_or_path in NAMES:
        split, names, _ = load_named(name, "test", data_root, download)
        _check_known(name, names, classes)
        index = torch.tensor([list(classes).index(known) for known in names])
        return MemorySplit(to_shape(split.images, image_size, channels), index[split.labels])
    tree = read_tree(_path(name))
    part = next((part for part in ("test", "val", WHOLE) if part in tree), None)
    if part is None:
        raise DataError(f"{name} has only a train folder: expected test or val, or only class folders")
    _check_known(name, tuple(tree[part]), classes)
    files, labels = _flat(tree[part], classes)
    return decode_files(files, torch.tensor(labels), image_size, channels)[0]


def _load_path(
    path: Path, image_size: int | None, validation: float | int | None, seed: int, limit: int | None, check: bool
) -> ImageData:
    tree = read_tree(path)
    train = tree.get("train") or tree.get(WHOLE)
    if train is None:
        raise DataError(f"{path} has {' and '.join(sorted(tree))} but no train folder")
    val = tree.get("val", tree.get("test", {}))
    classes = tuple(train)
    if val:
        only_train, only_val = sorted(set(train) - set(val)), sorted(set(val) - set(train))
        if only_train or only_val:
            raise DataError(
                f"{path}: training and validation part have different classes (only in training:"
                f" {', '.join(only_train) or 'none'}; only in validation: {', '.join(only_val) or 'none'})"
            )
    if len(classes) < 2:
        raise DataError(f"{path} has one class ({classes[0]}): expected at least 2 class folders")
    train_files, train_labels = _flat(train, classes)
    val_files, val_labels = _flat(val, classes)
    split, kept, skipped = decode_files(
        train_files + val_files, torch.tensor(train_labels + val_labels), image_size, None, check=check
    )
    train_part, val_part = split, None
    if val:
        in_train = kept < len(train_files)
        train_part, val_part = (split.subset(chosen.nonzero().flatten()) for chosen in (in_train, ~in_train))
    return assemble(
        path.resolve().name,
        classes,
        train_part,
        val_part,
        validation=validation,
        default=FIFTH,
        seed=seed,
        limit=limit,
        skipped=skipped,
    )


def _flat(tree: dict[str, list[ImageFile]], classes: Sequence[str]) -> tuple[list[ImageFile], list[int]]:
    pairs = [(file, classes.index(name)) for name, files in tree.items() for file in files]
    return [file for file, _ in pairs], [label for _, label in pairs]


def _path(name: str) -> Path:
    path = Path(name).expanduser()
    if path.exists():
        return path
    near = difflib.get_close_matches(name, NAMES, 1)
    hint = f"did you mean {near[0]}?" if near else f"expected a path or one of {', '.join(NAMES)}"
    raise DataError(f"there is no data set or file {name}: {hint}")


def _check_size(image_size: int | None) -> None:
    if image_size is not None and image_size < 1:
        raise DataError(f"image_size is {image_size}, expected at least 1 pixel")


def _check_known(name: str, found: Sequence[str], classes: Sequence[str]) -> None:
    unknown = sorted(set(found) - set(classes))
    if unknown:
        raise DataError(f"{name} has classes that the network does not know: {', '.join(unknown)}")
