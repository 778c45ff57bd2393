"""Images that are read from shards during a training: in which order, and what is said of them.

Reading here and there in a set larger than memory keeps a disk or a network busy with seeking. So an epoch of a large
set goes through pieces of its shards in random order and mixes the images of a few of them, as a buffer of WebDataset
does. The order follows from the generator alone, whatever the number of processes and workers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simroot.data.splits import ImageData, Split, StreamedSplit
from simroot.errors import counted
from simroot.images.sources import Member

PIECE = 2**26  # bytes of a shard that are read together
MIXED = 2**30  # bytes of pieces whose images are mixed
_MOST = 2**40  # pieces of a shard


def shuffled(split: Split, generator: torch.Generator) -> Tensor:
    """All indices, int64 (N,), in random order.

    Of images in shards, of more than 1 GiB together: pieces of at most 64 MiB of the shards in random order, and the
    images mixed of as many pieces, one after the other, as 1 GiB holds.
    """
    order = torch.randperm(len(split), generator=generator)
    members = _members(split)
    if sum(map(len, members)) <= MIXED:
        return order
    turn = torch.from_numpy(_pieces(members))  # of each image the number of its piece
    turn = torch.randperm(int(turn.max()) + 1, generator=generator)[turn]  # when it comes
    sizes = torch.from_numpy(np.fromiter(map(len, members), np.int64))
    held = torch.zeros(int(turn.max()) + 1, dtype=torch.int64).index_add_(0, turn, sizes)
    group = (held.cumsum(0) - held) // MIXED  # of each turn
    return order[group[turn[order]].argsort(stable=True)]


def streamed_line(data: ImageData) -> str:
    """A line about images that are read from archives whenever they are needed; empty if none is."""
    members = [*_members(data.train), *_members(data.val)]
    if not members:
        return ""
    archives = counted(len({one.archive for one in members}), ".tar file")
    return f"streaming {counted(len(members), 'image')} from {archives}: read when they are needed, not kept in memory"


def _pieces(members: Sequence[Member]) -> NDArray[np.int64]:
    """The number of the piece of a shard in which each image begins."""
    shards = {archive: number * _MOST for number, archive in enumerate({one.archive: None for one in members})}
    starts = np.fromiter((shards[one.archive] + one.start // PIECE for one in members), np.int64)
    return np.unique(starts, return_inverse=True)[1]


def _members(split: Split) -> list[Member]:
    """Where the images lie if all are in shards that are not compressed; else none."""
    if not isinstance(split, StreamedSplit):
        return []
    found = [file.source for file in split.files if isinstance(file.source, Member)]
    return found if len(found) == len(split) else []
