"""Files and folders that appear only when they are complete: a kill, a crash or a full disk leaves what was there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypedDict

from simroot.errors import SimrootError

if TYPE_CHECKING:
    from typing_extensions import Unpack

_TEMPORARY = ".tmp"


class Words(TypedDict, total=False):
    """How the one who writes wants a failure told.

    Keys:
        error: the kind of error to raise; ``SimrootError`` if left out.
        advice: what a user can do about it; ends the message.
    """

    error: type[SimrootError]
    advice: str


@contextmanager
def appearing(path: Path, **words: Unpack[Words]) -> Iterator[Path]:
    """A path of the same name in a hidden folder beside ``path``: a file to be written, or a folder to be made.

    Files beside it are its companions. When the context is left without an error, all are flushed to the disk and given
    their places, ``path`` last: whoever finds ``path`` finds its companions. After an error nothing is left, and an
    earlier file stays as it was.

    Args:
        path: where it is to appear.
        **words: see ``Words``.

    Raises:
        SimrootError: of the kind wanted, if the folder of ``path`` is missing or cannot be written to, or the disk is
            full.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=_TEMPORARY, dir=path.parent) as folder:
            temporary = Path(folder) / path.name
            yield temporary
            for made in sorted(temporary.parent.iterdir(), key=lambda made: made == temporary):
                _flush(made)
                os.replace(made, path.with_name(made.name))
    except OSError as reason:
        advice = words.get("advice", "make room, mend the folder or name another")
        kind = words.get("error", SimrootError)
        raise kind(f"cannot write {path}: {reason.strerror or reason}; {advice}") from reason


def write_atomic(path: Path, write: Callable[[BinaryIO], object], **words: Unpack[Words]) -> None:
    """Write one file whole or not at all.

    Args:
        path: the file.
        write: writes the contents to an open file. Libraries that open files by themselves may hide the system's
            reason for a failure.
        **words: see ``Words``.

    Raises:
        SimrootError: as ``appearing``.
    """
    with appearing(path, **words) as temporary, temporary.open("wb") as file:
        write(file)


def write_text(path: Path, text: str, **words: Unpack[Words]) -> None:
    """Write a text file in UTF-8 by ``write_atomic``."""
    write_atomic(path, lambda file: file.write(text.encode()), **words)


def remove_torn(folder: Path) -> None:
    """Remove what a kill has left of files that were being written."""
    for torn in folder.glob(f".*{_TEMPORARY}"):
        if torn.is_dir() and not torn.is_symlink():
            shutil.rmtree(torn, ignore_errors=True)
        else:
            torn.unlink(missing_ok=True)


def _flush(made: Path) -> None:
    for file in made.rglob("*") if made.is_dir() else [made]:
        if file.is_file():
            with file.open("rb+") as opened:
                os.fsync(opened.fileno())
