"""The time that each module of a network takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from simroot.engines.pytorch import torch_threads
from simroot.errors import ConfigError
from simroot.modules import evaluating, processing


def time_layers(
    model: nn.Module, input_size: Sequence[int], *, batch: int = 1, threads: int = 1, seconds: float = 2.0
) -> dict[str, float]:
    """Median seconds a batch of every module of an evaluated network, without those of the modules inside it.

    Eager, channels-last, in inference mode, on N(0,1) of the type of the first parameter. Clocks around every call cost
    about a microsecond each, which is part of the times; the sum is the whole network's time.

    Args:
        model: any network on the CPU with one input; pass ``deploy(model)`` to time it as it would be used.
        input_size: shape of one example without the batch dimension.
        batch: examples in a batch.
        threads: inside an operation.
        seconds: how long to measure.

    Returns:
        Name of each module that was called, as in ``named_modules()``, -> seconds. A module that is called several
        times has the sum.

    Raises:
        ConfigError: for a batch, threads or seconds that are not above 0, or a network that cannot process such inputs.
    """
    if batch < 1 or threads < 1 or not seconds > 0:
        raise ConfigError(f"batch {batch}, threads {threads}, seconds {seconds}; expected numbers above 0")
    images = torch.randn(batch, *input_size, generator=torch.Generator().manual_seed(0))
    images = images.to(next((p.dtype for p in model.parameters() if p.is_floating_point()), images.dtype))
    if images.ndim == 4:
        images = images.contiguous(memory_format=torch.channels_last)
    clock = _Clock()
    runs: list[dict[str, float]] = []
    with ExitStack() as stack:
        stack.enter_context(torch_threads(threads))
        stack.enter_context(evaluating(model))
        stack.enter_context(torch.inference_mode())
        for name, module in model.named_modules():
            stack.callback(module.register_forward_pre_hook(clock.entering(name), prepend=True).remove)
            stack.callback(module.register_forward_hook(clock.leave).remove)
        for _ in range(3):  # to warm up
            with processing(f"{type(model).__name__} cannot process an example of shape {tuple(input_size)}"):
                model(images)
        end = time.perf_counter() + seconds
        while not runs or time.perf_counter() < end:
            clock.seconds = {}
            model(images)
            runs.append(clock.seconds)
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


class _Clock:
    """Adds up the seconds of each module's calls, less those of the calls inside them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        # Calls that have not returned: name, when it started, the seconds of the calls inside it.
        self._calls: list[tuple[str, float, list[float]]] = []

    def entering(self, name: str) -> Callable[[nn.Module, Any], None]:
        def enter(module: nn.Module, inputs: Any) -> None:
            self._calls.append((name, time.perf_counter(), []))

        return enter

    def leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        name, start, inside = self._calls.pop()
        elapsed = time.perf_counter() - start
        if self._calls:
            self._calls[-1][2].append(elapsed)
        self.seconds[name] = self.seconds.get(name, 0.0) + elapsed - sum(inside)
