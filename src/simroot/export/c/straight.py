"""A network that is trained as what it becomes in integers: outputs are the integers', gradients the network's own.

Every layer's output is replaced by what the same layer gives in integers, and the gradient passes as if it had not
been: a straight-through estimate at the places where the exported network rounds. There is no second arithmetic: the
integers are those of ``simroot.export.c.whole``, for the weights of the moment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from simroot.errors import ConfigError
from simroot.export.c import whole
from simroot.export.c.capture import Recorded, normalised
from simroot.export.c.integers import Numbers, Whole, WholeLayer
from simroot.export.c.interpret import results
from simroot.export.c.layers import WHOLE, Concat, Gather, Image, Layer, Pool
from simroot.export.c.quantise import calibrate, in_integers
from simroot.export.c.ranges import Ranges
from simroot.export.c.simplify import simplify
from simroot.export.description import Description
from simroot.modules import evaluating

_PROBED = 8  # images by which the layers of the exported network are found among the network's modules
_NUDGE = 1e-6  # of a range: nothing, but more than 0
_SAME = 1e-3  # of a deviation: what is not further apart is the same, but for rounding in float32

Call = tuple[str, int]
"""A module by its name, and which of its calls."""


class Place(NamedTuple):
    """Where a layer's output is in the network: by channel it is ``gain * output + shift`` there."""

    layer: int
    gain: Tensor
    shift: Tensor

    def replaced(self, output: Tensor, numbers: Numbers, found: Whole) -> Tensor:
        """What whole numbers stand for, with the gradient of the module's output where that is within their range."""

        def here(whole_numbers: Whole) -> Tensor:
            real = torch.as_tensor(numbers.scale * (whole_numbers - numbers.zero)).to(output)
            return self.gain.to(output).view(shape) * real + self.shift.to(output).view(shape)

        shape = (1, -1, *[1] * (output.ndim - 2))
        value = here(found.transpose(0, 3, 1, 2).reshape(output.shape))
        first, last = (here(np.array(end)) for end in numbers.limits)
        least = torch.minimum(first, last)
        cut = (output < least) | (output > torch.maximum(first, last))
        # A ReLU behind must not stop what is in range and was rounded down to 0.
        value = torch.where((value <= least) & ~cut, value + _NUDGE * (last - first).abs(), value)
        passed = output.masked_fill(cut, 0.0)
        return passed + (value - passed).detach()


class Integers:
    """A network's form in integers, for the weights that it has at each call.

    Args:
        model: the network.
        description: its input's size, mean and deviation.
        images: pixels, (N, C, H, W), to calibrate with, and to find the layers' places in the network.
        ranges: what they showed when the network was calibrated; None to calibrate now.

    Raises:
        ConfigError: if the network has no integer form, or the ranges are another's.
    """

    def __init__(
        self, model: nn.Module, description: Description, images: Tensor, ranges: Ranges | None = None
    ) -> None:
        if description.mean is None or description.std is None:
            raise ConfigError("integers need a network of pixels: give its mean and std")
        self.description = description
        self.mean, self.std = (torch.tensor(values).view(-1, 1, 1) for values in (description.mean, description.std))
        self.recorded = Recorded(model, description.input_size)
        self.probe = images[:_PROBED]
        self.ranges = calibrate(self._floats(model), images) if ranges is None else ranges
        self.layers(model)  # what does not fit is said now

    def layers(self, model: nn.Module) -> list[WholeLayer]:
        """The network in integers."""
        return in_integers(self._floats(model), self.ranges)

    def _floats(self, model: nn.Module) -> list[Layer]:
        return simplify(normalised(self.recorded.layers(model), self.description))

    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        """The scores in integers, (N, classes), for images that are normalised; normalisations stay as they are."""
        with torch.no_grad():
            layers = self.layers(model)
            pixels = ((images.cpu() * self.std + self.mean) * 255).round().clamp(0, 255)
            found = list(whole.results(layers, pixels.permute(0, 2, 3, 1).long().numpy()))
            scores = torch.from_numpy(whole.as_scores(layers[-1].numbers, found[-1])).to(images)
        if not torch.is_grad_enabled():
            return scores
        with evaluating(model), self._replacing(model, layers, found):
            y: Tensor = model(images)
        return y + (scores - y).detach()

    @contextmanager
    def _replacing(self, model: nn.Module, layers: list[WholeLayer], found: Sequence[Whole]) -> Iterator[None]:
        """Give the outputs of layers in integers for those of the network's modules."""
        places = self._places(model, [one.layer for one in layers])

        def replaced(call: Call, output: Tensor) -> Tensor | None:
            if (place := places.get(call)) is None:
                return None
            return place.replaced(output, layers[place.layer].numbers, found[place.layer])

        with _watching(model, replaced):
            yield

    @torch.no_grad()
    def _places(self, model: nn.Module, layers: list[Layer]) -> dict[Call, Place]:
        """The first module that gives what a layer gives, for each layer, but for gain and shift by channel."""
        outputs: dict[Call, Tensor] = {}

        def kept(call: Call, output: Tensor) -> None:
            outputs[call] = output.double().cpu()

        device = next(model.parameters()).device
        with evaluating(model), _watching(model, kept):
            model((((self.probe / 255) - self.mean) / self.std).to(device))
        found: dict[Call, Place] = {}
        for place, expected in enumerate(results(layers, self.probe)):
            if isinstance(layers[place], Image | Pool | Gather | Concat):
                continue
            for call, output in outputs.items():
                same = output.numel() == expected.numel() and output.shape[:2] == expected.shape[:2]
                if call not in found and same and (fitted := _fitted(layers[place], expected, output)):
                    found[call] = Place(place, *fitted)
                    break
        return found


@contextmanager
def _watching(model: nn.Module, act: Any) -> Iterator[None]:
    """Call ``act`` with the output of every call of a module, and go on with what it gives if that is not None."""
    calls: Counter[str] = Counter()

    def watch(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
            calls[name] += 1
            return act((name, calls[name]), output) if isinstance(output, Tensor) else None

        return hook

    with ExitStack() as stack:
        for name, module in model.named_modules():
            if name:
                stack.callback(module.register_forward_hook(watch(name)).remove)
        yield


def _fitted(layer: Layer, expected: Tensor, output: Tensor) -> tuple[Tensor, Tensor] | None:
    """Gain and shift by channel with which a layer's output is a module's; None if it is not.

    What the layer clamps tells nothing: the module's own output may come before.
    """
    x, y = (one.flatten(2).transpose(0, 1).flatten(1) for one in (expected, output.reshape(expected.shape)))
    low, high = getattr(layer, "clamp", WHOLE)
    inside = ((x > low) & (x < high)).double()
    count = inside.sum(1, keepdim=True).clamp(min=1)
    mean_x, mean_y = ((inside * one).sum(1, keepdim=True) / count for one in (x, y))
    dx, dy = inside * (x - mean_x), inside * (y - mean_y)
    square = dx.square().sum(1, keepdim=True)
    gain = torch.where(square > 0, (dx * dy).sum(1, keepdim=True) / square.clamp(min=1e-30), 1.0)
    shift = mean_y - gain * mean_x
    apart, spread = (inside * (gain * x + shift - y)).square().mean(), dy.square().mean()
    if spread == 0 or apart > _SAME**2 * spread:
        return None
    return gain.flatten(), shift.flatten()
