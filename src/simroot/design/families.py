"""Families of networks that come in every size: SimNets, and the ConvNets that one would take today."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from typing import Any

from simroot.design.budgets import Budget, widest
from simroot.design.tasks import CIFAR_10, Task, deployed, parameters
from simroot.design.times import Times
from simroot.models import model_entry
from simroot.trials.networks import Network, pretrained

# Parameters from which on a stage has two and three blocks, in the families that come in several depths.
_LEAST = (10_000, 36_000)

# Filter groups of the root SimNets.
_DEGREE = 4

# Of our residual networks: channels come in multiples of so many; stage by stage the root modules of each depth, the
# channels in those of the stage before, the kernel size and the channels of a group.
_MULTIPLE = 4
_MODULES = {1: (1, 3, 2), 2: (1, 3, 3), 3: (1, 4, 4)}
_GROWTH, _KERNELS, _GROUPS = (1.0, 5 / 3, 7 / 5), (3, 3, 3), (1, 1, 1)

# What a search chooses among: in any family, in those of MobileNet's blocks, and in our residual networks.
_DEPTHS: Mapping[str, Sequence[Any]] = {"depth": (1, 2, 3, 4)}
# Those of one that takes some depths for the same are fewer.
_SHALLOW, _ROOT, _WIDE = ({"depth": depths} for depths in ((1, 2), (2, 3, 4), (1, 3)))
_MOBILE: Mapping[str, Sequence[Any]] = {**_DEPTHS, "expansion": (2, 3, 4, 6)}
_RESIDUAL: Mapping[str, Sequence[Any]] = {
    **{f"modules_{stage}": modules for stage, modules in ((1, (1, 2)), (2, (1, 2, 3, 4)), (3, (1, 2, 3, 4, 6)))},
    "growth_2": (1.0, 4 / 3, 5 / 3, 2.0),
    "growth_3": (1.0, 7 / 5, 2.0),
    **{f"kernel_{stage}": (3, 5) for stage in (1, 2, 3)},
    **{f"group_{stage}": (1, 2, 4) for stage in (1, 2, 3)},
}
_HEADS: Mapping[str, Sequence[Any]] = {"templates": (0.0, 0.25, 0.5, 1.0)}


# Width, from 1 on, depth, and further choices -> overrides.
Shape = Callable[..., Mapping[str, Any]]


@dataclass(frozen=True)
class Family:
    """Networks of one kind in all sizes.

    Attributes:
        name: of the family.
        model: its name in the registry.
        shape: width, depth and choices -> overrides.
        ours: whether they are SimNets.
        pretrained: whether they start from pre-training.
        choices: what a search chooses among beside the width: argument of ``shape`` -> its values.
    """

    name: str
    model: str
    shape: Shape
    ours: bool = False
    pretrained: bool = False
    choices: Mapping[str, Sequence[Any]] = field(default_factory=lambda: _DEPTHS, hash=False)

    def at(self, budget: Budget, task: Task = CIFAR_10, times: Times | None = None) -> Network:
        """The widest within a budget, as deep as its parameters are for; ``times`` as for ``widest``.

        Raises:
            ConfigError: if the narrowest needs more, or cannot process such images.
        """
        overrides = widest(self.model, budget, partial(self.shape, depth=1), task, times)
        deep = partial(self.shape, depth=_depth(parameters(deployed(self.model, overrides, task))))
        if deep(1) != self.shape(1, depth=1):
            overrides = widest(self.model, budget, deep, task, times)
        network = Network(self.name, self.model, _changes(self.model, overrides))
        return pretrained(network) if self.pretrained else network

    def chosen(
        self, choices: Mapping[str, Any], budget: Budget, task: Task = CIFAR_10, times: Times | None = None
    ) -> Network:
        """The widest within a budget with these choices; arguments and errors as for ``at``."""
        shape = partial(self.shape, **{"depth": 1, **choices})
        return Network(self.name, self.model, _changes(self.model, widest(self.model, budget, shape, task, times)))


def _depth(size: int) -> int:
    """Blocks in each stage that train well with so many parameters."""
    return 1 + sum(size >= least for least in _LEAST)


def _changes(model: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is the model's default: a run of the plain model is then one of this network too."""
    defaults = model_entry(model).overrides
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in defaults.items()}
    return {key: value for key, value in overrides.items() if value != plain[key]}


