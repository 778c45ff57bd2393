"""From arrays to ImageData: checks, held-out part, subset, statistics."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional

from simroot.data.groups import grouped
from simroot.data.labels import class_counts, require_classes
from simroot.data.leaks import shared_lines
from simroot.data.splits import ImageData, MemorySplit, Split, mean_and_std, stratified
from simroot.errors import DataError, counted
from simroot.images.preparation import ImageSize, Preparation, as_image_size, sides

FIFTH = 0.2
FLAT = 0.01  # standard deviation of a channel, of 1, below which it is almost constant
_GREY = (0.299, 0.587, 0.114)  # ITU-R 601, as Pillow converts

logger = logging.getLogger("simroot")


def from_arrays(
    images: ArrayLike | Tensor,
    labels: ArrayLike | Tensor,
    classes: Sequence[str] | None = None,
    *,
    val_images: ArrayLike | Tensor | None = None,
    val_labels: ArrayLike | Tensor | None = None,
    validation: float | int | None = None,
    image_size: int | Sequence[int] | None = None,
    seed: int = 0,
    limit: int | None = None,
    name: str = "arrays",
    multi_label: bool = False,
) -> ImageData:
    """Data to train on from arrays or tensors.

    Args:
        images: (N,S,S), (N,C,S,S) or (N,S,S,C) with C = 1 or 3: uint8, integers in 0..255, booleans, or floats in
            [0, 1], which are rounded to 8 bits.
        labels: integers (N,) from 0 to the number of classes less one.
        classes: their names; by default their numbers.
        val_images: those of the validation part; without, it is held out of the training part.
        val_labels: theirs.
        validation: what to hold out: a fraction below 1 or a number of images (default: a fifth).
        image_size: the side, or height and width, to which the images are resized (default: their own, if they are
            square).
        seed: of the held-out part and of the subset.
        limit: train on so many images only, the classes in proportion.
        name: what to call the data.
        multi_label: ``labels`` are (N, classes), 1 for each class that an image has and 0 for the others.

    Raises:
        DataError: anything else was received.
    """
    size = None if image_size is None else as_image_size(image_size)
    train = _memory_split(images, labels, size, "images", "labels", multi_label)
    if (val_images is None) != (val_labels is None):
        raise DataError("only one of val_images and val_labels was given: expected both or neither")
    val = None
    if val_images is not None and val_labels is not None:
        val = _memory_split(val_images, val_labels, size, "val_images", "val_labels", multi_label)
    count = train.labels.shape[1] if multi_label else min(int(train.labels.max()) + 1, len(train))
    names = tuple(map(str, range(count))) if classes is None else tuple(classes)
    _, channels, height, width = train.images.shape
    preparation = Preparation(channels, as_image_size((height, width)))
    return assemble(
        name,
        names,
        train,
        val,
        validation=validation,
        default=FIFTH,
        seed=seed,
        limit=limit,
        preparation=preparation,
    )


def assemble(
    name: str,
    classes: tuple[str, ...],
    train: Split,
    val: Split | None,
    *,
    validation: float | int | None,
    default: float | int,
    seed: int,
    limit: int | None,
    preparation: Preparation,
    skipped: tuple[str, ...] = (),
    groups: Sequence[str] = (),
    near: bool = False,
) -> ImageData:
    """Checked ImageData; without ``val`` a part of ``train`` is held out, ``validation`` or else ``default``.

    ``groups`` of the training images stay on one side; ``near`` compares what images of both sides look like.
    """
    if len(classes) < 2:
        raise DataError(
            f"{name} has {counted(len(classes), 'class', 'classes')} ({', '.join(classes)}): expected at least 2"
        )
    if len(set(classes)) < len(classes):
        raise DataError(f"{name} names a class twice: {', '.join(classes)}")
    _check_range(name, classes, train, "training")
    if val is None:
        held_out, rest = hold_out(train.labels, validation, default, seed, groups)
        val, train = train.subset(held_out), train.subset(rest)
    elif validation is not None:
        raise DataError(f"{name} has a validation part of its own: leave out validation={validation}")
    _check_range(name, classes, val, "validation")
    if limit is not None:
        if limit < 1:
            raise DataError(f"limit is {limit}, expected at least 1 training image")
        if limit < len(train):
            train = train.subset(stratified(train.labels, limit, seed)[0])
    _check_all_classes(name, classes, train, val)
    first = train.read(torch.tensor([0]))
    if first.shape[1:] != val.read(torch.tensor([0])).shape[1:]:
        raise DataError(f"{name}: training and validation images differ in shape")
    mean, std = mean_and_std(train, math.prod(preparation.size))
    _warn_of_flat_channels(name, std)
    notes = tuple(shared_lines(train, val, near=near))
    return ImageData(name, classes, preparation, train, val, mean, std, skipped, notes=notes)


def to_shape(images: Tensor, image_size: ImageSize | None, channels: int | None) -> Tensor:
    """uint8 (N,C,H,W) resized (bilinear, antialiased) and converted between grey and colour where asked."""
    if channels == 1 and images.shape[1] == 3:
        weights = torch.tensor(_GREY).view(1, 3, 1, 1)
        images = torch.cat(
            [(chunk * weights).sum(1, keepdim=True).round().byte() for chunk in torch.split(images, 1024)]
        )
    elif channels == 3 and images.shape[1] == 1:
        images = images.expand(-1, 3, -1, -1).contiguous()
    if image_size is None or images.shape[2:] == sides(image_size):
        return images
    return functional.interpolate(images, sides(image_size), mode="bilinear", antialias=True)


def hold_out(
    labels: Tensor, validation: float | int | None, default: float | int, seed: int, groups: Sequence[str] = ()
) -> tuple[Tensor, Tensor]:
    """Indices of a validation part, ``validation`` or else ``default``, and of the rest; groups stay on one side."""
    count = _held_out(validation, default, len(labels))
    if any(groups):
        return grouped(labels, groups, count, seed)
    return stratified(labels, count, seed, leave=1)


def _warn_of_flat_channels(name: str, std: Sequence[float]) -> None:
    colours = ("grey",) if len(std) == 1 else ("red", "green", "blue")
    if flat := [colour for colour, deviation in zip(colours, std, strict=True) if deviation < FLAT]:
        logger.warning(
            "%s: the training images are almost constant in %s (standard deviation %.1f of 255): there is little to "
            "learn from; see pixel_range for images of more than 8 bits and background for transparent ones",
            name,
            ", ".join(flat),
            255 * min(std),
        )


def fitted(images: Tensor, preparation: Preparation) -> Tensor:
    """uint8 (N,C,H,W), prepared: what is cut away or padded is rounded to whole pixels of the images."""
    images = to_shape(images, None, preparation.channels)
    height, width = images.shape[2:]
    left, top, right, bottom = map(round, preparation.around(preparation.frame(width, height).box()))
    if left < 0 or top < 0:
        colour = to_shape(torch.tensor(preparation.background).byte().view(1, 3, 1, 1), None, preparation.channels)
        padded = colour.expand(len(images), -1, bottom - top, right - left).clone()
        padded[:, :, -top : height - top, -left : width - left] = images
        return to_shape(padded, preparation.image_size, None)
    return to_shape(images[:, :, top:bottom, left:right], preparation.image_size, None)


def _held_out(validation: float | int | None, default: float | int, count: int) -> int:
    wanted = default if validation is None else validation
    held_out = round(wanted * count) if wanted < 1 else wanted
    if not (0 < held_out < count and held_out == int(held_out)):  # also when NaN
        raise DataError(
            f"validation={wanted} holds out {held_out} of {count} images: expected a fraction between 0 and 1 or a"
            " number of images that leaves some for both parts"
        )
    return int(held_out)


def _check_range(name: str, classes: tuple[str, ...], split: Split, part: str) -> None:
    if len(split) == 0:
        raise DataError(f"{name} has no {part} image that can be used")
    require_classes(split.labels, len(classes), f"{name}: {part} labels")


def _check_all_classes(name: str, classes: tuple[str, ...], train: Split, val: Split) -> None:
    if absent := _absent(classes, train):
        raise DataError(f"{name} has no training image of {absent}: add images, hold out fewer or raise the limit")
    if absent := _absent(classes, val):
        logger.warning("%s has no validation image of %s", name, absent)


def _absent(classes: tuple[str, ...], split: Split) -> str:
    counts = class_counts(split.labels, len(classes)).tolist()
    return ", ".join(label for label, count in zip(classes, counts, strict=True) if count == 0)


def _memory_split(
    images: ArrayLike | Tensor,
    labels: ArrayLike | Tensor,
    image_size: ImageSize | None,
    images_name: str,
    labels_name: str,
    multi_label: bool,
) -> MemorySplit:
    images8, target = pixels(np.asarray(images), images_name, rectangles=image_size is not None), np.asarray(labels)
    if multi_label:
        if target.ndim != 2 or len(target) != len(images8) or not set(np.unique(target).tolist()) <= {0, 1}:
            raise DataError(f"{labels_name} has shape {target.shape}, expected 0 or 1 in ({len(images8)}, classes)")
        return MemorySplit(to_shape(images8, image_size, None), torch.from_numpy(target.astype(np.uint8)))
    if target.ndim == 2 and len(target) == len(images8):
        raise DataError(
            f"{labels_name} has shape {target.shape}, expected one per image; multi_label=True takes 0 and 1"
        )
    if target.shape != (len(images8),):
        raise DataError(f"{labels_name} has shape {target.shape}, expected ({len(images8)},): one per image")
    if not np.issubdtype(target.dtype, np.integer):
        raise DataError(f"{labels_name} are {target.dtype}, expected integers")
    return MemorySplit(to_shape(images8, image_size, None), torch.from_numpy(target.astype(np.int64)))


def pixels(array: np.ndarray, name: str, *, rectangles: bool) -> Tensor:
    """uint8 (N,C,H,W) of any images that ``from_arrays`` takes, checked; raises DataError."""
    shape = array.shape
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and shape[1] not in (1, 3) and shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    square = array.ndim == 4 and array.shape[2] == array.shape[3]
    if array.ndim != 4 or array.shape[1] not in (1, 3) or 0 in shape or not (square or rectangles):
        raise DataError(
            f"{name} has shape {shape}, expected (N,S,S), (N,C,S,S) or (N,S,S,C) with C = 1 or 3; images that are not "
            "square need an image_size"
        )
    if np.issubdtype(array.dtype, np.floating):
        top = 1.0
    elif array.dtype == np.bool_:
        return torch.from_numpy(array.astype(np.uint8) * np.uint8(255))
    elif np.issubdtype(array.dtype, np.integer):
        top = 255.0
    else:
        raise DataError(f"{name} are {array.dtype}, expected uint8 or floats in [0, 1]")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= top):  # also when NaN
        raise DataError(f"{name} of {array.dtype} hold values from {low:g} to {high:g}, expected 0 to {top:g}: rescale")
    scaled = np.rint(array * 255.0) if top == 1.0 else array
    return torch.from_numpy(np.ascontiguousarray(scaled, dtype=np.uint8))
