"""Decoding the files of a tree: once into memory if they are small, otherwise checked and then streamed."""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from simroot.data.choices import Asked
from simroot.data.hashes import pixel_hash
from simroot.data.progress import watched
from simroot.data.splits import MemorySplit, Split, StreamedSplit, evenly, pixel_moments
from simroot.data.tree import memory_budget
from simroot.errors import DataError
from simroot.images.decoding import Header, decode_array, probe, reason
from simroot.images.listing import ImageFile
from simroot.images.preparation import LARGEST_IN_MEMORY, ImageSize, Preparation
from simroot.images.sources import Member

_CHUNK = 128
_NAMED_IN_LOG = 5
_PROBED = 1024

logger = logging.getLogger("simroot")
Result = TypeVar("Result")


def decode_files(
    files: Sequence[ImageFile], labels: Tensor, asked: Asked, training: Tensor | None = None, *, check: bool = True
) -> tuple[Split, Preparation, Tensor, tuple[str, ...]]:
    """All images that can be decoded, how they were prepared, the indices of their files, the names of the others.

    What is not ``asked`` for, the images decide: of fit, pixel range and background those marked in ``training``, bool
    (N,), by default all. Images of at most 64 x 64 are kept in memory if they take less than a quarter of it. The
    others are decoded once to find the corrupt ones, unless ``check`` is False: then a thousand headers decide, and a
    corrupt image is found when it is read.

    Raises:
        DataError: no image can be decoded.
    """
    probed = range(len(files)) if check else evenly(len(files), _PROBED).tolist()
    read = _each(lambda index: _attempt(files[index], probe), probed, files, "reading image headers")
    headers = {index: header for index, header in zip(probed, read, strict=True) if isinstance(header, Header)}
    if not headers:
        raise DataError(f"none of the {len(files)} images can be decoded; the first, {files[0].name}: {read[0]}")
    channels, image_size = asked.shape([*headers.values()])
    if asked.image_size is None:
        _log_size({header[:2] for header in headers.values()}, image_size)
    chosen = headers.keys() if training is None else headers.keys() & set(training.nonzero().flatten().tolist())
    looked_at = [(headers[index], files[index].source) for index in sorted(chosen)]
    log_channels(1 if all(header.grey for header in headers.values()) else 3, channels)
    preparation = asked.settled(channels, image_size, looked_at)
    pixels = math.prod(preparation.size)
    in_memory = pixels <= LARGEST_IN_MEMORY**2 and len(files) * channels * pixels <= memory_budget()
    if not (check or in_memory):
        return StreamedSplit(files, labels, None, preparation), preparation, torch.arange(len(files)), ()
    images = np.empty((len(files) if in_memory else 0, *preparation.shape), dtype=np.uint8)
    # Filled in place: a small tensor for each image would keep the C library from using memory between them again.
    moments, hashes = np.zeros((len(files), 2, channels), dtype=np.int64), np.zeros(len(files), dtype=np.int64)

    def decode_one(index: int) -> str | None:
        pixels = _attempt(files[index], lambda source: decode_array(source, preparation))
        if isinstance(pixels, str):
            return pixels
        if in_memory:
            images[index] = pixels
        else:
            moments[index] = pixel_moments(torch.from_numpy(pixels[None].copy()))[0]
            hashes[index] = pixel_hash(pixels)
        return None

    outcomes = _each(decode_one, range(len(files)), files, "decoding images" if in_memory else "checking images")
    kept = torch.tensor([index for index, outcome in enumerate(outcomes) if not isinstance(outcome, str)])
    skipped = _report_skipped(files, outcomes)
    if not len(kept):
        raise DataError(f"none of the {len(files)} images can be decoded; the first, {files[0].name}: {outcomes[0]}")
    sound = [headers[index] for index in kept.tolist() if index in headers]
    if skipped and check and asked.shape(sound) != (channels, image_size):
        # What cannot be read has no say in the size and the channels.
        mask = None if training is None else training[kept]
        split, preparation, of_kept, _ = decode_files(
            [files[index] for index in kept.tolist()], labels[kept], asked, mask
        )
        return split, preparation, kept[of_kept], skipped
    if in_memory:
        pixels_kept = torch.from_numpy(images if len(kept) == len(files) else images[kept.numpy()])
        names = [files[index].name for index in kept.tolist()]
        return MemorySplit(pixels_kept, labels[kept], names), preparation, kept, skipped
    of_files = [files[index] for index in kept.tolist()]
    moments_kept, hashes_kept = torch.from_numpy(moments)[kept], torch.from_numpy(hashes)[kept]
    split = StreamedSplit(of_files, labels[kept], moments_kept, preparation, hashes_kept)
    return split, preparation, kept, skipped


def log_channels(found: int, expected: int) -> None:
    """Say that images are turned from grey to colour or back for a network that was trained on the other kind."""
    if found != expected:
        kinds = {1: "grey", 3: "in colour"}
        logger.warning("the images are %s: made %s, as the network takes them", kinds[found], kinds[expected])


def _log_size(sizes: set[tuple[int, int]], chosen: ImageSize) -> None:
    width, height = next(iter(sizes))
    if sizes == {(chosen, chosen)}:
        logger.info("image size %s: that of all images", chosen)
        return
    found = f"images are {width} x {height}" if len(sizes) == 1 else f"images have {len(sizes)} sizes"
    logger.info("image size %s: %s; set image_size for another", chosen, found)


def _attempt(file: ImageFile, function: Callable[..., Result]) -> Result | str:
    """function(source), or why the image cannot be read."""
    try:
        return function(file.source)
    except Exception as error:  # a decoder may raise anything on damaged bytes
        return reason(error)


def _each(
    function: Callable[[int], Result], indices: Sequence[int], files: Sequence[ImageFile], description: str
) -> list[Result]:
    """[function(i) for i in indices] on all cores, archives end to end, with a progress bar if somebody watches."""
    stopped = threading.Event()
    order = sorted(indices, key=lambda index: _place(files[index]))

    def chunk(start: int) -> list[Result]:
        return [function(index) for index in order[start : start + _CHUNK] if not stopped.is_set()]

    starts = range(0, len(order), _CHUNK)
    pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="simroot-data")
    try:
        chunks = watched(pool.map(chunk, starts), description, len(starts))
        found = dict(zip(order, (result for results in chunks for result in results), strict=True))
        return [found[index] for index in indices]
    finally:
        stopped.set()  # an error or Ctrl-C waits for the images that are being read, and for no other
        pool.shutdown(cancel_futures=True)


def _place(file: ImageFile) -> tuple[str, int]:
    return (str(file.source.archive), file.source.start) if isinstance(file.source, Member) else ("", 0)


def _report_skipped(files: Sequence[ImageFile], outcomes: Sequence[object]) -> tuple[str, ...]:
    skipped = [(file.name, outcome) for file, outcome in zip(files, outcomes, strict=True) if isinstance(outcome, str)]
    for name, why in skipped[:_NAMED_IN_LOG]:
        logger.warning("skipped a corrupt image: %s (%s)", name, why)
    if len(skipped) > _NAMED_IN_LOG:
        logger.warning("skipped %d corrupt images in all, of %d", len(skipped), len(files))
    return tuple(name for name, _ in skipped)
