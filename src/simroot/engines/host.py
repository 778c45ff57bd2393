"""The text of the C export compiled for this machine and run from Python."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simroot.errors import ExportError

_STANDARD = ("-std=c99", "-pedantic")
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Werror", *_STANDARD)
_FLAGS = ("-O3", "-ffp-contract=off")
_NATIVE = "-march=native"


def compiler() -> str | None:
    """The C compiler of this machine: what the environment's CC names, else cc, gcc or clang; None if there is none."""
    wanted = os.environ.get("CC", "").split()[:1]
    return next((found for name in (*wanted, "cc", "gcc", "clang") if (found := shutil.which(name))), None)


@functools.cache
def _native(command: str) -> tuple[str, ...]:
    """The option for this machine's own instructions, if the compiler knows it."""
    words = [command, _NATIVE, "-x", "c", "-E", os.devnull]
    return (_NATIVE,) if subprocess.run(words, capture_output=True, check=False).returncode == 0 else ()


def channels_last(images: NDArray[Any]) -> NDArray[Any]:
    """(N, C, H, W) as (N, H, W, C); vectors stay."""
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1)) if images.ndim == 4 else images


class HostProgram:
    """A network's C source, compiled, with the environment's CFLAGS before its own, and loaded.

    Args:
        source: the .c file, its header beside it.
        name: what its functions are called after.
        shape: of one input, (H, W, C).
        classes: number of scores.
        dtype: of the input.
        with_compiler: which; the one of ``compiler`` if None.
        flags: more options.

    Raises:
        ExportError: if there is no compiler, or it refuses the source.
    """

    def __init__(
        self,
        source: Path,
        name: str,
        shape: tuple[int, int, int],
        classes: int,
        dtype: type[np.generic],
        *,
        with_compiler: str | None = None,
        flags: Sequence[str] = (),
    ) -> None:
        self.source, self.name, self.shape, self.classes, self.dtype = source, name, shape, classes, np.dtype(dtype)
        command = with_compiler or compiler()
        if command is None:
            raise ExportError("no C compiler was found; install gcc or clang, or name one in CC")
        with tempfile.TemporaryDirectory(prefix="simroot-c-") as folder:  # what is loaded stays
            library = Path(folder) / f"{name}.so"
            own = os.environ.get("CFLAGS", "").split()  # a new compiler's warning is no reason to refuse a text
            fixed = [*own, "-shared", "-fPIC", *_STANDARD, *_FLAGS, *_native(command), *flags]
            words = [command, *fixed, "-o", str(library), str(source), "-lm"]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
                raise ExportError(f"{command} refuses the C text: {(lines or ['without a word'])[0]}")
            self.library = ctypes.CDLL(str(library))

    def scores(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """float32 (N, classes) of images (N, H, W, C)."""
        images = np.ascontiguousarray(images, dtype=self.dtype)
        found = np.empty((len(images), self.classes), dtype=np.float32)
        classify = getattr(self.library, f"{self.name}_classify")
        classify.argtypes = (ctypes.c_void_p,) * 3
        image, row = images.ctypes.data, found.ctypes.data
        for _ in range(len(images)):
            if classify(image, None, row) < 0:
                raise ExportError(f"{self.name}_classify refuses to work")
            image, row = image + images.strides[0], row + found.strides[0]
        return found

    def selftest(self) -> int:
        """How many embedded images come out wrong."""
        wrong: int = getattr(self.library, f"{self.name}_selftest")(None)
        return wrong

    def prepare(
        self, kind: str, frame: NDArray[np.uint8], width: int, height: int, flips: int = 0, room: int | None = None
    ) -> NDArray[np.uint8]:
        """A frame, (height, bytes of a row), as ``NAME_prepare_KIND`` gives it: uint8 (H, W, C)."""
        frame = np.ascontiguousarray(frame)
        pixels = np.zeros(self.shape, dtype=np.uint8)
        room = 4 * (self.shape[1] * (self.shape[2] + 7) + 2 * width) if room is None else room
        work = np.zeros(room // 4 + 1, dtype=np.int32)
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (frame, work, pixels)]
        function = getattr(self.library, f"{self.name}_prepare_{kind}")
        stride = ctypes.c_size_t(frame.strides[0])
        done = function(pointers[0], width, height, stride, flips, pointers[1], ctypes.c_size_t(room), pointers[2])
        if done:
            raise ExportError(f"{self.name}_prepare_{kind} refuses a frame of {width} x {height}")
        return pixels
