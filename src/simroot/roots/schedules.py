"""How many filter groups each stage has (Deep Roots, section 3), and which numbers of groups a layer can have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from simroot.errors import ConfigError, is_whole
from simroot.layers.root import Groups, group_sizes

Topology = Literal["root", "column", "tree"]


def root_schedule(degree: int, stages: int, topology: Topology = "root") -> tuple[int, ...]:
    """Filter groups of each stage: ``degree / 2^i`` but at least 1 (root), ``degree`` (column), ``degree 2^i`` (tree).

    As Deep Roots uses them (section 4.2, tables 1, 3 and 7): two stages for Network in Network (conv2a, conv3a), four
    for ResNets (the 3x3 convolutions of each resolution) and GoogLeNet (conv2 and the three stages of inceptions).

    Args:
        degree: groups of the first stage.
        stages: number of stages.
        topology: how the number of groups changes with depth.

    Raises:
        ConfigError: for an unknown topology, or numbers that are no integers of at least 1.
    """
    require_choice("topology", topology, get_args(Topology))
    for name, value in (("degree", degree), ("stages", stages)):
        if not is_whole(value, 1):
            raise ConfigError(f"{name} is {value!r}; expected an integer of at least 1")
    if topology == "tree":
        return tuple(degree * 2**stage for stage in range(stages))
    return tuple(max(1, degree // 2**stage) if topology == "root" else degree for stage in range(stages))


def require_groups(model: str, layer: str, groups: Groups, in_channels: int, out_channels: int) -> None:
    """Refuse groups that do not divide a layer's channels.

    Raises:
        ConfigError: naming the model, the layer, its channels and the nearest numbers that work.
    """
    if divides(groups, in_channels, out_channels):
        return
    asked = groups if isinstance(groups, int) else in_channels
    near = nearest_that(asked, lambda n: divides(n, in_channels, out_channels), limit=in_channels)
    raise ConfigError(
        f"{groups!r} groups for {layer} of {model} do not divide its {in_channels} input and {out_channels} output "
        f"channels; the nearest numbers that do are {near}"
    )


def divides(groups: Groups, in_channels: int, out_channels: int) -> bool:
    """Whether a layer with so many channels can have these groups."""
    return None not in (group_sizes(groups, in_channels), group_sizes(groups, out_channels))


def nearest_that(asked: int, works: Callable[[int], bool], limit: int) -> str:
    """The nearest numbers from 1 to ``limit`` that work, below and above the one that was asked for."""
    below = next((n for n in range(min(asked - 1, limit), 0, -1) if works(n)), None)
    above = next((n for n in range(max(asked + 1, 1), limit + 1) if works(n)), None)
    return " and ".join(str(n) for n in (below, above) if n is not None)


def require_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse an argument that is none of the choices.

    Raises:
        ConfigError: naming it, what was received and the choices.
    """
    if value not in choices:
        raise ConfigError(f"{name} is {value!r}; expected {' or '.join(map(repr, choices))}")
