"""load: a data set by its name, or any folder or archive of images by its path."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from simroot.data.arrays import FIFTH, assemble, fitted, hold_out
from simroot.data.choices import Asked
from simroot.data.classes import class_line
from simroot.data.columns import Columns
from simroot.data.folders import Labelled, check_known, labelled_parts, labelled_test
from simroot.data.forms import expanded
from simroot.data.leaks import group_lines
from simroot.data.named import load_named
from simroot.data.names import NAMES
from simroot.data.reading import decode_files, log_channels
from simroot.data.splits import ImageData, MemorySplit, Split
from simroot.errors import DataError, nearest
from simroot.images.listing import name_text
from simroot.images.preparation import AUTO, ImageSize

_ADDRESS = re.compile(r"[a-zA-Z][\w+.-]+:/")

logger = logging.getLogger("simroot")


def load(
    name_or_path: str | Path = "digits",
    *,
    data_root: str | Path | None = None,
    image_size: ImageSize | None = None,
    fit: str = AUTO,
    pixel_range: str | tuple[float, float] = AUTO,
    background: str | tuple[int, int, int] = AUTO,
    validation: float | int | None = None,
    seed: int = 0,
    limit: int | None = None,
    download: bool = True,
    check: bool = True,
    train: str | Path | None = None,
    val: str | Path | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
    group_level: int | None = None,
    image_root: str | Path | None = None,
    near_duplicates: bool = False,
    multi_label: bool = False,
) -> ImageData:
    """Images to train on.

    A path is a folder, or a .tar, .tar.gz, .tgz or .zip archive of one, that holds ``train`` and ``val`` or ``test``,
    each with a folder of images per class, or only the class folders; one folder around all that does no harm.
    Or it is a table, .csv, .tsv or .jsonl, of paths and labels; one or several .parquet files; a folder that the
    datasets package has saved; or WebDataset shards, as in ``shards/{000..099}.tar``. See ``docs/data.md``.
    Without ``val`` and ``test`` a validation part is held out of the training part. The official test part of a named
    set is never touched: its validation part is held out of the training part too.

    Args:
        name_or_path: "digits", "cifar10", "cifar100", "svhn", "fashion-mnist", or a path.
        data_root: the folder of a named set's files (default: $SIMROOT_DATA, or ~/.cache/simroot).
        image_size: side in pixels to which all images are brought, or height and width. Default: their own size if all
            are square, alike and at most 64, else 64.
        fit: how images of another shape are brought to it: "crop" their middle, "pad" them or "stretch" them (see
            ``simroot.images.preparation``). "auto" crops if that cuts away less than a quarter of the training images'
            pixels; else it stretches if nearly all have about one shape (within a quarter), and pads if not.
        pixel_range: of greys of more than 8 bits, the values that become black and white: (low, high), or "full", 0 to
            65535 or of floats 0 to 1. "auto" is the range of the training images, without odd pixels and images; the
            full one if they use half of it.
        background: behind transparent pixels and around padded images: "white", "black" or (red, green, blue). "auto"
            is white, or where drawings fade on it black or grey; padding without transparency has the mean colour.
        validation: what to hold out: a fraction below 1 or a number of images. Default: 360 of the digits, 10,000 of
            CIFAR's and SVHN's training images, a sixth of Fashion-MNIST's, a fifth of a folder's.
        seed: of the held-out part and of ``limit``, in which the classes keep their proportions.
        limit: train on so many images only.
        download: fetch a named set that is not in ``data_root``.
        check: decode every image of a folder once before the training, to leave out corrupt ones and for exact means.
            Otherwise images too large to be kept in memory are first read when they are needed, a corrupt one ends the
            training, and the means are those of a thousand images.
        train: the folder to train on, inside ``name_or_path`` or a path of its own, if the folders' names do not say
            so. Its folders are the classes. Without ``val`` a part of it is held out.
        val: likewise the folder to validate on.
        image_column: of tables, the column of the images (default: found by its name or type).
        label_column: likewise of their classes.
        split_column: likewise of the words train, val and test; empty for none.
        group_column: of tables, the column of what stays on one side where a part is held out, such as the person in an
            image.
        group_level: likewise of folders: 1 for the folders inside of the class folders, 2 for those inside of these.
            Folders of one name are one group, whatever their class.
        image_root: the folder that the paths of a table start from and stay in (default: that of the table).
        near_duplicates: compare what training and validation images look like, and say which are alike. That they have
            the same pixels is always said.
        multi_label: an image may have any number of classes, also none. Of tables: the label is a list of names, or a
            text with ``|`` between. Without it lists are refused.

    Raises:
        DataError: there is nothing to train on there; the message says why and what to do.
    """
    columns = Columns.of(
        {
            "image_column": image_column,
            "label_column": label_column,
            "split_column": split_column,
            "group_column": group_column,
            "group_level": group_level,
            "image_root": image_root,
            "multi_label": multi_label,
        }
    )
    name, asked = str(name_or_path), Asked.of(image_size, None, fit, pixel_range, background)
    if name_or_path in NAMES:
        if train is not None or val is not None:
            raise DataError(f"{name} has parts of its own: train and val go with the path of a folder or an archive")
        columns.require_none(f"{name} is a named set")
        if columns.level is not None:
            raise DataError(f"{name} is a named set without folders: leave out --group-level (group_level= of load)")
        _say_namesake(name)
        images, classes, held_out = load_named(name, "train", data_root, download)
        preparation = asked.settled_for(images.images)
        images = MemorySplit(fitted(images.images, preparation), images.labels)
        data = assemble(
            name,
            classes,
            images,
            None,
            validation=validation,
            default=round(held_out * len(images)) or 1,
            seed=seed,
            limit=limit,
            preparation=preparation,
            near=near_duplicates,
        )
        return replace(data, named=name, origins=_origins("the named set", None))
    return _load_path(_path(name), asked, validation, seed, limit, check, train, val, columns, near_duplicates)


def load_test(
    name_or_path: str | Path,
    *,
    classes: Sequence[str],
    image_size: ImageSize,
    channels: int,
    fit: str = "crop",
    pixel_range: str | tuple[float, float] = "full",
    background: str | tuple[int, int, int] = "white",
    data_root: str | Path | None = None,
    download: bool = True,
    **columns: Any,
) -> Split:
    """Images to evaluate a trained network on, for its ``classes`` and prepared as ``Preparation.to_dict`` says.

    The official test part of a named set; of a path ``test``, or else ``val``, or else all of its class folders.
    ``columns`` are those arguments of ``load`` that say where they are in tables.

    Raises:
        DataError: there is no such part, or it has a class that the network does not know.
    """
    prepared = Asked.of(image_size, channels, fit, pixel_range, background)
    return load_labelled(name_or_path, classes, prepared, data_root, download, Columns.of(columns))[1]


def load_labelled(
    name_or_path: str | Path,
    classes: Sequence[str],
    asked: Asked,
    data_root: str | Path | None = None,
    download: bool = True,
    columns: Columns | None = None,
) -> tuple[str, Split]:
    """The images of ``load_test`` and the part that they are: ``"test"``, ``"val"`` or ``"whole"``."""
    name, columns = str(name_or_path), columns or Columns()
    if name_or_path in NAMES:
        columns.require_none(f"{name} is a named set")
        split, names, _ = load_named(name, "test", data_root, download)
        _say_namesake(name)
        check_known(name, names, classes)
        index = torch.tensor([list(classes).index(known) for known in names])
        preparation = asked.settled(*asked.shape([]), [])
        log_channels(split.images.shape[1], preparation.channels)
        return "test", MemorySplit(fitted(split.images, preparation), index[split.labels])
    part, found = labelled_test(_path(name), classes, columns)
    images = decode_files(found.files, torch.from_numpy(found.labels), asked)[0]
    kind = {"test": "test", "val": "validation"}.get(part, "labelled")
    logger.info("%s", class_line(classes, images.labels, kind, found.where))
    return part, images


def _load_path(
    path: Path,
    asked: Asked,
    validation: float | int | None,
    seed: int,
    limit: int | None,
    check: bool,
    train: str | Path | None,
    val: str | Path | None,
    columns: Columns,
    near: bool,
) -> ImageData:
    parts = labelled_parts(path, train, val, columns)
    return load_files(
        _title(path), *parts, asked, validation=validation, seed=seed, limit=limit, check=check, near=near
    )


def load_files(
    name: str,
    classes: tuple[str, ...],
    first: Labelled,
    second: Labelled | None,
    asked: Asked,
    *,
    validation: float | int | None = None,
    seed: int = 0,
    limit: int | None = None,
    check: bool = True,
    near: bool = False,
) -> ImageData:
    """Data to train on from files with labels; what is not asked for, and the rest, as ``load``."""
    files, labels = list(first.files), torch.from_numpy(first.labels)
    if second:
        files, labels = files + second.files, torch.cat((labels, torch.from_numpy(second.labels)))
    training = torch.arange(len(files)) < len(first.files)
    if not second:
        groups = [file.group for file in files]
        training[hold_out(labels, validation, FIFTH, seed, groups)[0]] = False
    split, preparation, kept, skipped = decode_files(files, labels, asked, training, check=check)
    train_part, val_part = split, None
    if second:
        in_train = kept < len(first.files)
        train_part, val_part = (split.subset(chosen.nonzero().flatten()) for chosen in (in_train, ~in_train))
    data = assemble(
        name,
        classes,
        train_part,
        val_part,
        validation=validation,
        default=FIFTH,
        seed=seed,
        limit=limit,
        preparation=preparation,
        skipped=skipped,
        groups=[files[index].group for index in kept.tolist()],
        near=near,
    )
    if second:
        on_both = group_lines([file.group for file in first.files], [file.group for file in second.files])
        data = replace(data, notes=(*on_both, *data.notes))
    return replace(data, origins=_origins(first.where, second.where if second else None))


def _title(path: Path) -> str:
    """What people call data: the name of its file or folder; of a pattern, that of the folder."""
    return name_text((path if path.exists() else path.parent).resolve().name)


def _origins(train: str, val: str | None) -> tuple[str, str]:
    return train, f"{train}, held out" if val is None else val


def _say_namesake(name: str) -> None:
    if Path(name).exists():
        logger.warning("%s is the named data set here, not the path of that name: give ./%s for it", name, name)


def _path(name: str) -> Path:
    path = Path(name).expanduser()
    if next(expanded(path)).exists():
        return path
    if _ADDRESS.match(name):
        raise DataError(f"{name} is an address: images are read from files; download it first")
    hint = nearest(name, NAMES, most=1, otherwise="expected a path or one of")
    raise DataError(f"there is no data set or file {name}: {hint}")
