"""Ctrl-C ends a command in one line at any moment, also while modules are being loaded."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALLED = 128  # plus the signal's number, as shells count it

_IMPORTING = "<frozen importlib._bootstrap>"
_AGAIN = 0.05  # seconds until an interrupt that came while a module was loaded is tried again


@contextmanager
def leaving_at_once(command: str) -> Iterator[None]:
    """Ends the process on Ctrl-C: for moments in which there is nothing to clean up."""

    def leave(number: int, frame: FrameType | None) -> None:
        os.write(2, f"simroot {command}: interrupted\n".encode(errors="replace"))
        os._exit(SIGNALLED + number)

    with _handler(leave):
        yield


@contextmanager
def after_imports() -> Iterator[None]:
    """Raises KeyboardInterrupt on Ctrl-C, but never inside an import: a module half loaded fails in strange ways."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not _importing(frame):
            raise KeyboardInterrupt
        timer = threading.Timer(_AGAIN, _thread.interrupt_main)
        timer.daemon = True
        timer.start()

    with _handler(interrupt):
        yield


@contextmanager
def _handler(function: signal._HANDLER) -> Iterator[None]:
    """A handler of Ctrl-C, unless Ctrl-C is ignored or handled by somebody else."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    signal.signal(signal.SIGINT, function)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTING:
            return True
        frame = frame.f_back
    return False


def told(command: str, error: KeyboardInterrupt) -> int:
    """Say that a command was stopped, and give its exit code; a training says by which signal, and how to go on."""
    print(f"simroot {command}: {str(error) or 'interrupted'}", file=sys.stderr)
    return SIGNALLED + signal.Signals[getattr(error, "signal", "SIGINT")]
