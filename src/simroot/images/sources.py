"""Where an encoded image is: in a file of its own, in memory, or in one piece inside of an archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive that is not compressed: ``size`` bytes from ``start``, read when they are needed."""

    archive: Path
    start: int
    size: int

    def __str__(self) -> str:
        return f"{self.archive} at byte {self.start}"

    def __len__(self) -> int:
        return self.size

    def read_bytes(self) -> bytes:
        """The encoded image.

        Raises:
            OSError: the archive cannot be read, or ends before.
        """
        with self.archive.open("rb", buffering=0) as file:
            file.seek(self.start)
            content = file.read(self.size)
        if len(content) < self.size:
            raise OSError(f"{self.archive} ends before byte {self.start + self.size}")
        return content


Source = Path | bytes | Member


def content_of(source: Source) -> bytes:
    """The encoded image; raises OSError."""
    return source if isinstance(source, bytes) else source.read_bytes()


def size_of(source: Source) -> int:
    """The bytes of the encoded image; raises OSError."""
    return source.stat().st_size if isinstance(source, Path) else len(source)
