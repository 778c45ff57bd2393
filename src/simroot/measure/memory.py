"""The peak of a process's resident memory, where the system tells it (Linux)."""

from __future__ import annotations

import ctypes
import gc
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


def peak_growth(action: Callable[[], Any]) -> tuple[Any, int | None]:
    """Run ``action`` and return its result, and by how many bytes the process's resident memory grew at its peak.

    Memory that is free but still held by the C library is given back to the system first, so that using it counts. The
    kernel's figures are exact to about a megabyte. None where the system does not tell: anywhere but on Linux.
    """
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    try:
        _CLEAR.write_text(_RESET_PEAK)
        before = _status("VmRSS")
    except OSError:
        return action(), None
    result = action()
    return result, max(_status("VmHWM") - before, 0)


def _status(name: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])
