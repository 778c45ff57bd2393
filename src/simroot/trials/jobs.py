"""Trainings side by side, each in a process of its own, here or on a cluster's machines."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import torch
from joblib.externals.loky import BrokenProcessPool

from simroot.errors import SimrootError, counted
from simroot.training import TrainingInterrupted
from simroot.trials.board import Board, Reporter
from simroot.trials.clusters import Jobs, Place, opened
from simroot.trials.display import Display
from simroot.trials.runs import Runs, Trial

log = logging.getLogger(__name__)

_KILLED = "its process was killed, perhaps for want of memory; the same command goes on with it"


@dataclass(frozen=True)
class Task:
    """A trial and its number, and the directory that a new run gets."""

    number: int
    trial: Trial
    out: Path


@dataclass(frozen=True)
class Outcome:
    """What became of a task.

    Attributes:
        number: the task's.
        path: the run directory of a finished training.
        stopped: the run directory of one that was stopped.
        error: why it could not be trained.
        seconds: that it took.
        warnings: what the log of its process warned of.
    """

    number: int
    path: Path | None = None
    stopped: Path | None = None
    error: str = ""
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()


def complete_all(folder: Runs, trials: Sequence[Trial], jobs: Jobs, options: Mapping[str, Any]) -> list[Trial]:
    """Do what training is left of all trials, several at a time, each as ``Runs.complete`` would.

    The weights are those of one training after the other with as many threads, bit for bit.

    Args:
        folder: of the runs.
        trials: the most important first.
        jobs: how many at a time, and where.
        options: of ``simroot.training.train``.

    Returns:
        The trials that failed; the log has named each with its reason.

    Raises:
        ConfigError: for a cluster that cannot be used.
        TrainingInterrupted: after Ctrl-C or SIGTERM, when all have stopped.
    """
    tasks = _tasks(folder, trials)
    if not tasks:
        return []
    folder.folder.mkdir(parents=True, exist_ok=True)
    names = {task.number: task.trial.name for task in tasks}
    outcomes: dict[int, Outcome] = {}
    with (
        tempfile.TemporaryDirectory(prefix=".jobs-", dir=folder.folder) as place,
        opened(jobs, folder) as where,
        _stopping(board := Board(Path(place).resolve())) as signals,
        (display := Display(board, names)).shown(),
    ):
        log.info(
            "%s, %d at a time, %s each", counted(len(tasks), "training"), where.count, counted(where.threads, "thread")
        )
        try:
            for outcome in _outcomes(folder, tasks, board, where, options):
                outcomes[outcome.number] = outcome
                display.finished.add(outcome.number)
                _tell(names[outcome.number], outcome)
        except KeyboardInterrupt:
            if not signals:
                raise
    if signals:
        raise _interrupted(signals[0], folder.folder, [task.out for task in tasks])
    return [task.trial for task in tasks if outcomes[task.number].error]


def _tasks(folder: Runs, trials: Sequence[Trial]) -> list[Task]:
    """What is left to do; each new run has a directory before the first begins, so that no two take the same."""
    tasks: list[Task] = []
    for trial in trials:
        path = folder.find(trial)
        if (path is None or folder.finished(trial) is None) and trial not in [task.trial for task in tasks]:
            out = path or folder.place(trial, [task.out for task in tasks])
            tasks.append(Task(len(tasks), trial, out))
    return tasks


def _outcomes(
    folder: Runs, tasks: Sequence[Task], board: Board, where: Place, options: Mapping[str, Any]
) -> Iterator[Outcome]:
    """The outcomes as they come. A process that dies takes those beside it along: each of them is tried alone."""
    left = {task.number: task for task in tasks}
    try:
        for outcome in _run(folder, tasks, board, where, where.count, options):
            del left[outcome.number]
            yield outcome
        return
    except BrokenProcessPool:
        begun = [number for number in left if board.read(number) is not None or (left[number].out).exists()]
    if board.stopped:
        yield from (Outcome(number, stopped=task.out) for number, task in left.items())
        return
    for number in begun or list(left):
        task = left.pop(number)
        try:
            yield from _run(folder, [task], board, where, 1, options)
        except BrokenProcessPool:
            yield Outcome(number, error=_KILLED)
    if left:
        yield from _outcomes(folder, list(left.values()), board, where, options)


def _run(
    folder: Runs, tasks: Sequence[Task], board: Board, where: Place, count: int, options: Mapping[str, Any]
) -> Iterator[Outcome]:
    with joblib.parallel_config(**where.backend), warnings.catch_warnings():
        # loky replaces a process that has grown: nothing that a user could change.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
        parallel = joblib.Parallel(n_jobs=count, return_as=where.returns, pre_dispatch=count, batch_size=1)
        call = joblib.delayed(_train)
        # A list is there when all have ended, and Ctrl-C is heard before; its processes are not of this terminal.
        with nullcontext() if where.returns == "list" else _interrupts_held():
            found = parallel(call(folder, task, board, where.threads, options) for task in tasks)
        yield from found


def _train(folder: Runs, task: Task, board: Board, threads: int, options: Mapping[str, Any]) -> Outcome:
    """One task, in the process that does it."""
    before, start = torch.get_num_threads(), time.monotonic()
    if board.stopped:
        return Outcome(task.number, stopped=task.out)
    torch.set_num_threads(threads)
    with _warnings() as said:
        found: dict[str, Any] = {}
        try:
            callbacks = [Reporter(board, task.number)]
            found["path"] = folder.complete(task.trial, task.out, callbacks=callbacks, **options)
        except TrainingInterrupted as stopped:
            found["stopped"] = stopped.path
        except SimrootError as error:
            found["error"] = str(error)
        except Exception as error:  # the others go on
            found["error"] = f"{type(error).__name__}: {error}"
        finally:
            torch.set_num_threads(before)
    return Outcome(task.number, **found, seconds=time.monotonic() - start, warnings=tuple(said))


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What simroot's log warns of in this thread."""
    said: list[str] = []
    logger, handler = logging.getLogger("simroot"), logging.Handler(logging.WARNING)
    thread = threading.get_ident()
    handler.addFilter(lambda record: record.thread == thread)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)


def _tell(name: str, outcome: Outcome) -> None:
    for words in dict.fromkeys(outcome.warnings):
        log.warning("%s: %s", name, words)
    if outcome.error:
        log.warning("%s is left out: %s", name, outcome.error)
    elif outcome.path is not None:
        log.info("%s: done in %.0f s, %s", name, outcome.seconds, outcome.path)


@contextmanager
def _stopping(board: Board) -> Iterator[list[str]]:
    """On the first Ctrl-C or SIGTERM the trainings are asked to stop, a second one ends them at once."""
    received: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def handle(number: int, frame: object) -> None:
        received.append(signal.Signals(number).name)
        board.stop()
        if len(received) > 1:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes that start here do not see the terminal's Ctrl-C: this one tells them on the board."""
    if os.name != "posix":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _interrupted(name: str, folder: Path, outs: Sequence[Path]) -> TrainingInterrupted:
    begun = counted(sum(out.exists() for out in outs), "training")
    return TrainingInterrupted(
        f"stopped by {name}; {folder} keeps {begun}. To go on: the same command again", folder, name
    )
