"""What a run knows of its images: which it was trained on, which it was validated with, and where they are found again.

Two images are the same if their pixels are, as the network takes them. For images that were not decoded before
the training, names and sizes of the files stand for the pixels.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from simroot.data import ImageData, MemorySplit, Split
from simroot.data.labels import as_numbers
from simroot.data.splits import stratified
from simroot.errors import CheckpointError
from simroot.training.writing import write_atomic

IMAGES = "images.safetensors"
# Images of data that cannot be loaded again.
KEPT = "kept.safetensors"

_MOST_KEPT = 2**24  # bytes of validation images
_CALIBRATION = 512

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Known:
    """The images of a run.

    Attributes:
        what: ``"pixels"`` or ``"names"``: what the hashes are of.
        train, val: int64 (N, 2): the hash of each image, and its label, as a number if it may have several.
    """

    what: str
    train: Tensor
    val: Tensor

    @classmethod
    def of(cls, data: ImageData) -> Known:
        """The images of data to train on."""
        what = (
            "pixels" if data.train.hashes("pixels") is not None and data.val.hashes("pixels") is not None else "names"
        )
        return cls(what, _pairs(data.train, what), _pairs(data.val, what))

    def changes(self, data: ImageData) -> str | None:
        """What of the images is other than it was, for people; None if they are the same.

        The order of the training images counts, as another one is another training.
        """
        now = Known.of(data)
        if now.what != self.what:
            return None  # not comparable: means and numbers of images have been compared
        for part, before, after in (("training", self.train, now.train), ("validation", self.val, now.val)):
            others = sum((Counter(before[:, 0].tolist()) - Counter(after[:, 0].tolist())).values())
            if others:
                return f"{others} of its {len(before)} {part} images are others"
            labels = sum((Counter(_tuples(before)) - Counter(_tuples(after))).values())
            if labels:
                return f"{labels} of its {len(before)} {part} images have other labels"
        if not torch.equal(self.train, now.train):
            return "its training images come in another order, as after files were renamed"
        return None

    def trained_on(self, split: Split) -> Tensor | None:
        """Bool (N,): which images of a split the run was trained on; None if that cannot be known."""
        hashes = split.hashes(self.what)
        return None if hashes is None else torch.isin(hashes, self.train[:, 0])

    def validation(self, split: Split, *, all_of_it: bool) -> Tensor | None:
        """Indices of the run's validation images if a split holds them and nothing unknown, else None.

        Args:
            split: images, with the run's labels.
            all_of_it: the split is to hold the training images, too.
        """
        hashes = split.hashes(self.what)
        if hashes is None:
            return None
        pairs = _tuples(torch.stack((hashes, as_numbers(split.labels)), 1))
        left = Counter(_tuples(self.val))
        expected = left + Counter(_tuples(self.train)) if all_of_it else left
        if Counter(pairs) != expected:
            return None
        chosen = []
        for index, pair in enumerate(pairs):
            if left[pair] > 0:
                left[pair] -= 1
                chosen.append(index)
        return torch.tensor(chosen)


def save_known(path: Path, data: ImageData) -> None:
    """Write ``images.safetensors``."""
    known = Known.of(data)
    tensors = {f"{known.what}.train": known.train.contiguous(), f"{known.what}.val": known.val.contiguous()}
    write_atomic(path / IMAGES, lambda file: file.write(safetensors.torch.save(tensors)))


def read_known(path: Path) -> Known | None:
    """What ``save_known`` wrote into a run directory; None of a run of before there was such a file.

    Raises:
        CheckpointError: if it is damaged.
    """
    if not (path / IMAGES).exists():
        return None
    tensors = _tensors(path / IMAGES)
    for what in ("pixels", "names"):
        train, val = tensors.get(f"{what}.train"), tensors.get(f"{what}.val")
        if train is not None and val is not None and all(_is_table(table) for table in (train, val)):
            return Known(what, train, val)
    raise CheckpointError(f"{path / IMAGES} is damaged: it lacks the hashes of the images")


def _is_table(table: Tensor) -> bool:
    return table.dtype == torch.int64 and table.ndim == 2 and table.shape[1] == 2


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        if not path.is_file():
            raise OSError("no regular file")
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged or truncated: {error}") from error


def _pairs(split: Split, what: str) -> Tensor:
    hashes = split.hashes(what)
    assert hashes is not None
    return torch.stack((hashes, as_numbers(split.labels)), 1)


def _tuples(pairs: Tensor) -> list[tuple[int, int]]:
    return [(first, second) for first, second in pairs.tolist()]


def keep_images(path: Path, data: ImageData, source: Mapping[str, Any] | None) -> None:
    """Keep validation images, and some to calibrate with, of data that cannot be loaded again, such as arrays."""
    if source is not None or data.train.images is None or data.val.images is None:
        return
    val, size = data.val, data.val.images[0].numel()
    if (most := max(_MOST_KEPT // size, 1)) < len(val):
        val = val.subset(stratified(val.labels, most, 0)[0])
        log.info("%d of the %d validation images are kept in the run, for evaluation and export", most, len(data.val))
    some = stratified(data.train.labels, min(_CALIBRATION, most, len(data.train)), 0)[0]
    assert val.images is not None
    tensors = {
        "val.images": val.images.contiguous(),
        "val.labels": val.labels,
        "train.images": data.train.read(some).contiguous(),
        "train.labels": data.train.labels[some],
    }
    write_atomic(path / KEPT, lambda file: file.write(safetensors.torch.save(tensors)))


def kept_images(
    path: Path, shape: tuple[int, ...], classes: int, *, multi_label: bool = False
) -> tuple[MemorySplit, MemorySplit] | None:
    """The images of ``keep_images``, training ones first; None if there are none.

    Raises:
        CheckpointError: if the file is damaged, or the images do not fit a network of this input and these classes.
    """
    if not (path / KEPT).exists():
        return None
    tensors = _tensors(path / KEPT)
    splits = []
    for part in ("train", "val"):
        images, labels = tensors.get(f"{part}.images"), tensors.get(f"{part}.labels")
        if (
            images is None
            or labels is None
            or (images.dtype, labels.dtype) != (torch.uint8, torch.uint8 if multi_label else torch.int64)
            or tuple(images.shape[1:]) != shape
            or labels.shape != (len(images), classes)[: 1 + multi_label]
            or not len(labels)
            or not 0 <= int(labels.min()) <= int(labels.max()) < (2 if multi_label else classes)
        ):
            raise CheckpointError(f"{path / KEPT} is damaged: it has no {part} images that fit the network")
        splits.append(MemorySplit(images, labels))
    return splits[0], splits[1]
