"""Errors that a user can cause: one clear line, no traceback on the command line.

Every message says what was received, what was expected and what to do. Text from outside (names of files, contents of
files, words of a command line) is cut and shown without control characters: ``quoted`` for a value, ``one_line`` for
a whole message, which every error of ours and every line of the log passes through.
"""

from __future__ import annotations

import difflib
import logging
import reprlib
from collections.abc import Iterable, Sequence
from pathlib import PurePath

_LONGEST_MESSAGE = 1000
_LONGEST_VALUE = 100


def printable(text: str) -> str:
    r"""The text with an escape, such as ``\x1b`` or ``\n``, for every character that is no letter, sign or space."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number with what it counts, such as ``1 image`` and ``1,315 images``; ``plural`` if it is not noun + s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def one_line(text: str, longest: int = _LONGEST_MESSAGE) -> str:
    """The text as one line of printable characters, its middle left out if it is longer than ``longest``."""
    # Cut before it is escaped as well: a text of megabytes is not gone through for a line.
    return _cut(printable(_cut(text, 2 * longest)), longest)


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    tail = (longest - 3) // 3
    return f"{text[: longest - 3 - tail]}...{text[-tail:]}"


def listed(names: Sequence[str], most: int) -> str:
    """At most so many names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


class _Repr(reprlib.Repr):
    """Looks at a few parts of plain values and calls no ``__repr__`` of anything else."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring = 3, _LONGEST_VALUE
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = 4

    def repr_instance(self, x: object, level: int) -> str:
        """What is no plain value goes by its type."""
        return repr(x) if x is None or isinstance(x, bool | float | complex) else f"<{type(x).__name__}>"

    repr_float = repr_bool = repr_NoneType = repr_instance

    def repr_int(self, x: int, level: int) -> str:
        """Python refuses to write numbers of thousands of digits."""
        return repr(x) if abs(x) < 10**40 else f"<int of {x.bit_length()} bits>"


_REPR = _Repr()


def quoted(value: object, longest: int = _LONGEST_VALUE) -> str:
    """A value from outside as a message shows it: like ``repr``, cut to ``longest`` printable characters."""
    if isinstance(value, PurePath):
        value = str(value)
    return one_line(_REPR.repr(value), longest)


class LineFormatter(logging.Formatter):
    """Records of the log as ``one_line``."""

    def format(self, record: logging.LogRecord) -> str:
        """Without a traceback: nothing of ours logs one."""
        return one_line(super().format(record))


class SimrootError(ValueError):
    """Base of all errors that simroot raises on purpose; the message becomes ``one_line``."""

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(message))


class ConfigError(SimrootError):
    """A wrong argument, recipe field, model name or model override."""


class DataError(SimrootError):
    """A data set, image folder or image that cannot be used."""


class CheckpointError(SimrootError):
    """A run directory or checkpoint that is missing, truncated or does not fit."""


class TrainingError(SimrootError):
    """A training that cannot go on: a loss that is not finite, a full disk."""


class UnknownOperatorError(SimrootError):
    """The cost counter met an operator for which it has no formula."""


class ExportError(SimrootError):
    """An exported file that cannot be used, or would not do what the network does."""


def is_whole(value: object, least: int) -> bool:
    """Whether a value is an integer of at least ``least``; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def nearest(word: str, known: Iterable[str], *, most: int = 3, otherwise: str = "known are") -> str:
    """What to say of an unknown word: at most so many known ones that are like it, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=most)
    return f"did you mean {' or '.join(close)}?" if close else f"{otherwise} {', '.join(known)}"
