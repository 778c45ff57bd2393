"""The two parts of a data set: in memory or read from files as needed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from simroot.data.crop import Window, window
from simroot.data.hashes import name_hash, pixel_hashes
from simroot.data.labels import held_out, is_multi_label
from simroot.errors import DataError
from simroot.images.decoding import decode_array, reason
from simroot.images.listing import ImageFile
from simroot.images.preparation import ImageSize, Preparation
from simroot.images.sources import size_of

_CHUNK = 1024
_SAMPLE = 1024  # images from which the statistics of unchecked ones are estimated
_READ = 64
_WHOLE = window("whole", train=False)


class Split(ABC):
    """Labelled images of one shape.

    ``labels`` is int64 (N,), or uint8 (N, classes) where an image may have any number of classes; ``images`` is uint8
    (N,C,H,W), or None when streamed; ``names`` are those of their files, or None of arrays.
    """

    labels: Tensor
    images: Tensor | None = None
    names: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def read(self, indices: Tensor, seen: Window = _WHOLE) -> Tensor:
        """The images at ``indices`` (B,) as uint8 (B,C,H,W); of those in memory always the whole is seen."""

    @abstractmethod
    def subset(self, indices: Tensor) -> Split:
        """The split of the images at ``indices``, in that order."""

    @abstractmethod
    def hashes(self, what: str = "pixels") -> Tensor | None:
        """int64 (N,): a hash of each image's ``"pixels"``, or of the ``"names"`` and sizes of its file and folder.

        None if that is not known: pixels of images that have not been decoded, names of those that are in memory.
        """

    @abstractmethod
    def moments(self) -> Tensor:
        """Sums over all pixels of the values and of their squares: float64 (2,C), exact if the images were checked."""


class MemorySplit(Split):
    """Decoded images kept as uint8 (N,C,H,W)."""

    images: Tensor

    def __init__(self, images: Tensor, labels: Tensor, names: Sequence[str] | None = None) -> None:
        self.images, self.labels, self.names = images, labels, names
        self._hashes: Tensor | None = None

    def read(self, indices: Tensor, seen: Window = _WHOLE) -> Tensor:
        return self.images[indices.to(self.images.device)]

    def on(self, device: torch.device) -> MemorySplit:
        """The same with its pixels on another device."""
        return MemorySplit(self.images.to(device), self.labels)

    def subset(self, indices: Tensor) -> MemorySplit:
        names = None if self.names is None else [self.names[index] for index in indices.tolist()]
        return MemorySplit(self.images[indices], self.labels[indices], names)

    def hashes(self, what: str = "pixels") -> Tensor | None:
        if self._hashes is None:
            self._hashes = pixel_hashes(self.images)
        return self._hashes if what == "pixels" else None

    def moments(self) -> Tensor:
        return torch.stack([pixel_moments(chunk).sum(0) for chunk in torch.split(self.images, _CHUNK)]).sum(0).double()


class StreamedSplit(Split):
    """Encoded images, decoded whenever they are read.

    ``file_moments`` is int64 (N,2,C), sums per file, or None if the images have not been decoded before: the moments
    are then estimated from a thousand of them, always the same. ``file_hashes`` is int64 (N,) or None likewise.
    """

    def __init__(
        self,
        files: Sequence[ImageFile],
        labels: Tensor,
        file_moments: Tensor | None,
        preparation: Preparation,
        file_hashes: Tensor | None = None,
    ) -> None:
        self.files, self.labels, self.file_moments, self.file_hashes = files, labels, file_moments, file_hashes
        self.preparation, self.names = preparation, [file.name for file in files]

    def read(self, indices: Tensor, seen: Window = _WHOLE) -> Tensor:
        images = np.empty((len(indices), *self.preparation.shape), dtype=np.uint8)
        for image, index in zip(images, indices.tolist(), strict=True):
            file = self.files[index]
            try:
                image[:] = decode_array(file.source, self.preparation, partial(seen, index))
            except Exception as error:  # it was readable when the data set was loaded, if it was checked
                found = "cannot be read" if self.file_moments is None else "can no longer be read"
                raise DataError(f"{file.name} {found}: {reason(error)}") from error
        return torch.from_numpy(images)

    def subset(self, indices: Tensor) -> StreamedSplit:
        files = [self.files[index] for index in indices.tolist()]
        moments = None if self.file_moments is None else self.file_moments[indices]
        hashes = None if self.file_hashes is None else self.file_hashes[indices]
        return StreamedSplit(files, self.labels[indices], moments, self.preparation, hashes)

    def hashes(self, what: str = "pixels") -> Tensor | None:
        if what == "pixels":
            return self.file_hashes
        return torch.tensor([name_hash(file.name, size_of(file.source)) for file in self.files])

    def moments(self) -> Tensor:
        if self.file_moments is not None:
            return self.file_moments.sum(0).double()
        sample = evenly(len(self), _SAMPLE)
        sums = [pixel_moments(self.read(indices)).sum(0) for indices in sample.split(_READ)]
        return torch.stack(sums).sum(0).double() * (len(self) / len(sample))


@dataclass(frozen=True)
class ImageData:
    """A training and a validation part with what a network must know about them.

    ``mean`` and ``std`` are per channel, of the training part alone, in units of pixel / 255. ``skipped`` names the
    images that could not be decoded. ``named`` is the name of the named set that this is, and None for other images,
    whatever their folder is called. ``preparation`` says how other images are prepared for a network that these train,
    ``origins`` for people where training and validation images come from, ``notes`` what to know before a training.
    """

    name: str
    classes: tuple[str, ...]
    preparation: Preparation
    train: Split
    val: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    skipped: tuple[str, ...] = ()
    named: str | None = None
    origins: tuple[str, str] = ("arrays", "arrays")
    notes: tuple[str, ...] = ()

    @property
    def multi_label(self) -> bool:
        """Whether an image may have any number of classes."""
        return is_multi_label(self.train.labels)

    @property
    def image_size(self) -> ImageSize:
        """Side of the images, or (height, width)."""
        return self.preparation.image_size

    @property
    def channels(self) -> int:
        """Number of the images' channels: 1 or 3."""
        return self.preparation.channels


