"""Networks that would not fit into this machine's memory, refused before they are built."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from simroot.borrowed.from_torch import TorchDispatchMode, tree_leaves
from simroot.errors import ConfigError

_FLOAT = 4  # bytes


def require_memory(name: str, build: Callable[[], nn.Module], image: tuple[int, ...]) -> None:
    """Refuse a network that cannot be trained in the memory there is, not even with batches of one image.

    Counted are the parameters, their gradients and an optimizer's averages, and the largest tensor of the network.

    Args:
        name: of the network.
        build: gives the network.
        image: shape (C, H, W) of its images.

    Raises:
        ConfigError: naming the sizes.
    """
    needed = _FLOAT * sum(_numbers(build, image))
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else needed
    if needed > there:
        raise ConfigError(
            f"{name} of this size, for images of {image[1]} x {image[2]} pixels, takes at least {needed / 1e9:,.0f} GB "
            f"of memory to train; this machine has {there / 1e9:,.0f} GB: choose smaller numbers"
        )


def _numbers(build: Callable[[], nn.Module], image: tuple[int, ...]) -> tuple[int, int]:
    """How many numbers parameters take in a training, and how many the largest tensor of a run holds."""
    largest, parameters = _Largest(), 0
    try:
        with torch.device("meta"):
            network = build().eval()
        parameters = 4 * sum(parameter.numel() for parameter in network.parameters())
        with torch.no_grad(), largest:
            network(torch.empty(1, *image, device="meta"))
    except Exception:  # whatever a network raises, who builds and runs it is told
        pass
    return parameters, max(largest.numbers, image[0] * image[1] * image[2])


class _Largest(TorchDispatchMode):
    """Remembers how many numbers the largest tensor holds that an operator gives."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        numbers = (leaf.numel() for leaf in tree_leaves(output) if isinstance(leaf, Tensor))
        self.numbers = max(self.numbers, *numbers, 0)
        return output
