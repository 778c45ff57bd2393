"""The files of a run directory: how they are written, and how checkpoints are read."""

from __future__ import annotations

import pickle
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import torch

from simroot import files
from simroot.errors import CheckpointError, TrainingError
from simroot.files import Words

_WORDS: Words = {
    "error": TrainingError,
    "advice": "the files of the last complete epoch are untouched: make room or mend the folder, then resume the run",
}
# What a training writes into its run directory; raises TrainingError.
write_atomic = partial(files.write_atomic, **_WORDS)
write_text = partial(files.write_text, **_WORDS)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint to the CPU, tensors and plain values only.

    Raises:
        CheckpointError: if the file is missing or damaged, or holds anything but tensors and plain values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            sound = archive.testzip() is None  # torch.load does not compare the checksums
        checkpoint = torch.load(path, map_location="cpu", weights_only=True) if sound else None
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist; expected a checkpoint written by simroot train") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors and plain values and was not loaded: unpickling it could run any code; "
            "use a checkpoint written by simroot train"
        ) from error
    except (zipfile.BadZipFile, RuntimeError, EOFError, OSError, ValueError, KeyError, NotImplementedError) as error:
        raise CheckpointError(f"{path} is damaged or truncated and cannot be read") from error
    if not sound:
        raise CheckpointError(f"{path} is damaged: its contents do not have the checksums that they were written with")
    if not isinstance(checkpoint, dict) or not {"state_dict", "history"} <= checkpoint.keys():
        raise CheckpointError(f"{path} is no checkpoint of simroot train: it lacks the weights or the history")
    if not _is_history(checkpoint["history"]):
        raise CheckpointError(f"{path} is no checkpoint of simroot train: its history has no row for every epoch")
    return checkpoint


def _is_history(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(row, dict) and "val_accuracy" in row for row in value)
    )
