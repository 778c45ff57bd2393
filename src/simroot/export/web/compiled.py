"""C text as a module of WebAssembly, by the compiler of the package ziglang."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from simroot.engines import library
from simroot.errors import ExportError
from simroot.export.c.text import kernel

_HEADERS = ("string.h", "math.h")
# For size (-Os), which a visitor waits for: the code is a third to two thirds smaller than with -O3. Hosted: memcpy and
# fabsf are known to the compiler, which writes instructions for them, so that no library is needed.
_FLAGS = ("--target=wasm32-freestanding", "-fhosted", "-msimd128", "-mbulk-memory", "-Os", "-std=c99")
_LINK = ("--no-entry", "--strip-all", "--compress-relocations", "-z", "stack-size=65536")


def require() -> None:
    """Make sure that there are a compiler and what runs its modules.

    Raises:
        ConfigError: saying how to install what is not installed.
    """
    library("ziglang", "web", "ziglang, which compiles for the web,")
    library("wasmtime", "web", "wasmtime, which checks what was compiled for the web,")


def compile_module(folder: Path, name: str, module: Path, pictures: bool, **fields: object) -> None:
    """Compile a network's C text to a module without imports.

    Args:
        folder: where NAME.c and NAME.h are; it gets more files.
        name: the network's.
        module: the file to be written.
        pictures: whether the network has functions that prepare pixels.
        **fields: of the kernels.

    Raises:
        ExportError: if the compiler refuses the text.
    """
    for header in _HEADERS:
        (folder / header).write_text(kernel(f"web/{header}"), encoding="utf-8")
    parts = ["network.c", *(["picture.c"] if pictures else [])]
    source, compiled = folder / f"{name}_web.c", folder / f"{name}_web.o"
    text = "\n".join(kernel(f"web/{part}", name=name, upper=name.upper(), **fields) for part in parts)
    source.write_text(f'#include "{name}.c"\n{text}', encoding="utf-8")
    _run(folder, "cc", *_FLAGS, "-ffp-contract=off", "-isystem", folder, "-c", source, "-o", compiled)
    _run(folder, "wasm-ld", *_LINK, compiled, "-o", module)
    module.chmod(0o644)


def _run(folder: Path, *words: str | Path) -> None:
    """A command of ziglang, with its caches in a folder."""
    caches = {f"ZIG_{kind}_CACHE_DIR": str(folder / "cache") for kind in ("GLOBAL", "LOCAL")}
    command = [sys.executable, "-m", "ziglang", *map(str, words)]
    done = subprocess.run(command, env={**os.environ, **caches}, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        raise ExportError(f"ziglang refuses the C text: {(lines or ['without a word'])[0]}")
