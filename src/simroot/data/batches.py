"""Batches: a permutation per epoch, random windows, mean subtraction, shift and mirror, other augmentation."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from torch import Tensor

from simroot.data.augment import Augmentation
from simroot.data.balance import balanced_order
from simroot.data.crop import Crop, window
from simroot.data.shard_order import shuffled
from simroot.data.splits import MemorySplit, Split
from simroot.errors import ConfigError

# Random numbers of augmentation are apart, so that the others are the same with and without it.
_AUGMENTATION = 1


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(images / 255 - mean) / std per channel: uint8 (N,C,H,W) or (C,H,W) to float32 of the same shape."""
    scale, offset = _affine(mean, std)
    return images.float().mul_(scale).add_(offset)


class BatchLoader:
    """Iterates over (images float32 (B,C,H,W), labels int64 (B,)); one pass is one epoch.

    Everything but reading and decoding happens on ``device``, which keeps the whole split's pixels where they fit.

    All randomness comes from a generator seeded by (seed, epoch) alone and is drawn for the whole epoch at its start:
    an epoch is the same whatever came before it, and whatever the number of processes and workers.

    ``batch_size`` is that of all processes together: each batch is drawn as one process would draw it, and process
    ``rank`` of ``world_size`` takes its contiguous slice. Training drops the last, incomplete batch unless it is the
    only one; evaluation keeps every image once, so that a slice may be shorter or empty.

    Args:
        split: the images.
        batch_size: images in a batch, over all processes.
        mean: per channel, in units of pixel / 255, as in ``ImageData``.
        std: likewise.
        train: permute, augment and drop the last incomplete batch.
        shift: each training image is moved by -shift..shift pixels in both directions; the mean fills the border.
        mirror: each training image is mirrored left to right with probability 1/2.
        augmentation: what else is changed at random in training images.
        augmented_epochs: how many epochs have that augmentation, the first ones; None for all.
        balanced: each epoch of the training shows all classes alike often, see ``balanced_order``.
        crop: what is seen of each image, see ``simroot.data.crop.window``; of images in memory always the whole.
        seed: of the permutation and of the augmentation.
        rank: this process.
        world_size: the number of processes.
        workers: threads that decode ahead; None for one per core (at most 8) if the split is streamed and none if not.
        channels_last: memory format of the images.
        device: where the batches are made, and lie. Their random numbers are drawn by the processor: they are the same
            everywhere.

    Raises:
        ConfigError: an argument out of range, or a training batch that the processes cannot share equally.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        train: bool,
        shift: int = 0,
        mirror: bool = False,
        augmentation: Augmentation | None = None,
        augmented_epochs: int | None = None,
        balanced: bool = False,
        crop: Crop = "whole",
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        workers: int | None = None,
        channels_last: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        _check(batch_size=(batch_size, 1), shift=(shift, 0), seed=(seed, 0), world_size=(world_size, 1))
        _check(rank=(rank, 0), workers=(workers or 0, 0))
        if rank >= world_size:
            raise ConfigError(f"rank is {rank}, expected less than the {world_size} processes")
        if train:
            batch_size = min(batch_size, len(split) - len(split) % world_size)
            if batch_size == 0 or batch_size % world_size:
                raise ConfigError(
                    f"a batch of {batch_size or len(split)} images cannot be shared equally by {world_size} processes:"
                    " choose a multiple of their number"
                )
        if crop != "whole" and split.images is not None:
            raise ConfigError(
                f"crop is {crop!r}, but these images are kept in memory at {split.images.shape[-1]} pixels: choose an "
                "image_size above 64 and a folder or archive of image files, or crop 'whole' with shift"
            )
        window(crop, train=train)  # refuses what is no crop
        self.split, self.batch_size, self.train, self.crop = split, batch_size, train, crop
        self.balanced = balanced
        self.shift, self.mirror, self.seed = (shift, mirror, seed) if train else (0, False, seed)
        self._augmentation = augmentation if train and augmentation else None
        self._augmented_epochs = augmented_epochs
        self.rank, self.world_size = rank, world_size
        self.workers = _default_workers(split) if workers is None else workers
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.device = torch.device(device)
        scale, offset = _affine(mean, std)
        self.affine = scale.to(self.device), offset.to(self.device)
        self._kept = kept_on(split, self.device)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next iteration draws; it does not advance by itself."""
        self.epoch = epoch

    @property
    def augmentation(self) -> Augmentation | None:
        """What else is changed at random in the images of this epoch."""
        augmented = self._augmented_epochs is None or self.epoch < self._augmented_epochs
        return self._augmentation if augmented else None

    def __len__(self) -> int:
        """Batches in an epoch."""
        whole, rest = divmod(len(self.split), self.batch_size)
        return whole if self.train or not rest else whole + 1

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order, offsets, mirrored = self._draw()
        draws = self._draw_augmentation()
        batches = [self._slice(number) for number in range(len(self))]
        seen = window(self.crop, train=self.train, seed=self.seed, epoch=self.epoch)
        read = partial(self._kept.read, seen=seen)
        images = _map(read, [order[batch] for batch in batches], self.workers)
        offsets, mirrored, draws = (numbers.to(self.device) for numbers in (offsets, mirrored, draws))
        for batch, pixels in zip(batches, images, strict=True):
            prepared = self._prepare(pixels.to(self.device), offsets[batch], mirrored[batch], draws[batch])
            yield prepared, self.split.labels[order[batch]].to(self.device)

    def _draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """For the epoch, in order of use: indices (N,), window offsets 0..2 shift (N,2), whether to mirror (N,)."""
        count = len(self.split)
        if not self.train:
            return torch.arange(count), torch.zeros(count, 2, dtype=torch.int64), torch.zeros(count, dtype=torch.bool)
        generator = self._generator()
        order = balanced_order(self.split.labels, generator) if self.balanced else shuffled(self.split, generator)
        offsets = torch.randint(0, 2 * self.shift + 1, (count, 2), generator=generator)
        mirrored = torch.rand(count, generator=generator) < (0.5 if self.mirror else 0.0)
        return order, offsets, mirrored

    def _draw_augmentation(self) -> Tensor:
        """For the epoch, in order of use: the random numbers of ``augmentation``, from a stream of their own."""
        if self.augmentation is None:
            return torch.empty(len(self.split), 0)
        channels = self.affine[0].shape[0]
        return self.augmentation.draw(len(self.split), channels, self._generator(_AUGMENTATION))

    def _generator(self, *stream: int) -> torch.Generator:
        words = np.random.SeedSequence([self.seed, self.epoch, *stream]).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(words[0]))

    def _slice(self, number: int) -> slice:
        start = number * self.batch_size
        size = min(self.batch_size, len(self.split) - start)
        return slice(start + size * self.rank // self.world_size, start + size * (self.rank + 1) // self.world_size)

    def _prepare(self, pixels: Tensor, offsets: Tensor, mirrored: Tensor, draws: Tensor) -> Tensor:
        """Normalised and augmented: uint8 (B,C,H,W) to float32 (B,C,H,W)."""
        scale, offset = self.affine
        shift, (count, channels, height, width) = self.shift, pixels.shape
        padded = count, channels, height + 2 * shift, width + 2 * shift
        images = torch.zeros(padded, device=self.device)  # zero is the mean
        images[:, :, shift : shift + height, shift : shift + width].copy_(pixels).mul_(scale).add_(offset)
        if shift:
            windows = images.unfold(2, height, 1).unfold(3, width, 1)
            images = windows[torch.arange(count, device=self.device), :, offsets[:, 0], offsets[:, 1]]
        if self.mirror:
            images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
        if self.augmentation is not None:
            images = self.augmentation(images, draws)
        return images.contiguous(memory_format=self.memory_format)


loader = BatchLoader


def _affine(mean: Sequence[float], std: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Scale and offset (C,1,1) of pixel * scale + offset = (pixel / 255 - mean) / std."""
    mean64, std64 = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
    return (1 / (255 * std64)).float().view(-1, 1, 1), (-mean64 / std64).float().view(-1, 1, 1)


def _check(**bounds: tuple[int, int]) -> None:
    for name, (value, least) in bounds.items():
        if value < least:
            raise ConfigError(f"{name} is {value}, expected at least {least}")


def kept_on(split: Split, device: torch.device) -> Split:
    """The split with its pixels on the device if they are in memory and take at most a quarter of what is free."""
    if device.type == "cpu":
        return split
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else math.inf
    return split.on(device) if isinstance(split, MemorySplit) and 4 * split.images.nbytes <= free else split


def _default_workers(split: Split) -> int:
    return 0 if split.images is not None else min(8, os.cpu_count() or 1)


def _map(read: Callable[[Tensor], Tensor], batches: Sequence[Tensor], workers: int) -> Iterator[Tensor]:
    """read(batch) for each batch in order, up to two batches a worker ahead.

    Threads suffice because decoding and resizing release the interpreter's lock, and they need neither copies of the
    file list nor a fork of a process that already runs threads.
    """
    if workers == 0:
        yield from map(read, batches)
        return
    ahead: deque[Future[Tensor]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="simroot-data")
    try:
        for batch in batches:
            ahead.append(pool.submit(read, batch))
            if len(ahead) > 2 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
