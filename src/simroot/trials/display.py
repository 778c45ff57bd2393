"""One display for trainings side by side: bars on a terminal, lines of the log elsewhere."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from simroot.errors import counted
from simroot.trials.board import Board

log = logging.getLogger(__name__)

_PAUSE = 0.5  # seconds between two looks at the board


class Display:
    """Shows how far trainings are, in a thread of its own.

    Args:
        board: where they report.
        names: number of a training -> what people call it.
    """

    def __init__(self, board: Board, names: Mapping[int, str]) -> None:
        self.board, self.names = board, names
        self.finished: set[int] = set()
        self._epochs: dict[int, int] = {}
        self._told = False
        self._over = threading.Event()
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:3.0f}%"),
            TextColumn("{task.fields[words]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        self._bars = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._all = self._bars.add_task("all trainings", total=len(names), words="")
        self._tasks: dict[int, TaskID] = {}

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show it until the context is left."""
        watcher = threading.Thread(target=self._watch, daemon=True)
        with self._bars:
            watcher.start()
            try:
                yield
            finally:
                self._over.set()
                watcher.join()

    def _watch(self) -> None:
        while not self._over.wait(_PAUSE):
            self._look()

    def _look(self) -> None:
        if self.board.stopped and not self._told:
            self._told = True
            log.warning("stopping %s; once more ends them at once", counted(len(self._running()), "training"))
        done = 0.0
        for number, name in self.names.items():
            if number in self.finished:
                done += 1
                if (task := self._tasks.pop(number, None)) is not None:
                    self._bars.remove_task(task)
            elif (progress := self.board.read(number)) is not None:
                done += progress.done
                if number not in self._tasks:
                    self._tasks[number] = self._bars.add_task(name, total=1.0, words="")
                self._bars.update(self._tasks[number], completed=progress.done, words=str(progress))
                if self._bars.disable and progress.epoch > self._epochs.get(number, 0):
                    self._epochs[number] = progress.epoch
                    log.info("%s: %s", name, progress)
        self._bars.update(self._all, completed=done, words=f"{len(self.finished)} of {len(self.names)} done")

    def _running(self) -> list[int]:
        return [number for number in self.names if number not in self.finished and self.board.read(number) is not None]
