"""Networks that would not fit into this machine's memory, refused before they are built."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from simroot.borrowed.from_torch import TorchDispatchMode, tree_leaves
from simroot.errors import ConfigError

_FLOAT = 4  # bytes
_PAIR = 2


def require_memory(name: str, build: Callable[[], nn.Module], image: tuple[int, ...], batch: int = 1) -> None:
    """Refuse a network that cannot be trained in the memory there is.

    Counted are the parameters, their gradients and an optimizer's averages, and what the forward pass keeps of a batch
    for the backward pass, or the largest tensor of one image if that is more.

    Args:
        name: of the network.
        build: gives the network.
        image: shape (C, H, W) of its images.
        batch: how many of them are trained on at once.

    Raises:
        ConfigError: naming the sizes.
    """
    parameters, largest, kept = _numbers(build, image)
    needed = _FLOAT * (parameters + max(largest, batch * kept))
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else needed
    if needed > there:
        together = f" in batches of {batch}" if batch > 1 else ""
        raise ConfigError(
            f"{name} of this size, for images of {image[1]} x {image[2]} pixels{together}, takes at least "
            f"{needed / 1e9:,.0f} GB of memory to train; this machine has {there / 1e9:,.0f} GB: choose smaller numbers"
        )


def _numbers(build: Callable[[], nn.Module], image: tuple[int, ...]) -> tuple[int, int, int]:
    """How many numbers parameters take in a training, the largest tensor of a run holds, and an image leaves behind."""
    largest, parameters, kept = _Largest(), 0, 0
    try:
        with torch.device("meta"):
            network = build()
        parameters = 4 * sum(parameter.numel() for parameter in network.parameters())
        with torch.no_grad(), largest:
            network.eval()(torch.empty(1, *image, device="meta"))
        kept = _kept(network.train(), image)
    except Exception:  # whatever a network raises, who builds and runs it is told
        pass
    return parameters, max(largest.numbers, image[0] * image[1] * image[2]), kept


def _kept(network: nn.Module, image: tuple[int, ...]) -> int:
    """How many numbers the forward pass keeps of an image for the backward pass; every storage counts once."""
    own = {StorageWeakRef(parameter.untyped_storage()) for parameter in network.parameters()}
    found: dict[StorageWeakRef, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = StorageWeakRef(tensor.untyped_storage())
        if storage not in own:
            found[storage] = tensor.untyped_storage().nbytes() // _FLOAT
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        scores = network(torch.empty(_PAIR, *image, device="meta"))  # one alone has no variance
    del scores  # the graph holds what it keeps up to here
    return sum(found.values()) // _PAIR


class _Largest(TorchDispatchMode):
    """Remembers how many numbers the largest tensor holds that an operator gives."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numbers = 0

    def look(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call an operator and look at what it gives."""
        output = func(*args, **(kwargs or {}))
        numbers = (leaf.numel() for leaf in tree_leaves(output) if isinstance(leaf, Tensor))
        self.numbers = max(self.numbers, *numbers, 0)
        return output


# Were it defined in the class, PyTorch would import its compiler with the first call, which takes three seconds.
_Largest.__torch_dispatch__ = _Largest.look  # type: ignore[assignment]
