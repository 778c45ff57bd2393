"""What people are told of the classes of a data set: how many images, and where they come from."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from simroot.data.labels import class_counts, is_multi_label
from simroot.data.splits import ImageData
from simroot.errors import counted

_NAMED = 20  # classes


def class_lines(data: ImageData) -> tuple[str, str]:
    """A line for the training images and one for the validation images."""
    first, second = (
        class_line(data.classes, split.labels, part, where)
        for split, part, where in zip((data.train, data.val), ("training", "validation"), data.origins, strict=True)
    )
    return first, second


def class_line(classes: Sequence[str], labels: Tensor, part: str, where: str) -> str:
    """The numbers of images of every class of a part, and where they come from, in one line."""
    counts = class_counts(labels, len(classes)).tolist()
    named = ", ".join(f"{label} {count:,}" for label, count in list(zip(classes, counts, strict=True))[:_NAMED])
    more = ""
    if len(classes) > _NAMED:
        more = f" and {len(classes) - _NAMED:,} more ({min(counts):,} to {max(counts):,} each)"
    found = counted(len(labels), f"{part} image")
    if is_multi_label(labels):
        more = f"{more}; {int((labels.sum(1) == 0).sum()):,} with no class"
    return f"{found} of {counted(len(classes), 'class', 'classes')}, from {where}: {named}{more}"
