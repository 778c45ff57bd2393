"""Any number of classes as one text, with ``|`` between, sorted.

So the rows of tables whose images may have any number are put in order and counted as those with one class are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

SIGN = "|"


def joined(names: Iterable[str]) -> str:
    """Classes as one text."""
    return SIGN.join(sorted(set(names)))


def parted(text: str) -> list[str]:
    """The classes of such a text; none of an empty one."""
    return text.split(SIGN) if text else []


def all_classes(texts: Iterable[str]) -> tuple[str, ...]:
    """Every class that texts name, sorted."""
    return tuple(sorted({name for text in texts for name in parted(text)}))


def marked(classes: Sequence[Sequence[int]], count: int) -> NDArray[np.uint8]:
    """uint8 (N, count): 1 where an image has the class of that number."""
    labels = np.zeros((len(classes), count), dtype=np.uint8)
    for row, own in zip(labels, classes, strict=True):
        row[list(own)] = 1
    return labels
