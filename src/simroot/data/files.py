"""Decoding the files of a tree: once into memory if they are small, otherwise checked and then streamed."""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from simroot.data.progress import watched
from simroot.data.splits import MemorySplit, Split, StreamedSplit, evenly, pixel_moments
from simroot.data.tree import memory_budget
from simroot.errors import DataError
from simroot.imagefiles import ImageFile
from simroot.images import decode_array, probe, reason

LARGEST_IN_MEMORY = 64  # pixels a side: also the largest native size that is kept by default
_CHUNK = 128
_NAMED_IN_LOG = 5
_PROBED = 1024

logger = logging.getLogger("simroot")
Result = TypeVar("Result")
_Header = tuple[int, int, bool]  # width, height, is grey


def decode_files(
    files: Sequence[ImageFile], labels: Tensor, image_size: int | None, channels: int | None, *, check: bool = True
) -> tuple[Split, Tensor, tuple[str, ...]]:
    """All images that can be decoded, the indices of their files, and the names of the others.

    Without ``image_size`` it is the images' own if all are square, of one size and at most 64, else 64. Without
    ``channels`` it is 1 if all images are grey, else 3. Images of at most 64 x 64 are kept in memory if they take
    less than a quarter of it. The others are decoded once to find the corrupt ones, unless ``check`` is False: then a
    thousand headers decide, and a corrupt image is found when it is read.

    Raises:
        DataError: no image can be decoded.
    """
    probed = range(len(files)) if check else evenly(len(files), _PROBED).tolist()
    headers = _each(lambda index: _attempt(files[probed[index]], probe), len(probed), "reading image headers")
    seen = {header for header in headers if isinstance(header, tuple)}
    if not seen:
        raise DataError(f"none of the {len(files)} images can be decoded; the first, {files[0].name}: {headers[0]}")
    asked = image_size, channels
    shape = channels, image_size, _ = _shape(seen, *asked)
    if asked[0] is None:
        _log_size(seen, image_size)
    in_memory = image_size <= LARGEST_IN_MEMORY and len(files) * math.prod(shape) <= memory_budget()
    if not (check or in_memory):
        return StreamedSplit(files, labels, None, channels, image_size), torch.arange(len(files)), ()
    images = np.empty((len(files) if in_memory else 0, *shape), dtype=np.uint8)

    def decode_one(index: int) -> str | Tensor | None:
        pixels = _attempt(files[index], lambda source: decode_array(source, channels, image_size))
        if isinstance(pixels, str):
            return pixels
        if in_memory:
            images[index] = pixels
            return None
        return pixel_moments(torch.from_numpy(pixels[None].copy()))[0]

    outcomes = _each(decode_one, len(files), "decoding images" if in_memory else "checking images")
    kept = torch.tensor([index for index, outcome in enumerate(outcomes) if not isinstance(outcome, str)])
    skipped = _report_skipped(files, outcomes)
    if not len(kept):
        raise DataError(f"none of the {len(files)} images can be decoded; the first, {files[0].name}: {outcomes[0]}")
    if (
        skipped
        and check
        and _shape({header for index in kept if isinstance(header := headers[index], tuple)}, *asked) != shape
    ):
        # What cannot be read has no say in the size and the channels.
        split, of_kept, _ = decode_files([files[index] for index in kept.tolist()], labels[kept], *asked)
        return split, kept[of_kept], skipped
    if in_memory:
        pixels = torch.from_numpy(images if len(kept) == len(files) else images[kept.numpy()])
        return MemorySplit(pixels, labels[kept]), kept, skipped
    moments = torch.stack([outcome for outcome in outcomes if isinstance(outcome, Tensor)])
    split = StreamedSplit([files[index] for index in kept.tolist()], labels[kept], moments, channels, image_size)
    return split, kept, skipped


def _shape(headers: Iterable[_Header], image_size: int | None, channels: int | None) -> tuple[int, int, int]:
    """(channels, height, width), as far as they are not given those that images of these headers ask for."""
    widths, heights, greys = zip(*headers, strict=True)
    if image_size is None:
        alike = len({*widths, *heights}) == 1 and widths[0] <= LARGEST_IN_MEMORY
        image_size = widths[0] if alike else LARGEST_IN_MEMORY
    return channels or (1 if all(greys) else 3), image_size, image_size


def _log_size(headers: Iterable[_Header], image_size: int) -> None:
    sizes = {(width, height) for width, height, _ in headers}
    width, height = next(iter(sizes))
    if sizes == {(image_size, image_size)}:
        logger.info("image size %d: that of all images", image_size)
        return
    found = f"images are {width} x {height}" if len(sizes) == 1 else f"images have {len(sizes)} sizes"
    logger.info("image size %d: %s; set image_size for another", image_size, found)


def _attempt(file: ImageFile, function: Callable[..., Result]) -> Result | str:
    """function(source), or why the image cannot be read."""
    try:
        return function(file.source)
    except Exception as error:  # a decoder may raise anything on damaged bytes
        return reason(error)


def _each(function: Callable[[int], Result], count: int, description: str) -> list[Result]:
    """[function(i) for i in range(count)] on all cores, with a progress bar if somebody watches."""
    stopped = threading.Event()

    def chunk(start: int) -> list[Result]:
        indices = range(start, min(start + _CHUNK, count))
        return [function(index) for index in indices if not stopped.is_set()]

    starts = range(0, count, _CHUNK)
    pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="simroot-data")
    try:
        chunks = watched(pool.map(chunk, starts), description, len(starts))
        return [result for results in chunks for result in results]
    finally:
        stopped.set()  # an error or Ctrl-C waits for the images that are being read, and for no other
        pool.shutdown(cancel_futures=True)


def _report_skipped(files: Sequence[ImageFile], outcomes: Sequence[object]) -> tuple[str, ...]:
    skipped = [(file.name, outcome) for file, outcome in zip(files, outcomes, strict=True) if isinstance(outcome, str)]
    for name, why in skipped[:_NAMED_IN_LOG]:
        logger.warning("skipped a corrupt image: %s (%s)", name, why)
    if len(skipped) > _NAMED_IN_LOG:
        logger.warning("skipped %d corrupt images in all, of %d", len(skipped), len(files))
    return tuple(name for name, _ in skipped)
