"""Labelled images: named sets, folders and archives, tables, shards, arrays, data sets; and the batch loader."""

from typing import TYPE_CHECKING

from simroot.lazy import serve

if TYPE_CHECKING:
    from simroot.data.arrays import from_arrays
    from simroot.data.batches import BatchLoader, loader, normalise
    from simroot.data.decoding import decode
    from simroot.data.loading import load, load_test
    from simroot.data.names import NAMES
    from simroot.data.objects import from_dataset
    from simroot.data.splits import ImageData, MemorySplit, Split, StreamedSplit

__all__ = [
    "NAMES",
    "BatchLoader",
    "ImageData",
    "MemorySplit",
    "Split",
    "StreamedSplit",
    "decode",
    "from_arrays",
    "from_dataset",
    "load",
    "load_test",
    "loader",
    "normalise",
]

serve(
    __name__,
    arrays=("from_arrays",),
    decoding=("decode",),
    loading=("load", "load_test"),
    batches=("BatchLoader", "loader", "normalise"),
    names=("NAMES",),
    objects=("from_dataset",),
    splits=("ImageData", "MemorySplit", "Split", "StreamedSplit"),
)
