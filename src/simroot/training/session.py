"""The surroundings of a training: where its words go, and switches that are put back afterwards."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from simroot.errors import LineFormatter, counted

log = logging.getLogger(__name__)


class _ConsoleHandler(logging.Handler):
    """Prints records above a progress bar that may be on the same console."""

    def __init__(self, console: Console) -> None:
        # On a terminal the bar says what the lines about the epochs would.
        super().__init__(logging.WARNING if console.is_terminal else logging.INFO)
        self.setFormatter(LineFormatter())
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record as it is."""
        self.console.print(self.format(record), markup=False, highlight=False, soft_wrap=True)


@contextmanager
def logging_to(path: Path, console: Console | None) -> Iterator[None]:
    """Send what simroot says to a file, with the time, and to a console."""
    logger = logging.getLogger("simroot")
    level = logger.level
    handlers: list[logging.Handler] = [logging.FileHandler(path, encoding="utf-8")]
    handlers[0].setFormatter(LineFormatter("%(asctime)s %(levelname)s %(message)s"))
    if console is not None:
        handlers.append(_ConsoleHandler(console))
    with ExitStack() as stack:
        stack.callback(logger.setLevel, level)
        logger.setLevel(logging.INFO)
        for handler in handlers:
            logger.addHandler(handler)
            stack.callback(handler.close)
            stack.callback(logger.removeHandler, handler)
        yield


@contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """The same bits in every run, at no cost; the global generator and switches are as before afterwards."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    # Without this, deterministic mode fills every new tensor with NaN, which costs time.
    memory: Any = torch.utils.deterministic
    fill = memory.fill_uninitialized_memory
    cudnn = torch.backends.cudnn.deterministic
    try:
        torch.use_deterministic_algorithms(deterministic or device.type == "cpu")
        memory.fill_uninitialized_memory = False
        torch.backends.cudnn.deterministic = True
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
        memory.fill_uninitialized_memory = fill
        torch.backends.cudnn.deterministic = cudnn


def keep_freed_memory() -> None:
    """Have the C library keep the memory that tensors free, for the next tensors: fresh pages cost more than filling.

    Without it a training step of simnet2 takes a third longer on one thread. Does nothing where the library is not
    glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    trim_threshold, mmap_threshold = -1, -3
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(mmap_threshold, 2**30)


def crowded(threads: int) -> str | None:
    """What to say if other programs take the cores that so many threads need: they wait for the slowest of them."""
    load, cores = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0, os.cpu_count() or 1
    if threads == 1 or load < cores:
        return None
    return (
        f"this machine is busy: {load:.1f} programs want its {counted(cores, 'core')}; {threads} threads wait for each "
        "other there, and --threads 1 may be faster"
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Lightning's advertisements and a deprecation inside torch to themselves."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)", FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def all_in_training(model: nn.Module) -> None:
    """Put a whole network into training mode: Lightning would keep the mode in which each part was built."""
    if built := sum(not module.training for module in model.modules()):
        log.warning("%d parts of the network were in evaluation mode; all of it is trained in training mode", built)
    model.train()
    if frozen := sum(parameter.numel() for parameter in model.parameters() if not parameter.requires_grad):
        log.info("not trained since frozen: %s of the network", counted(frozen, "parameter"))
