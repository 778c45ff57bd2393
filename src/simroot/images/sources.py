"""Where an encoded image is: in a file of its own, in memory, or in one piece inside of an archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

TAR_BLOCK = 512  # bytes of a tar before each of its files


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive that is not compressed: ``size`` bytes from ``start``, read when they are needed.

    ``check`` is ``header_check`` of the header before it. By it an archive is noticed that was written again: then an
    image of another class may lie there.
    """

    archive: Path
    start: int
    size: int
    check: int

    def __str__(self) -> str:
        return f"{self.archive} at byte {self.start}"

    def __len__(self) -> int:
        return self.size

    def read_bytes(self) -> bytes:
        """The encoded image.

        Raises:
            OSError: the archive cannot be read, ends before, or is another one now.
        """
        with self.archive.open("rb", buffering=0) as file:
            file.seek(self.start - TAR_BLOCK)
            header, content = file.read(TAR_BLOCK), file.read(self.size)
        if len(content) < self.size:
            raise OSError(f"{self.archive} ends before byte {self.start + self.size}")
        if header_check(header) != self.check:
            raise OSError(f"{self.archive} has been written again: another file lies at byte {self.start}")
        return content


def header_check(header: bytes) -> int:
    """A number for the header of a file in a tar, ``TAR_BLOCK`` bytes with its name, size and time."""
    return crc32(header)


Source = Path | bytes | Member


def content_of(source: Source) -> bytes:
    """The encoded image; raises OSError."""
    return source if isinstance(source, bytes) else source.read_bytes()


def size_of(source: Source) -> int:
    """The bytes of the encoded image; raises OSError."""
    return source.stat().st_size if isinstance(source, Path) else len(source)