def evenly(count: int, most: int) -> Tensor:
    """At most ``most`` of the numbers from 0 to ``count`` - 1, evenly spaced: of sorted files, some of every class."""
    chosen = min(count, most)
    return torch.arange(chosen) * count // max(chosen, 1)


def pixel_moments(images: Tensor) -> Tensor:
    """int64 (N,2,C): per image and channel of uint8 (N,C,H,W), the sum of the values and of their squares."""
    sums = images.sum((2, 3), dtype=torch.int64)
    squares = images.to(torch.int32).square().sum((2, 3), dtype=torch.int64)
    return torch.stack((sums, squares), 1)


def mean_and_std(split: Split, pixels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per channel, of images of so many pixels, in units of pixel / 255.

    std is at least 1/255 so that dividing by it is safe.
    """
    mean, square = split.moments() / (len(split) * pixels)
    std = (square - mean**2).clamp(min=1).sqrt()
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())


def check_seed(seed: int) -> None:
    """Refuse a seed that NumPy's legacy generator does not take; raises DataError."""
    if not 0 <= seed < 2**32:
        raise DataError(f"seed is {seed}, expected 0 to 2^32 - 1")


def stratified(labels: Tensor, count: int, seed: int, *, leave: int = 0) -> tuple[Tensor, Tensor]:
    """Indices of ``count`` examples with the classes in proportion, and of the rest; both ascending.

    Class c gives count * n_c / n, rounded by largest remainder, but leaves ``leave`` examples where the others can give
    for it. Of images with any number of classes the proportions are about kept. NumPy's legacy generator is used
    because its stream is frozen: the same split with every version.

    Raises:
        DataError: for a seed that it does not take.
    """
    check_seed(seed)
    generator = np.random.RandomState(seed)
    target = labels.numpy()
    order = generator.permutation(len(target))
    if is_multi_label(labels):
        chosen = held_out(target, order, count, leave)
        return torch.from_numpy(np.flatnonzero(chosen)), torch.from_numpy(np.flatnonzero(~chosen))
    sizes = np.bincount(target)
    exact = sizes * (count / len(target))
    quotas = np.floor(exact).astype(np.int64)
    by_remainder = np.argsort(quotas - exact, kind="stable")
    quotas[by_remainder[: count - quotas.sum()]] += 1
    room = np.maximum(sizes - leave, 0) - quotas
    if room.sum() >= 0 > room.min():
        owed = int(-room[room < 0].sum())
        quotas += np.minimum(room, 0)
        for label in np.argsort(-room, kind="stable"):  # from the classes that have most left
            given = min(owed, max(int(room[label]), 0))
            quotas[label] += given
            owed -= given
    chosen = np.zeros(len(target), dtype=bool)
    for label, quota in enumerate(quotas):
        chosen[order[target[order] == label][:quota]] = True
    return torch.from_numpy(np.flatnonzero(chosen)), torch.from_numpy(np.flatnonzero(~chosen))
