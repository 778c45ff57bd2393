"""What a layer receives: images through the network up to it, and random patches of it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simroot.data import BatchLoader
from simroot.errors import DataError
from simroot.modules import evaluating

ImageBatches = Tensor | BatchLoader

_BATCH = 256


class Window(NamedTuple):
    """How a layer cuts patches: side of a patch, step between patches and padding, all in positions."""

    kernel: int = 1
    step: int = 1
    pad: int = 0

    @classmethod
    def of(cls, conv: nn.Conv2d) -> Window:
        """That of a convolution with square filters."""
        return cls(conv.kernel_size[0], conv.stride[0], int(conv.padding[0]))


class _Reached(Exception):
    """The layer has received its input: nothing behind it needs to run."""


def number_of(images: ImageBatches) -> int:
    """How many images there are; every one of them is seen in a pass.

    Raises:
        DataError: for what is no tensor (N, C, H, W) of real numbers and no loader, or holds no image.
    """
    if isinstance(images, BatchLoader):
        return len(images.split) if not images.train else len(images) * images.batch_size
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point():
        got = f"{images.dtype} of shape {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise DataError(f"images are {got}; expected a float tensor (N, C, H, W) or a loader of simroot.data")
    if not len(images):
        raise DataError("there is no image to learn from; expected at least one")
    return len(images)


def batches(images: ImageBatches) -> Iterator[tuple[Tensor, Tensor | None]]:
    """The images in batches (B, C, H, W), with their labels (B,) if a loader gives them.

    Raises:
        DataError: for images that are not finite.
    """
    pairs = ((part, None) for part in images.split(_BATCH)) if isinstance(images, Tensor) else images
    for pixels, labels in pairs:
        if not bool(pixels.isfinite().all()):
            raise DataError("images hold NaN or infinity; remove or mend those images")
        yield pixels, labels


def layer_inputs(
    model: nn.Module, layer: nn.Module, images: ImageBatches, advance: Callable[[int], None]
) -> Generator[tuple[Tensor, Tensor | None]]:
    """What ``layer`` receives of every batch, with the labels.

    Until it is closed or at its end, the network is in evaluation and gradients are off.

    Args:
        model: the network.
        layer: one of its modules; what follows it does not run.
        images: to feed.
        advance: told the number of images of every batch that is done.
    """
    received: list[Tensor] = []

    def take(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        received.append(arguments[0])
        raise _Reached

    place = next(model.parameters())
    handle = layer.register_forward_pre_hook(take)
    try:
        with evaluating(model), torch.no_grad():
            for pixels, labels in batches(images):
                try:
                    model(pixels.to(place))
                except _Reached:
                    yield received.pop(), labels
                advance(len(pixels))
    finally:
        handle.remove()


def random_patches(
    inputs: Iterator[tuple[Tensor, Tensor | None]],
    window: Window,
    count: int,
    images: int,
    generator: torch.Generator,
) -> Tensor:
    """``count`` random patches that a layer meets, (count, C, k, k): NaN where it pads.

    ImageBatches and positions are drawn evenly, positions on the layer's stride.

    Args:
        inputs: what the layer receives, in batches.
        window: how it cuts patches.
        count: number of patches.
        images: number of images in all batches together.
        generator: draws them, on the CPU.

    Raises:
        DataError: for images that are smaller than a patch.
    """
    kernel, step, pad = window
    seen, patches = 0, []
    for x, _ in inputs:
        new = count * (seen + len(x)) // images - count * seen // images
        seen += len(x)
        x = F.pad(x, (pad, pad, pad, pad), value=torch.nan)
        heights, widths = ((size - kernel) // step + 1 for size in x.shape[2:])
        if min(heights, widths) < 1:
            height, width = (size - 2 * pad for size in x.shape[2:])
            raise DataError(
                f"a layer with filters of {kernel} x {kernel} receives {height} x {width} pixels; give larger images"
            )
        which, top, left = (
            torch.randint(end, (new, 1, 1, 1), generator=generator) for end in (len(x), heights, widths)
        )
        offset = torch.arange(kernel)
        channel = torch.arange(x.shape[1]).view(-1, 1, 1)
        patches.append(x[which, channel, top * step + offset.view(-1, 1), left * step + offset])
    return torch.cat(patches)
