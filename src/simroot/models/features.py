"""Classifiers as backbones: their feature maps, or the pooled features before the scores. Any network, by its graph.

What belongs to the head is found, not declared: the steps whose results change their shape with the number of classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp, TensorMetadata

from simroot.errors import ConfigError
from simroot.images.preparation import sides
from simroot.models.registry import PRETRAINED, ModelEntry, create_model, model_entry
from simroot.modules import evaluating, processing

# A grid with this much more than half the pixels a side still counts as one of half, as 17 of 33 do.
_ROUND = 0.1

Shape = tuple[int, ...]


@dataclass(frozen=True)
class FeatureMap:
    """One feature map of a network.

    Attributes:
        module: name of the module that gives it.
        channels: how many it has.
        reduction: pixels of the image a side for each of its own: 1, 2, 4, ...
    """

    module: str
    channels: int
    reduction: int


class FeatureInfo(tuple[FeatureMap, ...]):
    """The feature maps of a network, finest first."""

    def channels(self) -> list[int]:
        """Channels of each map."""
        return [each.channels for each in self]

    def reduction(self) -> list[int]:
        """Reduction of each map."""
        return [each.reduction for each in self]

    def module_name(self) -> list[str]:
        """The module that gives each map."""
        return [each.module for each in self]


class Features(nn.Module):
    """Images (N,C,H,W) -> a list of feature maps (N,c,h,w), finest first.

    Attributes:
        feature_info: what they are.
    """

    def __init__(self, network: nn.Module, info: FeatureInfo) -> None:
        super().__init__()
        self.network, self.feature_info = network, info

    def forward(self, x: Tensor) -> list[Tensor]:
        return list(self.network(x))


class Pooled(nn.Module):
    """Images (N,C,H,W) -> features (N, num_features): what the head gets, averaged over the pixels of a map.

    Attributes:
        num_features: how many there are.
    """

    def __init__(self, network: nn.Module, num_features: int) -> None:
        super().__init__()
        self.network, self.num_features = network, num_features

    def forward(self, x: Tensor) -> Tensor:
        (found,) = self.network(x)
        return found.flatten(2).mean(2) if found.ndim > 2 else found


def backbone(network: str | ModelEntry, in_channels: int, overrides: Mapping[str, Any], *, maps: bool) -> nn.Module:
    """A network without its head.

    Args:
        network: as for ``create_model``, like the next two.
        in_channels: channels of the images.
        overrides: arguments of the builder.
        maps: give the feature maps, a ``Features``; or else what the head gets, ``Pooled``.

    Raises:
        ConfigError: as ``create_model``; also if nothing comes before the head, or the network cannot be followed.
    """
    entry = network if isinstance(network, ModelEntry) else model_entry(network)
    image = (in_channels, *sides(overrides.get("image_size", entry.image_size)))
    drawn = {key: value for key, value in overrides.items() if key != PRETRAINED}
    whole = create_model(network, entry.num_classes, in_channels, **overrides)
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        shapes = [
            _shapes(entry.name, create_model(network, entry.num_classes + more, in_channels, **drawn), image)
            for more in (0, 1)
        ]
    body = {name: shape for name, shape in shapes[0].items() if shapes[1].get(name) == shape and len(shape) > 1}
    if not body:
        raise ConfigError(f"{entry.name} is a head alone: all that it computes depends on the number of classes")
    graph = _followed(entry.name, whole)
    if not maps:
        last = [*body][-1]
        return Pooled(_ending(graph, [last]), body[last][1]).train(whole.training)
    places = _places(body, image)
    if not places:
        raise ConfigError(f"{entry.name} has no feature maps; num_classes=0 gives what comes before its scores")
    modules = {node.name: _module(node) for node in graph.graph.nodes}
    info = FeatureInfo(
        FeatureMap(modules[name], body[name][1], reduction) for reduction, name in sorted(places.items())
    )
    return Features(_ending(graph, [places[each.reduction] for each in info]), info).train(whole.training)


def _places(body: Mapping[str, Shape], image: Shape) -> dict[int, str]:
    """Reduction -> the last map that has it."""
    found = {}
    for name, shape in body.items():
        if len(shape) == 4 and shape[2] * shape[3] > 1:
            found[2 ** math.floor(math.log2(image[1] / shape[2]) + _ROUND)] = name
    return found


def _followed(name: str, network: nn.Module) -> fx.GraphModule:
    """The network as a graph, in evaluation mode."""
    try:
        with evaluating(network):
            return fx.GraphModule(network, _Tracer().trace(network))
    except Exception as error:  # whatever stands in the way of following anybody's code
        raise ConfigError(f"{name} cannot be followed for its features: {error}") from error


def _shapes(name: str, network: nn.Module, image: Shape) -> dict[str, Shape]:
    """Step -> shape of its result for two images, in order."""
    graph = _followed(name, network).eval()
    with torch.no_grad(), processing(f"{name} cannot process images of {image}"):
        ShapeProp(graph).propagate(torch.empty(2, *image))
    return {
        node.name: tuple(node.meta["tensor_meta"].shape)
        for node in graph.graph.nodes
        if node.op.startswith("call") and isinstance(node.meta.get("tensor_meta"), TensorMetadata)
    }


def _ending(graph: fx.GraphModule, names: list[str]) -> fx.GraphModule:
    """The graph with other results; what they do not need is gone."""
    nodes = {node.name: node for node in graph.graph.nodes}
    (output,) = [node for node in nodes.values() if node.op == "output"]
    graph.graph.erase_node(output)
    graph.graph.output(tuple(nodes[name] for name in names))
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


def _module(node: fx.Node) -> str:
    """The module that a step belongs to."""
    if node.op == "call_module":
        return str(node.target)
    return next(reversed(node.meta.get("nn_module_stack", {})), node.name)


class _Tracer(fx.Tracer):
    """Our layers stay whole: they look at the shapes of what they get."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        where = type(m).__module__
        ours = where.startswith("simroot.layers") and not where.startswith("simroot.layers.blocks")
        return ours or super().is_leaf_module(m, module_qualified_name)
