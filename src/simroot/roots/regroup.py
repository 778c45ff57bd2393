"""Root architectures (Deep Roots, section 3): schedules of groups, and any network turned into a root network."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from simroot.errors import ConfigError, is_whole
from simroot.layers import GroupedConv2d
from simroot.layers.root import Groups, UnevenConv2d, group_sizes, he_grouped_
from simroot.roots.schedules import Topology, divides, nearest_that, require_choice, require_groups, root_schedule
from simroot.roots.slicing import balanced_blocks, filters_within, permute_inputs, permute_outputs
from simroot.roots.tracing import Trace, TracedConv, trace

Weights = Literal["random", "slice"]


@dataclass(frozen=True)
class RootLayer:
    """One spatial convolution, before and after.

    Attributes:
        name: as in ``named_modules()``.
        kernel_size: height and width of the filters.
        in_channels: channels of the input.
        out_channels: channels of the output.
        grid: height and width of the output; None if the example does not reach the layer, and for what is no plain
            convolution.
        groups_before: filter groups of the given network.
        groups: filter groups of the root network.
        note: why the groups cannot be changed; empty if they can.
        permuted: sides of the layer whose channels were permuted: "", "inputs", "outputs" or "inputs and outputs".
        kept: share of the filters' squared norm that slicing has kept; None for new filters.
    """

    name: str
    kernel_size: tuple[int, ...]
    in_channels: int
    out_channels: int
    grid: tuple[int, int] | None
    groups_before: int
    groups: Groups
    note: str = ""
    permuted: str = ""
    kept: float | None = None

    @property
    def parameters_before(self) -> int:
        """Weights of the given layer's filters."""
        return math.prod(self.kernel_size) * self.in_channels * self.out_channels // self.groups_before

    @property
    def parameters(self) -> int:
        """Weights of the filters in their groups."""
        if self.groups == self.groups_before:
            return self.parameters_before
        inputs, outputs = _sizes(self.groups, self.in_channels), _sizes(self.groups, self.out_channels)
        return math.prod(self.kernel_size) * sum(i * o for i, o in zip(inputs, outputs, strict=True))

    @property
    def macs_before(self) -> int:
        """Multiply-accumulates of the given layer for one example."""
        return self.parameters_before * math.prod(self.grid or (0,))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the layer in groups for one example."""
        return self.parameters * math.prod(self.grid or (0,))


@dataclass(frozen=True)
class RootReport:
    """What became of a network: its spatial convolutions, and the whole.

    Attributes:
        layers: the spatial convolutions, in the order of execution, then those that the example does not reach.
        parameters_before: all parameters of the given network.
        parameters: all parameters of the root network.
        macs_before: multiply-accumulates of all convolutions, except transposed and deformable ones, linear layers,
            similarities and MEX units of the given network, for one example.
        macs: those of the root network.
    """

    layers: tuple[RootLayer, ...]
    parameters_before: int
    parameters: int
    macs_before: int
    macs: int


class Rootified(NamedTuple):
    """A root network and the report of how it came about."""

    model: nn.Module
    report: RootReport


def rootify(
    model: nn.Module,
    degree: int | Mapping[str, Groups],
    *,
    topology: Topology = "root",
    example_input: Tensor,
    stages: Mapping[str, int] | None = None,
    weights: Weights = "random",
    generator: torch.Generator | None = None,
) -> nn.Module:
    """A copy of a network whose spatial convolutions work in filter groups (Deep Roots, section 3).

    The convolutions are found by running the network on ``example_input``. The first one, 1 x 1 convolutions and what
    is grouped already stay as they are, and so does what cannot be regrouped (functional convolutions, shared or
    computed filters, channel counts without a common divisor); ``rootify_with_report`` says what was done and why.

    Args:
        model: any network with one input; it stays as it is.
        degree: filter groups of the first stage; or the layers to group, each with a number of groups or with relative
            sizes of unequal ones, whatever the topology.
        topology: how the number of groups changes from stage to stage, see ``root_schedule``.
        example_input: (N, C, H, W), on the network's device.
        stages: the stage, from 0, of each layer to group; if None, all groupable layers, a stage for each resolution of
            their outputs, from the highest.
        weights: ``"random"`` draws new filters for the grouped layers (He's initialisation); the rest keeps its
            weights. ``"slice"`` keeps those old filters that connect channels of the same group; channels are first
            permuted so that the strongest connections fall inside the groups, where a neighbouring convolution takes
            up the permutation. It changes nothing for whatever reads the channels while the example is processed; what
            reads them in training alone (an auxiliary head), or in a hook or an attribute, is not seen.
        generator: source of new filters; torch's global one if None.

    Raises:
        ConfigError: if the groups do not divide a layer's channels (with the nearest degrees that work for all layers),
            a named layer cannot be grouped, or the network cannot be copied or cannot process the example.
    """
    return rootify_with_report(
        model,
        degree,
        topology=topology,
        example_input=example_input,
        stages=stages,
        weights=weights,
        generator=generator,
    ).model


def rootify_with_report(
    model: nn.Module,
    degree: int | Mapping[str, Groups],
    *,
    topology: Topology = "root",
    example_input: Tensor,
    stages: Mapping[str, int] | None = None,
    weights: Weights = "random",
    generator: torch.Generator | None = None,
) -> Rootified:
    """``rootify``, and the report of what was done: the same arguments and errors."""
    require_choice("weights", weights, get_args(Weights))
    if not isinstance(example_input, Tensor):
        raise ConfigError(f"example_input is {example_input!r}; expected a tensor (N, C, H, W)")
    result = _copy(model)
    traced = trace(result, example_input)
    plan = _plan(type(model).__name__, traced.convolutions, degree, topology, stages)
    surgeon = _Surgeon(result, traced, weights, generator)
    layers = tuple(surgeon.regroup(conv, plan.get(conv.name, 1)) for conv in traced.convolutions)
    report = RootReport(
        layers=layers,
        parameters_before=sum(p.numel() for p in model.parameters()),
        parameters=sum(p.numel() for p in result.parameters()),
        macs_before=traced.macs,
        macs=traced.macs - sum(layer.macs_before - layer.macs for layer in layers),
    )
    return Rootified(result, report)


def _copy(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except RuntimeError as error:
        raise ConfigError(
            f"{type(model).__name__} cannot be copied, as it holds tensors that are computed from parameters: first "
            "remove weight normalisation (torch.nn.utils.remove_weight_norm) or pruning (torch.nn.utils.prune.remove)"
        ) from error


def _plan(
    model: str,
    convolutions: list[TracedConv],
    degree: int | Mapping[str, Groups],
    topology: Topology,
    stages: Mapping[str, int] | None,
) -> dict[str, Groups]:
    """Groups of each layer that is to be grouped."""
    groupable = {conv.name: conv for conv in convolutions if not conv.reason}
    if isinstance(degree, Mapping):
        _require_groupable(model, degree, convolutions)
        for name, groups in degree.items():
            require_groups(model, name, groups, groupable[name].in_channels, groupable[name].out_channels)
        return dict(degree)
    root_schedule(degree, 1, topology)  # refuses what is no degree
    if stages is None:
        stages = _stages_by_resolution(groupable)
    _require_groupable(model, stages, convolutions)
    for name, stage in stages.items():
        if not is_whole(stage, 0):
            raise ConfigError(f"the stage of layer {name!r} is {stage!r}; expected an integer of at least 0")

    def schedule(first: int) -> dict[str, int]:
        groups = root_schedule(first, 1 + max(stages.values(), default=0), topology)
        return {name: groups[stage] for name, stage in stages.items()}

    def fits(name: str, groups: int) -> bool:
        return divides(groups, groupable[name].in_channels, groupable[name].out_channels)

    plan = schedule(degree)
    for name, groups in plan.items():
        if not fits(name, groups):
            limit = max(conv.in_channels * 2 ** max(stages.values()) for conv in groupable.values())
            near = nearest_that(degree, lambda d: all(fits(n, g) for n, g in schedule(d).items()), limit)
            conv = groupable[name]
            raise ConfigError(
                f"{groups} groups for {name} of {model} do not divide its {conv.in_channels} input and "
                f"{conv.out_channels} output channels; the nearest degrees that work for all layers are {near}; "
                "in Python, stages can name the layers to group"
            )
    return dict(plan)


def _stages_by_resolution(convolutions: Mapping[str, TracedConv]) -> dict[str, int]:
    sizes = {name: math.prod(conv.grid or (0,)) for name, conv in convolutions.items()}
    order = sorted(set(sizes.values()), reverse=True)
    return {name: order.index(size) for name, size in sizes.items()}


def _require_groupable(model: str, names: Mapping[str, object], convolutions: list[TracedConv]) -> None:
    reasons = {conv.name: conv.reason for conv in convolutions}
    for name in names:
        reason = reasons.get(name, "it is no spatial convolution of this network")
        if reason:
            groupable = ", ".join(other for other, why in reasons.items() if not why)
            raise ConfigError(
                f"layer {name!r} of {model} cannot be grouped: {reason}; these can: {groupable or 'none'}"
            )


class _Surgeon:
    """Regroups a network's convolutions in place, in the order of execution."""

    def __init__(self, model: nn.Module, traced: Trace, weights: Weights, generator: torch.Generator | None) -> None:
        self.model, self.traced, self.weights, self.generator = model, traced, weights, generator
        self._done: set[nn.Module] = set()

    @torch.no_grad()
    def regroup(self, traced: TracedConv, groups: Groups) -> RootLayer:
        """Give one convolution its groups."""
        layer = RootLayer(
            traced.name,
            traced.kernel_size,
            traced.in_channels,
            traced.out_channels,
            traced.grid,
            groups_before=traced.groups,
            groups=traced.groups,
            note=traced.reason,
        )
        if groups == 1:
            return layer
        conv = self.model.get_submodule(traced.name)
        assert isinstance(conv, nn.Conv2d)
        inputs, outputs = _sizes(groups, conv.in_channels), _sizes(groups, conv.out_channels)
        permuted = self._permute(conv, inputs, outputs) if self.weights == "slice" else ""
        blocks = filters_within(conv.weight, inputs, outputs)
        kept = sum(float(block.square().sum()) for block in blocks) / max(float(conv.weight.square().sum()), 1e-30)
        grouped: nn.Module = conv
        if isinstance(groups, int):
            if type(conv) is nn.Conv2d:
                conv.__class__ = GroupedConv2d  # the module stays the one that others hold, with its hooks
            conv.groups = groups
            _set_weight(conv, torch.cat(blocks))
        else:
            grouped = _uneven(conv, blocks)
            for name in [name for name, module in self.model.named_modules(remove_duplicate=False) if module is conv]:
                self.model.set_submodule(name, grouped)
        self._done.add(conv)
        if self.weights == "random":
            he_grouped_(grouped, self.generator)
            return replace(layer, groups=groups)
        return replace(layer, groups=groups, permuted=permuted, kept=kept)

    def _permute(self, conv: nn.Conv2d, inputs: list[int], outputs: list[int]) -> str:
        before, behind = self.traced.source(conv), self.traced.target(conv)
        move_inputs = before is not None and self._is_free(before[0])
        move_outputs = behind is not None and self._is_free(behind[0])
        strength = conv.weight.square().sum((2, 3))
        rows, columns = balanced_blocks(strength, inputs, outputs, move_inputs=move_inputs, move_outputs=move_outputs)
        if before is not None and move_inputs:
            permute_inputs(conv, columns)
            for module in before:
                permute_outputs(module, columns)
        if behind is not None and move_outputs:
            consumer, *between = behind
            for module in (conv, *between):
                permute_outputs(module, rows)
            assert isinstance(consumer, nn.Conv2d)
            permute_inputs(consumer, rows)
        return " and ".join(side for side, moved in (("inputs", move_inputs), ("outputs", move_outputs)) if moved)

    def _is_free(self, conv: nn.Module) -> bool:
        return conv in self.traced.plain and isinstance(conv, nn.Conv2d) and conv.groups == 1 and conv not in self._done


def _set_weight(conv: nn.Conv2d, weight: Tensor) -> None:
    conv.weight = nn.Parameter(weight.clone(), requires_grad=conv.weight.requires_grad)


def _uneven(conv: nn.Conv2d, blocks: list[Tensor]) -> UnevenConv2d:
    """Copies of a convolution, each with the filters and whatever else belongs to its output channels."""
    parts = []
    first = 0
    for block in blocks:
        part = copy.deepcopy(conv)
        own = slice(first, first + len(block))
        for module in part.modules():
            for name, tensor in module.named_parameters(recurse=False):
                if name != "weight" or module is not part:
                    setattr(module, name, nn.Parameter(tensor[own].clone(), requires_grad=tensor.requires_grad))
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, buffer[own].clone() if buffer.ndim else buffer)
        part.out_channels, part.in_channels = block.shape[:2]
        _set_weight(part, block)
        parts.append(part)
        first += len(block)
    return UnevenConv2d(parts)


def _sizes(groups: Groups, channels: int) -> list[int]:
    sizes = group_sizes(groups, channels)
    assert sizes is not None
    return sizes
