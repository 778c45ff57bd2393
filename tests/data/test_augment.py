"""Random changes of images against their formulas, and epochs that depend on (seed, epoch) alone with them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from data.test_batches import COUNT, SIDE, epoch, make
from simroot.data.augment import Augmentation
from simroot.errors import ConfigError

ALL = Augmentation(rotate=20, zoom=0.2, jitter=0.3, erase=0.4)


def draws(count: int = 2, **values: float) -> Tensor:
    """Rows of random numbers as they are drawn for RGB images, all 0 but for those named."""
    names = ("turn", "scale", "contrast", "brightness", "side", "down", "right", "red", "green", "blue")
    return torch.tensor([[values.get(name, 0.0) for name in names]] * count)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_a_quarter_turn(images: Tensor) -> None:
    turned = Augmentation(rotate=90)(images, draws(turn=1.0))
    torch.testing.assert_close(turned, images.rot90(dims=(2, 3)), rtol=0, atol=1e-5)  # bilinear, in float32


def test_a_wide_image_is_turned_without_being_stretched() -> None:
    """A bar of 2 x 6 pixels in the middle of 8 x 16 stands upright after a quarter turn."""
    image = torch.zeros(1, 1, 8, 16)
    image[:, :, 3:5, 5:11] = 1.0
    turned = Augmentation(rotate=90)(image, draws(1, turn=-1.0))
    expected = torch.zeros(1, 1, 8, 16)
    expected[:, :, 1:7, 7:9] = 1.0
    torch.testing.assert_close(turned, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("scale", "side"), [(1.0, 8), (-1.0, 2)])
def test_zoom_by_two(scale: float, side: int) -> None:
    """A square of 4 pixels is twice or half as wide; what comes in from outside is the mean, 0."""
    image = torch.zeros(1, 3, 16, 16)
    image[:, :, 6:10, 6:10] = 1.0
    zoomed = Augmentation(zoom=1.0)(image, draws(1, scale=scale))
    assert float(zoomed.sum()) == pytest.approx(3 * side**2, rel=0.1)  # edges are interpolated
    assert float(zoomed[0, 0, 8, 8]) == pytest.approx(1.0)
    outside = Augmentation(zoom=1.0)(torch.ones(1, 3, 16, 16), draws(1, scale=scale))
    assert float(outside[0, 0, 0, 0]) == pytest.approx(1.0 if scale > 0 else 0.0)


def test_jitter_is_contrast_and_brightness_of_all_channels_and_of_each(images: Tensor) -> None:
    found = Augmentation(jitter=0.5)(images, draws(contrast=-0.5, brightness=1.0, red=-1.0, blue=0.5))
    added = torch.tensor([0.0, 0.5, 0.75]).view(3, 1, 1)
    torch.testing.assert_close(found, 0.75 * images + added)


def test_erased_square(images: Tensor) -> None:
    """Its side is ``erase`` at most; in the corner a quarter of it is seen."""
    middle = Augmentation(erase=0.5)(images, draws(side=1.0))
    expected = images.clone()
    expected[:, :, 2:6, 2:6] = 0
    assert torch.equal(middle, expected)
    corner = Augmentation(erase=0.5)(images, draws(side=1.0, down=-1.0, right=1.0))
    assert torch.equal(
        corner == 0,
        torch.zeros_like(images).index_fill_(2, torch.tensor([0, 1]), 1).bool().logical_and(torch.arange(8) > 5),
    )


def test_nothing_asked_nothing_changed(images: Tensor) -> None:
    nothing = Augmentation()
    assert not nothing
    assert nothing(images, draws(turn=1.0, scale=1.0, contrast=1.0, side=1.0)) is images


def test_batches_keep_their_order_and_an_epoch_its_bits() -> None:
    plain, changed = make(shift=1, mirror=True), make(shift=1, mirror=True, augmentation=ALL)
    assert torch.equal(epoch(plain, 3)[1], epoch(changed, 3)[1])
    first, again = epoch(changed, 3)[0], epoch(make(shift=1, mirror=True, augmentation=ALL), 3)[0]
    assert torch.equal(first, again)
    assert not torch.equal(first, epoch(plain, 3)[0])
    assert not torch.equal(first, epoch(changed, 4)[0])
    assert first.shape == (COUNT - COUNT % 16, 3, SIDE, SIDE)


def test_two_processes_share_the_batches_of_one() -> None:
    whole = next(iter(make(augmentation=ALL)))[0]
    parts = [next(iter(make(augmentation=ALL, rank=rank, world_size=2)))[0] for rank in range(2)]
    assert torch.equal(torch.cat(parts), whole)


def test_evaluation_sees_images_as_they_are() -> None:
    assert torch.equal(epoch(make(train=False, augmentation=ALL))[0], epoch(make(train=False))[0])


def test_the_last_epochs_settle() -> None:
    settling, plain = make(augmentation=ALL, augmented_epochs=2), make()
    assert torch.equal(epoch(settling, 1)[0], epoch(make(augmentation=ALL), 1)[0])
    assert torch.equal(epoch(settling, 2)[0], epoch(plain, 2)[0])


@pytest.mark.parametrize(
    "values", [{"rotate": -1.0}, {"rotate": 181.0}, {"zoom": math.inf}, {"jitter": 2.0}, {"erase": math.nan}]
)
def test_values_out_of_range_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(values))} is .*; expected a number from 0"):
        Augmentation(**values)
