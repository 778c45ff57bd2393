"""Files appear whole or not at all, and whoever writes them says in their own words what went wrong."""

import errno
import os
from pathlib import Path

import pytest

from simroot.errors import ConfigError, SimrootError
from simroot.files import appearing, remove_torn, write_atomic, write_text


@pytest.fixture
def _full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)


def test_a_text_replaces_the_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for text in ("first", "später"):
        write_text(path, text)
        assert path.read_bytes() == text.encode()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("_full_disk")
def test_a_full_disk_leaves_the_earlier_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("first")
    with pytest.raises(ConfigError, match=r"^cannot write .*a\.txt: No space left on device; choose another --out$"):
        write_text(path, "second", error=ConfigError, advice="choose another --out")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_while_writing_passes_and_leaves_nothing(tmp_path: Path) -> None:
    def write(file: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_atomic(tmp_path / "a.txt", write)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("place", "reason"), [("missing/a", "No such file"), ("file/a", "Not a directory")])
def test_an_unusable_folder_is_told(tmp_path: Path, place: str, reason: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SimrootError, match=f"^cannot write .*{place}: {reason}.*; make room, mend the folder or name"):
        write_text(tmp_path / place, "text")


def test_companions_come_with_their_file(tmp_path: Path) -> None:
    with appearing(tmp_path / "net.xml") as path:
        path.write_text("graph")
        path.with_suffix(".bin").write_text("weights")
        assert [file.suffix for file in tmp_path.iterdir()] == [".tmp"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.bin", "net.xml"]


def test_a_folder_appears_in_the_place_of_an_empty_one(tmp_path: Path) -> None:
    place = tmp_path / "start"
    place.mkdir()
    with appearing(place) as folder:
        (folder / "pictures").mkdir(parents=True)
        (folder / "pictures" / "a.png").write_text("picture")
    assert [path.name for path in tmp_path.rglob("*")] == ["start", "pictures", "a.png"]


def test_what_a_kill_has_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".a.txt.123.tmp").touch()
    (tmp_path / ".b.txt.abc.tmp").mkdir()
    (tmp_path / ".b.txt.abc.tmp" / "b.txt").touch()
    (tmp_path / "c.tmp").touch()
    remove_torn(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["c.tmp"]
