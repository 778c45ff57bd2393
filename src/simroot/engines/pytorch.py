"""PyTorch, eager and compiled: networks that are in memory. PyTorch is imported when one of them is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simroot.engines.protocol import Engine, Loaded

if TYPE_CHECKING:
    from torch import nn


class Eager(Engine):
    """The deployed network, channels-last, in inference mode."""

    name = "eager"
    package = "torch"
    extra = "train"

    def load(self, source: nn.Module, threads: int | None = None, shape: tuple[int, ...] | None = None) -> Loaded:
        import torch

        from simroot.models import deploy

        model = deploy(source).cpu().float()
        if shape is None or len(shape) == 4:
            model = model.to(memory_format=torch.channels_last)
        weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
        call = self.called(model)

        def bind(images: NDArray[np.float32]) -> Callable[[], Any]:
            batch = torch.from_numpy(images)
            if batch.ndim == 4:
                batch = batch.contiguous(memory_format=torch.channels_last)

            def run() -> Any:
                with torch.inference_mode():
                    return call(batch)

            return run

        return Loaded(bind, lambda output: output.float().numpy(), weights=weights)

    def called(self, model: nn.Module) -> Callable[..., Any]:
        """What is called to run the network."""
        return model

    @contextmanager
    def using(self, threads: int) -> Iterator[None]:
        with torch_threads(threads):
            yield


class Compile(Eager):
    """Likewise through torch.compile, which compiles a network when it is first run."""

    name = "compile"

    def called(self, model: nn.Module) -> Callable[..., Any]:
        import torch

        return torch.compile(model, dynamic=False)

    @contextmanager
    def using(self, threads: int) -> Iterator[None]:
        from simroot.borrowed.from_torch import compile_every_kind

        with torch_threads(threads), compile_every_kind():
            yield


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Inside, torch computes with so many threads; afterwards with as many as before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
