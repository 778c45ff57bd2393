"""Batches against what a slow loop over single images would give; epochs depend on (seed, epoch) alone."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from simroot.data import BatchLoader, MemorySplit, StreamedSplit, loader, normalise
from simroot.data.augment import Augmentation
from simroot.data.batches import kept_on
from simroot.errors import ConfigError, DataError
from simroot.images.listing import ImageFile
from simroot.images.preparation import Preparation

# With this mean and std a normalised pixel is exactly (pixel - 128), and the border's mean exactly 0.
MEAN, STD = (128 / 255,) * 3, (1 / 255,) * 3
COUNT, SIDE = 50, 6
PIXELS = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (COUNT, 3, SIDE, SIDE), dtype=np.uint8))
SPLIT = MemorySplit(PIXELS, torch.arange(COUNT))  # labels say which image it is


def make(batch_size: int = 16, *, split: Any = SPLIT, train: bool = True, **options: Any) -> BatchLoader:
    return loader(split, batch_size, mean=MEAN, std=STD, train=train, **options)


def epoch(batches: BatchLoader, number: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    batches.set_epoch(number)
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


def candidates(pixels: torch.Tensor, shift: int) -> dict[tuple[int, int, bool], np.ndarray]:
    """Every shifted and mirrored form of one image, one pixel at a time."""
    image = pixels.double().numpy() - 128
    forms = {}
    for down in range(-shift, shift + 1):
        for right in range(-shift, shift + 1):
            moved = np.zeros_like(image)
            for row in range(SIDE):
                for column in range(SIDE):
                    if 0 <= row - down < SIDE and 0 <= column - right < SIDE:
                        moved[:, row, column] = image[:, row - down, column - right]
            forms[down, right, False] = moved
            forms[down, right, True] = moved[:, :, ::-1]
    return forms


def test_every_augmented_image_is_a_shifted_and_mirrored_original() -> None:
    seen: Counter[tuple[int, int, bool]] = Counter()
    batches = make(shift=2, mirror=True)
    for number in range(8):
        for image, label in zip(*epoch(batches, number), strict=True):
            forms = candidates(PIXELS[label], 2)
            matches = [form for form, expected in forms.items() if np.array_equal(image.double().numpy(), expected)]
            assert len(matches) == 1
            seen[matches[0]] += 1
    assert len(seen) == 2 * 5 * 5  # all of them occur, in 384 draws
    mirrored = sum(count for (_, _, flipped), count in seen.items() if flipped)
    assert 0.4 < mirrored / seen.total() < 0.6


def test_without_augmentation_training_images_are_the_originals() -> None:
    images, labels = epoch(make())
    assert torch.equal(images, PIXELS[labels].float() - 128)


def test_normalise_is_the_formula() -> None:
    mean, std = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
    expected = (PIXELS.double() / 255 - torch.tensor(mean).double().view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(normalise(PIXELS, mean, std), expected.float(), rtol=1e-5, atol=1e-5)
    assert torch.equal(normalise(PIXELS[0], mean, std), normalise(PIXELS, mean, std)[0])
    batches = loader(SPLIT, COUNT, mean=mean, std=std, train=False)
    assert torch.equal(next(iter(batches))[0], normalise(PIXELS, mean, std))


def test_training_permutes_anew_each_epoch_and_drops_the_rest() -> None:
    batches = make()
    assert len(batches) == 3
    first, second = epoch(batches, 0)[1], epoch(batches, 1)[1]
    for labels in (first, second):
        assert len(set(labels.tolist())) == len(labels) == 48
    assert not torch.equal(first, second)
    assert not torch.equal(first, first.sort().values)


def test_an_epoch_depends_on_seed_and_epoch_alone() -> None:
    options: dict[str, Any] = {"shift": 2, "mirror": True, "seed": 7}
    torch.manual_seed(1)
    expected = epoch(make(**options), 3)
    torch.manual_seed(2)
    batches = make(**options)
    for number in (0, 1, 5):
        epoch(batches, number)
    again = epoch(batches, 3)
    assert all(torch.equal(a, b) for a, b in zip(expected, again, strict=True))
    assert not torch.equal(epoch(make(**{**options, "seed": 8}), 3)[1], expected[1])


def test_the_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    epoch(make(shift=2, mirror=True))
    assert torch.equal(before, torch.get_rng_state())


def test_evaluation_keeps_all_in_order_and_ignores_augmentation() -> None:
    batches = make(train=False, shift=2, mirror=True)
    images, labels = epoch(batches, 4)
    assert len(batches) == 4
    assert torch.equal(labels, torch.arange(COUNT))
    assert torch.equal(images, PIXELS.float() - 128)


def test_a_single_incomplete_batch_is_kept_in_training() -> None:
    batches = make(64)
    assert len(batches) == 1
    assert sorted(epoch(batches)[1].tolist()) == list(range(COUNT))


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_share_the_batches_of_one(train: bool, world_size: int) -> None:
    options: dict[str, Any] = {"train": train, "shift": 2, "mirror": True}
    alone = list(make(**options))
    ranks = [list(make(**options, rank=rank, world_size=world_size)) for rank in range(world_size)]
    for number, (images, labels) in enumerate(alone):
        assert torch.equal(images, torch.cat([batches[number][0] for batches in ranks]))
        assert torch.equal(labels, torch.cat([batches[number][1] for batches in ranks]))
        if train:
            assert {len(batches[number][1]) for batches in ranks} == {16 // world_size}
    assert {len(batches) for batches in ranks} == {len(alone)}


def test_more_processes_than_images_in_the_last_evaluation_batch() -> None:
    few = MemorySplit(PIXELS[:2], torch.arange(2))
    ranks = [epoch(make(split=few, train=False, rank=rank, world_size=3)) for rank in range(3)]
    assert sorted(label for _, labels in ranks for label in labels.tolist()) == [0, 1]
    assert {images.shape[1:] for images, _ in ranks} == {(3, SIDE, SIDE)}


def test_channels_last_changes_only_the_memory_format() -> None:
    choices: list[dict[str, Any]] = [{}, {"shift": 2, "mirror": True}]
    for options in choices:
        plain, last = (next(iter(make(**options, channels_last=flag)))[0] for flag in (False, True))
        assert torch.equal(plain, last)
        assert plain.is_contiguous()
        assert last.is_contiguous(memory_format=torch.channels_last)


@pytest.fixture
def streamed(tmp_path: Path) -> StreamedSplit:
    files = []
    for number, pixels in enumerate(PIXELS):
        path = tmp_path / f"{number}.png"
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path)
        files.append(ImageFile(path.name, path))
    return StreamedSplit(files, torch.arange(COUNT), torch.zeros(COUNT, 2, 3, dtype=torch.int64), Preparation(3, SIDE))


@pytest.mark.parametrize("workers", [0, 1, 3, None])
def test_streamed_batches_are_those_of_memory(streamed: StreamedSplit, workers: int | None) -> None:
    options: dict[str, Any] = {"shift": 2, "mirror": True}
    expected, received = epoch(make(**options), 2), epoch(make(split=streamed, workers=workers, **options), 2)
    assert all(torch.equal(a, b) for a, b in zip(expected, received, strict=True))


def test_workers_end_with_the_iteration(streamed: StreamedSplit) -> None:
    def running() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("simroot-data")]

    batches = iter(make(4, split=streamed, workers=2))
    next(batches)
    assert running()
    batches.close()  # type: ignore[attr-defined]
    assert not running()


def test_a_worker_s_error_reaches_the_user(streamed: StreamedSplit) -> None:
    path = streamed.files[11].source
    assert isinstance(path, Path)
    path.write_bytes(b"broken")
    with pytest.raises(DataError, match=r"11\.png can no longer be read"):
        epoch(make(split=streamed, workers=2, train=False))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0, expected at least 1"),
        ({"shift": -1}, "shift is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"rank": 2, "world_size": 2}, "rank is 2, expected less than the 2 processes"),
        ({"rank": -1}, "rank is -1"),
        ({"world_size": 0}, "world_size is 0"),
        ({"workers": -1}, "workers is -1"),
        ({"world_size": 3}, "16 images cannot be shared equally by 3 processes"),
        ({"world_size": 64}, "50 images cannot be shared equally by 64 processes"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**arguments)


def test_batches_are_made_where_the_network_is() -> None:
    """On a device that computes nothing, every operation that mixes it with the processor fails."""
    every = Augmentation(rotate=10, zoom=0.1, jitter=0.1, erase=0.3)
    batches = make(shift=2, mirror=True, augmentation=every, device="meta", channels_last=True)
    assert batches._kept.images is not None
    assert batches._kept.images.is_meta
    for images, labels in batches:
        assert images.is_meta
        assert images.shape == (16, 3, SIDE, SIDE)
        assert labels.is_meta


@pytest.mark.parametrize(("free", "kept"), [(4 * PIXELS.nbytes, True), (4 * PIXELS.nbytes - 1, False)])
def test_pixels_are_kept_on_a_device_with_room(monkeypatch: pytest.MonkeyPatch, free: int, kept: bool) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 0))
    monkeypatch.setattr(MemorySplit, "on", lambda split, device: "there")
    found: object = kept_on(SPLIT, torch.device("cuda"))
    assert (found == "there") is kept
    assert kept_on(SPLIT, torch.device("cpu")) is SPLIT
