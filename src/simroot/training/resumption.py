"""Where an interrupted training goes on: its newest checkpoint that can be read."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from simroot.errors import CheckpointError
from simroot.training.checkpoint_file import read_checkpoint, restored
from simroot.training.environment import versions
from simroot.training.recipes import Recipe
from simroot.training.run import BEST, LAST

log = logging.getLogger(__name__)


def newest_checkpoint(path: Path, model: nn.Module, recipe: Recipe) -> Path | None:
    """The last checkpoint, the best one if that is damaged or of another run, or None if no epoch was completed.

    Raises:
        CheckpointError: if there are some and none can be used.
    """
    candidates = [path / name for name in (LAST, BEST) if (path / name).exists()]
    for candidate in candidates:
        try:
            checkpoint = read_checkpoint(candidate)
            try:
                restored(checkpoint, model, recipe, {})
            except CheckpointError as error:
                raise CheckpointError(f"{candidate} is damaged or of another run: {error}") from error
        except CheckpointError as error:
            if candidate == candidates[-1]:
                raise
            log.warning("%s; going on from %s instead", error, candidates[-1].name)
        else:
            return candidate
    return None


def warn_of_other_versions(before: Mapping[str, Any]) -> None:
    """Say that what computes is other than in the epochs before."""
    now = versions()
    changed = [f"{key} was {before[key]} and is {now[key]}" for key in now if key in before and before[key] != now[key]]
    if changed:
        log.warning("the weights may differ in the last bits from an uninterrupted run: %s", "; ".join(changed))
