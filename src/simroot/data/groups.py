"""Held-out parts that take groups whole: whatever shows the same person, place or day is on one side."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simroot.data.labels import is_multi_label
from simroot.data.splits import check_seed
from simroot.errors import DataError

_TRIES = 10


def grouped(labels: Tensor, groups: Sequence[str], count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of about ``count`` examples in whole groups, with the classes about in proportion, and of the rest.

    Of scikit-learn's ``StratifiedGroupKFold`` the fold that leaves something of every class and comes nearest to the
    number; of ``GroupShuffleSplit`` where images have any number of classes. An example without a group is one of its
    own.

    Raises:
        DataError: there is one group alone, or no fold leaves something of every class.
    """
    from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold

    check_seed(seed)
    target = labels.numpy()
    own = np.unique([group or f"\0{index}" for index, group in enumerate(groups)], return_inverse=True)[1]
    if own.max() == 0:
        raise DataError("all images are of one group: none can be held out; name a validation part")
    folds = min(max(round(len(target) / count), 2), int(own.max()) + 1)
    if multi_label := is_multi_label(labels):
        share = count / len(target)
        splits = list(GroupShuffleSplit(_TRIES, test_size=share, random_state=seed).split(target, groups=own))
    else:
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The least populated class", UserWarning)
            splits = list(splitter.split(target, target, own)) if folds <= np.bincount(target).max() else []

    def classes(rows: NDArray[np.intp]) -> set[int]:
        return set((np.flatnonzero(target[rows].any(0)) if multi_label else target[rows]).tolist())

    kept = classes(np.arange(len(target)))
    whole = [split for split in splits if classes(split[0]) == kept and len(split[1])]
    if not whole:
        raise DataError(
            "no part can be held out that takes groups whole and leaves some of every class: some class has one group"
            " alone; name a validation part, or leave the groups out"
        )
    rest, held_out = min(whole, key=lambda split: (len(kept - classes(split[1])), abs(len(split[1]) - count)))
    return torch.from_numpy(np.sort(held_out)), torch.from_numpy(np.sort(rest))
