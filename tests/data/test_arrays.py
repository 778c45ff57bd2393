"""A user's own arrays: layouts, value ranges and everything that is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from simroot.data import from_arrays
from simroot.data.arrays import to_shape
from simroot.data.splits import stratified
from simroot.errors import DataError

COUNT = 20
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 3, 6, 6), dtype=np.uint8)
LABELS = np.arange(COUNT) % 4


def all_images(data: Any) -> torch.Tensor:
    """Every image, in the order of LABELS' positions as far as the pixels tell."""
    return torch.cat([split.read(torch.arange(len(split))) for split in (data.train, data.val)])


def keys(images: torch.Tensor) -> list[bytes]:
    return sorted(image.numpy().tobytes() for image in images)


@pytest.mark.parametrize(
    "images",
    [
        PIXELS,
        torch.from_numpy(PIXELS),
        PIXELS.transpose(0, 2, 3, 1),
        PIXELS.astype(np.int64),
        PIXELS / 255,
        (PIXELS / 255).astype(np.float32),
    ],
    ids=["uint8", "tensor", "channels last", "int64", "float64", "float32"],
)
def test_layouts_and_types_give_the_same_data(images: Any) -> None:
    data = from_arrays(images, LABELS)
    assert keys(all_images(data)) == keys(torch.from_numpy(PIXELS))
    assert (data.classes, data.image_size, data.channels) == (("0", "1", "2", "3"), 6, 3)
    assert (len(data.train), len(data.val)) == (16, 4)


def test_grey_and_boolean_images() -> None:
    grey = from_arrays(PIXELS[:, 0], LABELS)
    assert (grey.channels, grey.train.read(torch.tensor([0])).shape) == (1, (1, 1, 6, 6))
    black_and_white = from_arrays(PIXELS[:, 0] > 99, LABELS)
    assert all_images(black_and_white).unique().tolist() == [0, 255]


def test_a_validation_part_of_ones_own_and_class_names() -> None:
    data = from_arrays(
        PIXELS, LABELS, "abcd", val_images=PIXELS[:3], val_labels=[3, 2, 1], limit=8, image_size=3, name="mine"
    )
    assert (data.name, data.classes, len(data.train), data.val.labels.tolist()) == ("mine", tuple("abcd"), 8, [3, 2, 1])
    assert data.train.read(torch.tensor([0])).shape == (1, 3, 3, 3)


def test_the_arrays_are_not_changed_and_later_changes_of_floats_do_not_matter() -> None:
    images = PIXELS / 255
    before = images.copy()
    data = from_arrays(images, LABELS)
    images[:] = 0
    assert keys(all_images(data)) == keys(torch.from_numpy(PIXELS))
    assert np.array_equal(before, PIXELS / 255)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (PIXELS / 255 + np.nan, LABELS, "values from nan to nan, expected 0 to 1"),
        (PIXELS.astype(float), LABELS, r"float64 hold values from 0 to 255, expected 0 to 1: rescale"),
        (-(PIXELS / 255), LABELS, "values from -1"),
        (PIXELS.astype(int) + 1, LABELS, "int64 hold values from 1 to 256, expected 0 to 255"),
        (PIXELS.astype(complex), LABELS, "complex128, expected uint8"),
        (PIXELS[:, :2], LABELS, r"shape \(20, 2, 6, 6\), expected"),
        (PIXELS[:, :, :5], LABELS, r"shape \(20, 3, 5, 6\)"),
        (PIXELS[0, 0], LABELS, r"shape \(6, 6\)"),
        (PIXELS[:0], LABELS[:0], r"shape \(0, 3, 6, 6\)"),
        (PIXELS, LABELS[:-1], r"labels has shape \(19,\), expected \(20,\)"),
        (PIXELS, LABELS[:, None], r"labels has shape \(20, 1\)"),
        (PIXELS, LABELS / 1.0, "labels are float64, expected integers"),
        (PIXELS, LABELS - 1, "training labels go from -1 to 2"),
        (PIXELS, LABELS * 1000, "training labels go from 0 to 3000"),
        (PIXELS, LABELS * 2, "no training image of 1, 3, 5"),
        (PIXELS, LABELS * 0, r"1 class \(0\): expected at least 2"),
    ],
)
def test_what_is_refused(images: Any, labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_arrays(images, labels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": "abc"}, "training labels go from 0 to 3, expected 0 to 2"),
        ({"classes": "abca"}, "names a class twice"),
        ({"val_images": PIXELS}, "expected both or neither"),
        ({"val_images": PIXELS, "val_labels": LABELS + 1}, "validation labels go from 1 to 4"),
        ({"val_images": PIXELS[:, 0], "val_labels": LABELS}, "differ in shape"),
    ],
)
def test_arguments_that_do_not_fit(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_arrays(PIXELS, LABELS, **arguments)


def test_a_class_without_validation_images_is_said(caplog: pytest.LogCaptureFixture) -> None:
    from_arrays(PIXELS, LABELS, val_images=PIXELS[:2], val_labels=[0, 3])
    assert "arrays has no validation image of 1, 2" in caplog.text


@given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=60), share=st.floats(0, 1), seed=st.integers(0, 2**32 - 1)
)
def test_stratified_splits_are_exact_and_in_proportion(labels: list[int], share: float, seed: int) -> None:
    target, count = torch.tensor(labels), int(share * len(labels))
    chosen, rest = stratified(target, count, seed)
    assert len(chosen) == count
    assert sorted([*chosen.tolist(), *rest.tolist()]) == list(range(len(labels)))
    for label in set(labels):
        exact = labels.count(label) * count / len(labels)
        assert abs((target[chosen] == label).sum().item() - exact) < 1
    assert torch.equal(chosen, stratified(target, count, seed)[0])


@pytest.mark.parametrize("size", [4, 9])
def test_arrays_are_resized_as_files_are(size: int) -> None:
    resized = to_shape(torch.from_numpy(PIXELS), size, None)
    for image, original in zip(resized, PIXELS, strict=True):
        expected = Image.fromarray(original.transpose(1, 2, 0)).resize((size, size), Image.Resampling.BILINEAR)
        assert np.abs(image.permute(1, 2, 0).numpy().astype(int) - np.asarray(expected)).max() <= 1  # rounding


def test_resizing_and_repeating_keeps_a_constant() -> None:
    flat = torch.full((2, 1, 8, 8), 77, dtype=torch.uint8)
    assert (to_shape(flat, 5, 3) == 77).all()
    assert to_shape(flat, 5, 3).shape == (2, 3, 5, 5)
