"""Classes of unlike size: weights, and orders in which they come alike often."""

from __future__ import annotations

import torch

from simroot.data import from_arrays, loader
from simroot.data.balance import balanced_order, class_weights, uneven_line

LABELS = torch.tensor([0] * 70 + [1] * 20 + [2] * 10)


def test_weights_are_one_on_average_and_alike_for_each_class() -> None:
    weights = class_weights(LABELS, 3)
    sums = [float(weights[LABELS][label == LABELS].sum()) for label in range(3)]
    torch.testing.assert_close(torch.tensor(sums), torch.full((3,), 100 / 3))


def test_an_order_shows_all_classes_alike_often() -> None:
    generator = torch.Generator().manual_seed(0)
    order = balanced_order(LABELS, generator)
    counts = LABELS[order].bincount()
    assert len(order) == 100
    assert sorted(counts.tolist()) == [33, 33, 34]
    times = order.bincount(minlength=100)
    assert times[:70].max() == 1  # a part of the largest
    assert set(times[90:].tolist()) <= {3, 4}  # all of the smallest
    assert not torch.equal(order, balanced_order(LABELS, generator))
    assert not torch.equal(LABELS[order], LABELS[order].sort().values)


def test_more_classes_than_images_that_are_shown() -> None:
    labels = torch.tensor([0, 1, 2])
    assert sorted(balanced_order(labels, torch.Generator()).tolist()) == [0, 1, 2]


def test_batches_of_an_epoch() -> None:
    """Each epoch by itself, whatever the number of processes; evaluation sees every image once."""
    images = torch.arange(100, dtype=torch.uint8).view(100, 1, 1, 1).expand(100, 1, 4, 4)
    data = from_arrays(images, LABELS, validation=10)

    def labels(batch_size: int, epoch: int = 0, train: bool = True, rank: int = 0, world: int = 1) -> torch.Tensor:
        batches = loader(
            data.train, batch_size, train=train, rank=rank, world_size=world, mean=(0,), std=(1,), balanced=True
        )
        batches.set_epoch(epoch)
        return torch.cat([found for _, found in batches])

    assert labels(30).bincount().tolist() == [30, 30, 30]
    assert torch.equal(labels(30), labels(30))
    assert not torch.equal(labels(30), labels(30, epoch=1))
    both = [labels(30, rank=rank, world=2).view(3, 15) for rank in range(2)]
    assert torch.equal(torch.cat(both, 1).flatten(), labels(30))
    assert torch.equal(labels(30, train=False), data.train.labels)


def test_it_is_said() -> None:
    data = from_arrays(
        torch.zeros(100, 4, 4, dtype=torch.uint8) + LABELS.byte().view(-1, 1, 1), LABELS, ("a", "b", "c")
    )
    assert uneven_line(data) == "classes of unlike size: a has 56 training images, c 8"
    alike = from_arrays(data.train.read(torch.arange(56)), torch.arange(56) % 3)
    assert uneven_line(alike) == ""