def _two_stages(width: int, depth: int) -> Mapping[str, Any]:
    """n and 2n channels."""
    return {"channels": [(width + 1) // 2, width]}


def _three_grids(width: int, depth: int) -> Mapping[str, Any]:
    """Channels in steps of a quarter: the last grid has four times as many."""
    return {"channels": 1 + (width - 1) / 4}


def _deepening(width: int, depth: int, **chosen: Any) -> Mapping[str, Any]:
    return {**_three_grids(width, depth), "depth": depth, **chosen}


def _grouped(width: int, depth: int) -> Mapping[str, Any]:
    """As many channels as filter groups, or more."""
    return {"channels": _DEGREE + (width - 1) / 4, "depth": depth}


def _residual(width: int, depth: int, **chosen: Any) -> Mapping[str, Any]:
    """Every stage has ``growth`` times the channels of the one before, in multiples of four: groups divide them."""
    modules, growth, kernels, groups = (
        [chosen.pop(f"{name}_{stage}", usual) for stage, usual in enumerate(each, start=1)]
        for name, each in (
            ("modules", _MODULES[depth]),
            ("growth", _GROWTH),
            ("kernel", _KERNELS),
            ("group", _GROUPS),
        )
    )
    channels = [_MULTIPLE * max(1, round(width * share / _MULTIPLE)) for share in accumulate(growth, operator.mul)]
    return {"channels": channels, "depth": modules, "kernel_size": kernels, "group_width": groups, **chosen}


def _plain(width: int, depth: int) -> Mapping[str, Any]:
    """Without shortcuts two layers a grid learn faster than three, at 65K parameters, too."""
    return _deepening(width, min(depth, 2))


def _mobile(width: int, depth: int, **chosen: Any) -> Mapping[str, Any]:
    return {**_grouped(width, depth), "groups": _DEGREE, **chosen}


def _root(width: int, depth: int) -> Mapping[str, Any]:
    """One layer a grid up to 20K parameters: filter groups leave room for wide ones."""
    return {**_grouped(width, max(1, depth - 1)), "degree": _DEGREE}


def _wide_residual(width: int, depth: int) -> Mapping[str, Any]:
    """Two blocks a stage, as in WRN-16, and four in the largest, as in WRN-28."""
    return {**_three_grids(width, depth), "depth": 2 if depth < 3 else 4}


def _in_fours(width: int, depth: int) -> Mapping[str, Any]:
    """Channels in multiples of four; one block a stage where there are few parameters."""
    return {"channels": 4 * width, "depth": depth}


FAMILIES = (
    Family("simnet_mixed", "simnet_mixed", _plain, ours=True, choices=_SHALLOW),
    Family("convnet_plain", "convnet_plain", _plain, choices=_SHALLOW),
    Family("resnet", "resnet20", _deepening),
    Family("simnet_mixed_twin", "simnet_mixed_twin", _plain, choices=_SHALLOW),
    Family(f"simnet_mixed, root {_DEGREE}", "simnet_mixed", _root, ours=True, choices=_ROOT),
    Family("simnet_mobile", "simnet_mobile", _mobile, ours=True, choices=_MOBILE),
    Family("simnet_pyramid", "simnet_pyramid", _three_grids, ours=True, choices={}),
    Family("mobilenet_v3_compact", "mobilenet_v3_compact", _deepening, choices=_MOBILE),
    Family("simnet_pyramid", "simnet_pyramid", _three_grids, ours=True, pretrained=True),
    Family("mobilenet_v2_compact", "mobilenet_v2_compact", _deepening, choices=_MOBILE),
    Family("simnet2", "simnet2", _two_stages, ours=True, choices={}),
    Family(f"simnet_mixed_twin, root {_DEGREE}", "simnet_mixed_twin", _root, choices=_ROOT),
)

# The strongest published networks of this size, which the comparison after short trainings does without.
RIVALS = (
    Family("bsconv_wrn_s", "bsconv_wrn_s", _wide_residual, choices=_WIDE),
    Family("bsconv_wrn_u", "bsconv_wrn_u", _wide_residual, choices=_WIDE),
    Family("tiniest", "tiniest", _in_fours),
    Family("mlperf_resnet8", "mlperf_resnet8", _three_grids, choices={}),
)

# Our answer to them, and the ConvNet of its shape.
ANSWERS = (
    Family("simnet_residual", "simnet_residual", _residual, ours=True, choices={**_RESIDUAL, **_HEADS}),
    Family("simnet_residual_twin", "simnet_residual_twin", _residual, choices=_RESIDUAL),
)

# The first has been the most accurate in trainings to the end, so far.
ALL = (*ANSWERS, *FAMILIES, *RIVALS)
