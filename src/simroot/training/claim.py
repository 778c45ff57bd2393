"""A run directory belongs to one training at a time."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout
from lightning.pytorch.utilities import rank_zero_only

from simroot.errors import ConfigError


class InUseError(ConfigError):
    """Another training holds the directory."""


# Held while a training uses the directory. The system lets go of it when the process ends, however it ends.
LOCK = ".lock"

_ATTEMPTS = 5
# A file system without locks, as some that are reached over a network: filelock's soft lock names process and host.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)

# Directory -> the thread that holds it.
_held: dict[Path, int] = {}
# Directories that trainings of this process made: the last one to leave takes an empty one away.
_made: set[Path] = set()


def first_process() -> bool:
    """Whether this is the one of several processes that speaks and writes."""
    return getattr(rank_zero_only, "rank", 0) == 0


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Keep a directory for this training; it is made if there is none, and goes again if nothing stays in it.

    The thread that holds it may claim it again. If several processes train together, the first one claims it.

    Raises:
        InUseError: if another training holds it.
        ConfigError: if it cannot be made or written to.
    """
    key, thread = path.resolve(), threading.get_ident()
    if not first_process() or _held.get(key) == thread:
        yield
        return
    _made.update(folder for folder in (key, *key.parents) if not folder.exists())
    lock = _acquired(path)
    _held[key] = thread
    try:
        yield
    finally:
        del _held[key]
        with suppress(OSError):  # who waits for a lock file that is gone makes a new one
            (path / LOCK).unlink()
        lock.release()
        with suppress(OSError):  # one in which something has been written
            for folder in (key, *key.parents):
                if folder not in _made:
                    break
                folder.rmdir()
                _made.discard(folder)


def _acquired(path: Path) -> BaseFileLock:
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{path} is a file; a run needs a directory: choose another --out")
    kind: type[BaseFileLock] = FileLock
    try:
        for _ in range(_ATTEMPTS):  # another training that could not start may take its empty directory away
            with suppress(FileNotFoundError):
                path.mkdir(parents=True, exist_ok=True)
                try:
                    return _locked(kind, path)
                except OSError as error:
                    if error.errno not in _NO_LOCKS:
                        raise
                    kind = SoftFileLock
    except Timeout:
        raise InUseError(
            f"{path} is in use: another training is running there; wait until it ends or choose another --out"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be used: {error.strerror or error}; choose another --out") from error
    raise InUseError(f"{path} comes and goes: other trainings use it; choose another --out")


def _locked(kind: type[BaseFileLock], path: Path) -> BaseFileLock:
    lock = kind(path / LOCK, timeout=0, thread_local=False)
    lock.acquire()
    return lock
