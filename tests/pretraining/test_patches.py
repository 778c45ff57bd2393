"""Which patches are sampled, and what runs for them."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretraining.support import generator, network, smooth_images
from simroot.data import from_arrays, loader
from simroot.errors import DataError
from simroot.pretraining.patches import Window, batches, layer_inputs, number_of, random_patches


def every_patch(images: Tensor, conv: nn.Conv2d) -> set[tuple[float, ...]]:
    padded = F.pad(images, (conv.padding[0],) * 4, value=-99.0)  # type: ignore[arg-type]
    rows = F.unfold(padded, conv.kernel_size, stride=conv.stride).transpose(1, 2).flatten(0, 1)
    return {tuple(row) for row in rows.tolist()}


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 0), (3, 2, 1), (5, 3, 2), (1, 1, 0)])
def test_patches_are_those_of_the_convolution(kernel: int, stride: int, padding: int) -> None:
    images = smooth_images(7, size=9)
    conv = nn.Conv2d(2, 4, kernel, stride, padding)
    parts = iter([(images[:4], None), (images[4:], None)])
    found = random_patches(parts, Window.of(conv), 2000, len(images), generator())
    assert found.shape == (2000, 2, kernel, kernel)
    expected = every_patch(images, conv)
    # with 2,000 draws of a few hundred patches, a patch that could not be drawn would be missing
    drawn = {tuple(row) for row in found.nan_to_num(-99.0).flatten(1).tolist()}
    assert drawn <= expected
    assert len(drawn) > 0.95 * len(expected)
    assert bool(found.isnan().any()) == (padding > 0)


def test_what_follows_the_layer_does_not_run() -> None:
    model = network().train()
    model.classifier.forward = lambda x: pytest.fail("ran")  # type: ignore[method-assign]
    images = smooth_images(10)
    counts: list[int] = []
    ((received, labels),) = layer_inputs(model, model.similarities[0], images, counts.append)
    assert torch.equal(received, images)
    assert labels is None
    assert counts == [10]
    assert all(module.training for module in model.modules())
    assert not model.similarities[0]._forward_pre_hooks


def test_images_of_a_loader() -> None:
    data = from_arrays((255 * torch.rand(20, 3, 6, 6)).byte(), torch.arange(20) % 2, validation=4)
    images = loader(data.train, 5, mean=data.mean, std=data.std, train=False)
    assert number_of(images) == 16
    pixels, labels = zip(*batches(images), strict=True)
    assert sum(map(len, pixels)) == 16
    assert torch.equal(torch.cat(labels), data.train.labels)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(0, 3, 8, 8), "no image"),
        (torch.zeros(3, 8, 8), "expected a float tensor"),
        (torch.zeros(1, 3, 8, 8).byte(), "uint8"),
        ([[1.0]], "list"),
    ],
)
def test_images_that_are_none(images: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        number_of(images)


def test_images_with_nan() -> None:
    images = smooth_images(3)
    images[1, 0, 2, 2] = torch.nan
    with pytest.raises(DataError, match="NaN or infinity"):
        list(batches(images))
