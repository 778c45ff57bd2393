"""Registering the variants of a network: the same builder with other defaults."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from simroot.models.registry import register
from simroot.models.roots import Topology, root_schedule

Sizes = Mapping[int, tuple[int, int]]


def register_variant(
    name: str,
    build: Callable[..., nn.Module],
    size: tuple[int, int],
    summary: str,
    recipe: Mapping[str, Any] | None = None,
    **overrides: Any,
) -> None:
    """Register ``build`` under another name with some of its keyword arguments preset.

    Args:
        name: the variant's name.
        build: a registered builder.
        size: parameters and multiply-accumulates of the variant.
        summary: one line that says what it is.
        recipe: fields in which its recipe differs from the default one.
        **overrides: the preset arguments, which become the variant's defaults.
    """
    variant = functools.partial(build, **overrides)
    variant.__doc__ = summary
    register(name, parameters=size[0], macs=size[1], recipe=recipe)(variant)


def register_roots(
    base: str, build: Callable[..., nn.Module], sizes: Sizes, stages: int, where: str, topology: Topology = "root"
) -> None:
    """Register ``{base}_{topology}{degree}`` for every degree, with the groups of ``root_schedule``.

    Args:
        base: name of the network without groups.
        build: its builder, which takes ``groups``, one number a stage.
        sizes: degree -> parameters and multiply-accumulates.
        stages: number of stages.
        where: the section or tables of Deep Roots.
        topology: how the number of groups changes with depth.
    """
    for degree, size in sizes.items():
        groups = root_schedule(degree, stages, topology)
        summary = f"{base} with {', '.join(map(str, groups))} filter groups by stage (Deep Roots, {where})."
        register_variant(f"{base}_{topology}{degree}", build, size, summary, groups=groups)
