"""Pictures, and groups of pictures, on both sides of a split: validation then says little about new ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from simroot.data.progress import watched
from simroot.data.splits import Split
from simroot.errors import counted, listed, quoted

_SIDE, _LOW = 32, 8  # pixels a side of what is hashed, and frequencies that are kept
_NEAR = 4  # bits of 63 in which pictures that look alike may differ
_BATCH = 256
_NAMED = 3
_ADVICE = "leave out one of each, or keep groups on one side (--group-column, --group-level)"


def shared_lines(train: Split, val: Split, *, near: bool = False) -> list[str]:
    """What is to be said of validation images that are training images, too; nothing if there are none.

    Args:
        train: the images to train on.
        val: the images to validate on.
        near: compare what they look like, by perceptual hashes, instead of their pixels.
    """
    lines, hashes = [], (train.hashes("pixels"), val.hashes("pixels"))
    if hashes[0] is not None and hashes[1] is not None:
        pairs = _equal(hashes[0], hashes[1])
        lines += _line(pairs, train, val, "are training images, too: the same pixels")
    if near:
        pairs = _alike(perceptual_hashes(train), perceptual_hashes(val))
        lines += _line(pairs, train, val, "look like a training image")
    return lines


def group_lines(train: Sequence[str], val: Sequence[str]) -> list[str]:
    """What is to be said of groups on both sides."""
    if not (both := sorted(set(train) & set(val) - {""})):
        return []
    names = listed([quoted(name)[1:-1] for name in both], _NAMED)
    return [f"{counted(len(both), 'group')} on both sides of training and validation: {names}"]


def perceptual_hashes(split: Split) -> Tensor:
    """Bool (N, 63): which of the low frequencies of an image are above their median, as pHash has them.

    Images that were resized, encoded again or made a little brighter differ in a few bits.
    """
    steps, waves = torch.arange(_SIDE), torch.arange(_LOW)
    cosines = torch.cos(math.pi / _SIDE * (steps + 0.5) * waves[:, None])  # (8, 32)
    found = []
    chunks = torch.arange(len(split)).split(_BATCH)
    for indices in watched(chunks, "comparing images", len(chunks)):
        grey = split.read(indices).float().mean(1, keepdim=True)
        small = functional.interpolate(grey, (_SIDE, _SIDE), mode="bilinear", antialias=True)[:, 0]
        low = (cosines @ small @ cosines.T).flatten(1)[:, 1:]  # without the mean
        found.append(low > low.median(1, keepdim=True).values)
    return torch.cat(found)


def _equal(train: Tensor, val: Tensor) -> list[tuple[int, int]]:
    """(training image, validation image) with the same hash, one for each of the latter."""
    first = {value: index for index, value in reversed(list(enumerate(train.tolist())))}
    return [(first[value], index) for index, value in enumerate(val.tolist()) if value in first]


def _alike(train: Tensor, val: Tensor) -> list[tuple[int, int]]:
    signs, bits = train.float() * 2 - 1, train.shape[1]
    pairs = []
    for start in range(0, len(val), _BATCH):
        agreement, index = ((val[start : start + _BATCH].float() * 2 - 1) @ signs.T).max(1)
        near = (agreement >= bits - 2 * _NEAR).nonzero().flatten().tolist()
        pairs += [(int(index[number]), start + number) for number in near]
    return pairs


def _line(pairs: Sequence[tuple[int, int]], train: Split, val: Split, what: str) -> list[str]:
    if not pairs:
        return []
    named = ""
    if train.names is not None and val.names is not None:
        both = [f"{val.names[second]} and {train.names[first]}" for first, second in pairs[:_NAMED]]
        named = f", as {listed(both, _NAMED)}"
    return [f"{len(pairs):,} of the {counted(len(val), 'validation image')} {what}{named}; {_ADVICE}"]
