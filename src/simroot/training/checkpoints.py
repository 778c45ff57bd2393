"""Checkpoints as Lightning writes and reads them, through ``simroot.training.writing``."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.plugins.io import CheckpointIO

from simroot.training.checkpoint_file import read_checkpoint
from simroot.training.writing import write_atomic


class AtomicCheckpoints(CheckpointIO):
    """Lightning's checkpoints, written by ``write_atomic`` and read without running any code in them."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; raises TrainingError if that fails."""
        # Serialised in memory first: torch's own writer hides the system's reason for a failed write.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_atomic(Path(path), lambda file: file.write(buffer.getbuffer()))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint, the parts that ``ClassificationModule.on_load_checkpoint`` makes the others from.

        Raises CheckpointError if it is missing or damaged.
        """
        checkpoint = read_checkpoint(Path(path))
        parts = ("state_dict", "history", "global_step", "optimizer_states")
        return {"pytorch-lightning_version": lightning.__version__} | {part: checkpoint.get(part) for part in parts}

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)
