"""The stack that a classification takes: the deepest chain of calls, with the frames that the compiler tells."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from simroot.export.c.verify import OPTIONS, TARGETS

TARGET = "cortex-m4"
"""The processor that it is told for."""

ALLOWANCE = 1024
"""Bytes that a budget of RAM leaves for it, whatever the network."""

_LIBRARY = 16  # memset takes three words, which is the most of what a network calls with a floating-point unit

_NODE = re.compile(r'^node: \{ title: "([^"]+)" label: "[^"]*?(\d+) bytes \(static\)"', re.M)
_EDGE = re.compile(r'^edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"', re.M)


def stack_bytes(source: Path, name: str, target: str = TARGET) -> int | None:
    """Bytes of stack that ``NAME_classify`` takes below its caller, compiled with -O2 by GCC.

    Functions of the compiler's library are counted with 16 bytes, which those for floating point may exceed where there
    is no unit for it.

    Args:
        source: the .c file, its header beside it.
        name: what its functions are called after.
        target: a processor of ``simroot.export.c.verify.TARGETS``.

    Returns:
        The bytes, or None if the target's compiler is not there or does not tell.
    """
    chip = TARGETS[target]
    if shutil.which(chip.compiler) is None:
        return None
    with tempfile.TemporaryDirectory(prefix="simroot-stack-") as room:
        words = [chip.compiler, *chip.options, *OPTIONS, "-fcallgraph-info=su", "-c", str(source), "-o", f"{room}/a.o"]
        graph = Path(room) / "a.ci"
        if subprocess.run(words, capture_output=True, check=False).returncode or not graph.exists():
            return None
        return deepest(graph.read_text(encoding="utf-8"), f"{name}_classify")


def deepest(graph: str, start: str) -> int | None:
    """The largest sum of frames along any chain of calls of GCC's call graph; None if the start is not in it.

    There is no recursion in what is exported, nor a frame of a size that is not known.
    """
    frames = {title: int(size) for title, size in _NODE.findall(graph)}
    calls = set(_EDGE.findall(graph))

    def below(function: str) -> int:
        called = [below(other) for caller, other in calls if caller == function]
        return frames.get(function, _LIBRARY) + max(called, default=0)

    return below(start) if start in frames else None
