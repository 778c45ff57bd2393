"""C as text: kernels from their files, constants as tables."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simroot.errors import ConfigError

_WIDTH = 110
_LARGEST = float(np.finfo(np.float32).max)


@cache
def _read(name: str) -> str:
    """A kernel's file, with other files in the place of its lines ``@include NAME``."""
    text = resources.files("simroot.export.c").joinpath("kernels", name).read_text(encoding="utf-8")
    return re.sub(r"^@include (.+)\n", lambda match: _read(match[1]), text, flags=re.MULTILINE)


def kernel(file: str, /, **fields: object) -> str:
    """The text of a kernel's file with its fields, ``@FIELD@``, filled in; lines left empty by a field are dropped."""
    text = re.sub(r"@([A-Z0-9_]+)@", lambda match: str(fields[match.group(1).lower()]), _read(file))
    return re.sub(r"\n[ \t]+(?=\n)", "", text)


def functions(file: str, users: str) -> str:
    """The functions of a file that a text calls, and those that they call."""
    chunks = re.split(r"(?<=\n}\n)\n", _read(file))
    named = {re.search(r"static \w+ (\w+)\(", chunk)[1]: chunk for chunk in chunks}  # type: ignore[index]
    found: set[str] = set()
    texts = [users]
    while texts:
        text = texts.pop()
        new = {name for name in named if re.search(rf"\b{name}\(", text)} - found
        found |= new
        texts += [named[name] for name in new]
    return "\n".join(chunk for name, chunk in named.items() if name in found)


def real(value: float) -> str:
    """A float32 constant, exact; infinities are the largest number."""
    value = float(np.clip(np.float32(value), -_LARGEST, _LARGEST))
    if not np.isfinite(value):
        raise ConfigError(f"a weight is {value}, which no file can hold; train the network again")
    text = f"{value:.9g}"
    return f"{text}F" if re.search(r"[.e]", text) else f"{text}.0F"


def table(kind: str, name: str, values: NDArray[Any], behind: str = "") -> str:
    """A constant array, with as many zeros behind it as a macro of C says."""
    flat = np.asarray(values).reshape(-1)
    if np.issubdtype(flat.dtype, np.floating) and not np.isfinite(flat).all():
        raise ConfigError(f"weights for the table {name} are not finite; train the network again")
    words = [real(value) for value in flat] if kind == "float" else [str(int(value)) for value in flat]
    size = f"{len(words)} + {behind}" if behind else f"{len(words)}"
    return f"static const {kind} {name}[{size}] = {{\n{_wrapped(words)}\n}};\n"


def _wrapped(words: Iterable[str]) -> str:
    lines, line = [], "   "
    for word in words:
        if len(line) + len(word) + 2 > _WIDTH:
            lines.append(line)
            line = "   "
        line += f" {word},"
    return "\n".join([*lines, line])


def string(text: str) -> str:
    """A C string of UTF-8 bytes."""
    plain = text.encode()
    safe = "".join(chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}" for byte in plain)
    return f'"{safe}"'


def identifier(text: str) -> str:
    """A name that C takes: letters, digits and underscores, not beginning with a digit."""
    name = re.sub(r"[^0-9A-Za-z]+", "_", text).strip("_").lower()
    return name if name and not name[0].isdigit() else f"network_{name}".rstrip("_")
