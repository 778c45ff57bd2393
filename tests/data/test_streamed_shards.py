"""Shards that are read during the training: the same images as in files, in an order that spares the disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image

from data.test_shards import picture, write
from data.written import photos, write_shards
from simroot.data import ImageData, StreamedSplit, load, loader, shard_order
from simroot.data.choices import Asked
from simroot.data.reading import decode_files
from simroot.data.shard_order import shuffled, streamed_line
from simroot.errors import DataError
from simroot.images.listing import ImageFile
from simroot.images.preparation import Preparation
from simroot.images.sources import Member

SIZE = 72  # larger than what is kept in memory


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("streamed")
    write_shards(root / "shards", photos(root / "photos"))
    return root


@pytest.fixture(scope="module")
def shards(root: Path) -> ImageData:
    return load(root / "shards", image_size=SIZE)


def sources(split: object) -> list[Member]:
    assert isinstance(split, StreamedSplit)
    return [file.source for file in split.files if isinstance(file.source, Member)]


def test_they_are_the_same_data_as_a_folder(root: Path, shards: ImageData) -> None:
    folder = load(root / "photos", image_size=SIZE)
    assert len(sources(shards.train)) == len(shards.train) == 48
    assert (shards.classes, shards.mean, shards.std) == (folder.classes, folder.mean, folder.std)
    for one, other in ((shards.train, folder.train), (shards.val, folder.val)):
        batches = [loader(split, 8, mean=(0,) * 3, std=(1,) * 3, train=True, seed=3) for split in (one, other)]
        for (images, labels), (same, of_same) in zip(*batches, strict=True):
            assert torch.equal(images, same)
            assert torch.equal(labels, of_same)
    assert (
        streamed_line(shards) == "streaming 60 images from 3 .tar files: read when they are needed, not kept in memory"
    )
    assert streamed_line(folder) == ""


def test_nothing_is_kept_of_the_images(root: Path) -> None:
    """Whatever is read again is looked for in the shard."""
    found = load(root / "shards", image_size=SIZE, check=False)
    first = sources(found.train)[0]
    content = first.archive.read_bytes()
    first.archive.write_bytes(content[: first.start + 10])
    with pytest.raises(DataError, match=r"000\.tar/.*\.png cannot be read: .*000\.tar ends before byte"):
        found.train.read(torch.arange(len(found.train)))
    first.archive.write_bytes(content)


def test_a_shard_that_is_written_again_is_noticed(tmp_path: Path) -> None:
    """Where other images of the same size lie now, their labels would be those of the images before."""
    pictures = [Image.new("L", (SIZE, SIZE), 10 * number) for number in range(12)]

    def files(order: Sequence[int]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for number in order:
            pictures[number].save(content := BytesIO(), "BMP")
            found |= {f"{number:02}.bmp": content.getvalue(), f"{number:02}.cls": str(number % 2).encode()}
        return found

    found = load(write(tmp_path / "s.tar", files(range(12))), image_size=SIZE).train
    before = found.read(torch.arange(len(found)))
    write(tmp_path / "s.tar", files(range(12)))
    assert torch.equal(found.read(torch.arange(len(found))), before)
    write(tmp_path / "s.tar", files(range(11, -1, -1)))
    with pytest.raises(
        DataError, match=r"00\.bmp can no longer be read: .*s\.tar has been written again: another file"
    ):
        found.read(torch.arange(len(found)))


def test_compressed_ones_are_kept_in_memory(root: Path, shards: ImageData, tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    for number, member in enumerate(sources(shards.train)):
        files |= {f"{number:03}.png": member.read_bytes(), f"{number:03}.cls": str(number % 2).encode()}
    data = load(write(tmp_path / "s.tar.gz", files), image_size=SIZE)
    assert not sources(data.train)
    assert streamed_line(data) == ""


def test_corrupt_images_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files: dict[str, bytes] = {f"{number:02}.{kind}": b"" for number in range(12) for kind in ("png", "cls")}
    for number in range(12):
        files |= {f"{number:02}.png": picture(number), f"{number:02}.cls": str(number % 2).encode()}
    data = load(write(tmp_path / "s.tar", files | {"05.png": b"no image"}), image_size=SIZE)
    assert data.skipped == ("s.tar/05.png",)
    assert "skipped a corrupt image: s.tar/05.png" in caplog.text
    assert len(data.train) + len(data.val) == 11


def test_the_check_keeps_nothing_of_an_image() -> None:
    """A thousand images of 27 KB, read one after the other, take less memory than a hundred would if they were kept."""
    files = [ImageFile("", picture(number % 256)) for number in range(1000)]
    labels, asked = torch.zeros(1000, dtype=torch.int64), Asked.of((96, 96), 3)
    decode_files(files[:200], labels[:200], asked)  # what is taken once
    before = memory()
    split = decode_files(files, labels, asked)[0]
    assert isinstance(split, StreamedSplit)
    assert memory() - before < 100 * 96 * 96 * 3


def memory() -> int:
    """Bytes that the process holds."""
    if not (status := Path("/proc/self/statm")).exists():
        pytest.skip("this system does not say what a process holds")
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def split_of(shards: int, images: int, size: int) -> StreamedSplit:
    members = [
        Member(Path(f"{shard}.tar"), size * image, size, 0) for shard in range(shards) for image in range(images)
    ]
    files = [ImageFile("", member) for member in members]
    return StreamedSplit(files, torch.zeros(len(files), dtype=torch.int64), None, Preparation(3, SIZE))


def order_of(split: StreamedSplit, seed: int = 0) -> torch.Tensor:
    return shuffled(split, torch.Generator().manual_seed(seed))


def test_a_large_set_is_read_shard_by_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten shards of ten images of which five shards are mixed; then shards of two pieces."""
    split = split_of(shards=10, images=10, size=100)
    monkeypatch.setattr(shard_order, "MIXED", 5000)
    order = order_of(split)
    assert sorted(order.tolist()) == list(range(100))
    halves = [set((half // 10).tolist()) for half in order.split(50)]
    assert [len(shards) for shards in halves] == [5, 5]
    assert not halves[0] & halves[1]
    first = (order[:50] // 10).tolist()
    assert len(set(first[:10])) > 2  # images of the five are mixed
    assert torch.equal(order, order_of(split))
    others = order_of(split, 1)
    assert set((others[:50] // 10).tolist()) != halves[0]  # other shards meet in another epoch
    monkeypatch.setattr(shard_order, "PIECE", 500)
    pieces = [set((half // 5).tolist()) for half in order_of(split).split(50)]
    assert [len(half) for half in pieces] == [10, 10]
    assert len({piece // 2 for piece in pieces[0]}) > 5


def test_small_sets_are_mixed_as_those_of_files_are() -> None:
    split = split_of(shards=3, images=5, size=100)
    assert torch.equal(order_of(split), torch.randperm(15, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("workers", [0, 2])
def test_processes_share_every_batch(shards: ImageData, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes read together what one reads, whatever the threads, also in the order of large sets."""
    monkeypatch.setattr(shard_order, "MIXED", 5000)

    def epoch(rank: int, processes: int) -> list[torch.Tensor]:
        batches = loader(
            shards.train,
            8,
            mean=shards.mean,
            std=shards.std,
            train=True,
            mirror=True,
            rank=rank,
            world_size=processes,
            workers=workers,
        )
        batches.set_epoch(2)
        return [images for images, _ in batches]

    for whole, first, second in zip(epoch(0, 1), epoch(0, 2), epoch(1, 2), strict=True):
        assert torch.equal(whole, torch.cat((first, second)))
        assert not torch.equal(first, second)
