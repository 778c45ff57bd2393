"""The time of networks, predicted from what they do: so many seconds for each call, MAC and output of an operator."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import nnls

from simroot.errors import DataError
from simroot.files import write_text
from simroot.measure.cost import LayerCost
from simroot.measure.counting import count

if TYPE_CHECKING:
    from torch import nn

# Channels that an engine's vector instructions take at a time: other numbers run in slower code.
_LANES = 4

Work = Mapping[str, float]
"""Name of a kind of work, such as ``conv 1x1 MACs`` -> how much of it."""


@dataclass(frozen=True)
class CostModel:
    """A time for each kind of work.

    Attributes:
        milliseconds: for one unit of each kind; those that are missing cost nothing.
    """

    milliseconds: Mapping[str, float]

    def predict(self, work: Work) -> float:
        """Milliseconds for one image."""
        return sum(self.milliseconds.get(kind, 0.0) * amount for kind, amount in work.items())


def fit(works: Sequence[Work], milliseconds: Sequence[float]) -> CostModel:
    """The times of units, none below zero, that explain what was measured with the least squares of relative errors.

    Args:
        works: what each network does.
        milliseconds: what each takes, above zero.
    """
    kinds = sorted({kind for work in works for kind in work})
    amounts = np.array([[work.get(kind, 0.0) for kind in kinds] for work in works]) / np.array(milliseconds)[:, None]
    scale = np.maximum(amounts.max(0), np.finfo(float).tiny)
    found, _ = nnls(amounts / scale, np.ones(len(works)))
    return CostModel({kind: float(time) for kind, time in zip(kinds, found / scale, strict=True) if time > 0})


def work(network: nn.Module, input_size: Sequence[int]) -> Work:
    """What a deployed network does for one image, as its exported graph does it.

    Convolutions, dense layers and similarities have calls, MACs and outputs. MEX, pooling and all that is done number
    by number have calls, FLOPs and outputs.

    Args:
        network: any whose operators can be counted.
        input_size: of one image, (C, H, W).

    Raises:
        ConfigError, UnknownOperatorError: as ``simroot.measure.count``.
    """
    from simroot.export.forms import graph_form

    form = graph_form(network)
    modules = dict(form.named_modules())
    found: dict[str, float] = defaultdict(float)
    for layer in count(form, input_size).layers:
        if not layer.flops:
            continue  # views, such as a flattening
        kind, amounts = _kind(layer, modules[layer.name])
        for unit, amount in amounts.items():
            found[f"{kind} {unit}"] += amount
    return found


def save(path: Path, model: CostModel) -> None:
    """Write a cost model whole or not at all.

    Raises:
        SimrootError: if it cannot be written.
    """
    write_text(path, json.dumps({"milliseconds": dict(model.milliseconds)}, indent=1))


def read(path: Path) -> CostModel:
    """Read back what ``save`` wrote.

    Raises:
        DataError: if there is none, or it is damaged.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))["milliseconds"]
        times = {str(kind): float(time) for kind, time in values.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} is no cost model; it is measured again") from error
    if not times or not all(0 <= time < math.inf for time in times.values()):
        raise DataError(f"{path} is damaged: it has times that are none; it is measured again")
    return CostModel(times)


def _kind(layer: LayerCost, module: nn.Module) -> tuple[str, Mapping[str, float]]:
    """The kind of operator, and its amounts by unit."""
    from torch import nn

    outputs = math.prod(layer.output_shape)
    if isinstance(module, nn.Conv2d):
        return _conv(module), {"calls": 1, "MACs": layer.macs, "outputs": outputs}
    if layer.macs:
        kind = "dense" if isinstance(module, nn.Linear) else layer.kind
        return kind, {"calls": 1, "MACs": layer.macs, "FLOPs": layer.flops}
    return "elementwise", {"calls": 1, "FLOPs": layer.flops, "outputs": outputs}


def _conv(module: nn.Conv2d) -> str:
    inputs, outputs = module.in_channels // module.groups, module.out_channels // module.groups
    if module.groups > 1 and inputs == 1:
        return "depthwise"
    kind = "grouped" if module.groups > 1 else "conv 1x1" if module.kernel_size == (1, 1) else "conv kxk"
    fits = (inputs % _LANES == 0 or module.in_channels < _LANES) and (module.groups == 1 or outputs % _LANES == 0)
    return kind if fits else f"{kind}, odd channels"
