"""Labelled images: named data sets, folders and archives of images, arrays, and the batch loader."""

from typing import TYPE_CHECKING

from simroot.lazy import serve

if TYPE_CHECKING:
    from simroot.data.arrays import from_arrays
    from simroot.data.decode import decode
    from simroot.data.load import load, load_test
    from simroot.data.loader import BatchLoader, loader, normalise
    from simroot.data.names import NAMES
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
    "load",
    "load_test",
    "loader",
    "normalise",
]

serve(
    __name__,
    arrays=("from_arrays",),
    decode=("decode",),
    load=("load", "load_test"),
    loader=("BatchLoader", "loader", "normalise"),
    names=("NAMES",),
    splits=("ImageData", "MemorySplit", "Split", "StreamedSplit"),
)
