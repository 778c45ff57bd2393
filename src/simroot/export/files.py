"""Files that appear only when they are complete and right."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simroot.errors import ExportError


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A path of the same name in a hidden folder beside ``path``, to be written, with companions if need be.

    When the context is left without an error, everything in the folder is given its place, ``path`` last: whoever
    finds ``path`` finds its companions. After an error nothing is left, and an earlier file stays as it was.

    Raises:
        ExportError: if the folder of ``path`` is missing or cannot be written to.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            temporary = Path(folder) / path.name
            yield temporary
            for file in sorted(temporary.parent.iterdir(), key=lambda file: file == temporary):
                with file.open("rb+") as opened:
                    os.fsync(opened.fileno())
                os.replace(file, path.with_name(file.name))
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror or error}; mend the folder or name another") from error
