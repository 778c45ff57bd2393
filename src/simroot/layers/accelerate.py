"""Trains anyone's network by the native kernels: what stands between its convolutions is done where they read.

Modules stay where they are and keep their names; only the `forward` of those that hold convolutions, normalisations and
activations is replaced by one that calls the same modules in the same order through `deferred`.
"""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import fx, nn
from torch.nn import functional as F

from simroot.layers import deferred
from simroot.layers.grouped import GroupedConv2d
from simroot.layers.mex import MexPool2d
from simroot.layers.norm import NormalisedConv2d
from simroot.layers.traced import Excitation, Forward, gate_of, hooked, is_sequence, traced

Network = TypeVar("Network", bound=nn.Module)

_MODULES: dict[type, str] = {nn.ReLU: "relu", nn.ReLU6: "relu6", nn.Hardswish: "hardswish", nn.SiLU: "silu"}
_FUNCTIONS: dict[Any, str] = {
    F.relu: "relu",
    torch.relu: "relu",
    torch.relu_: "relu",
    F.relu6: "relu6",
    F.hardswish: "hardswish",
    F.silu: "silu",
}
_METHODS = {"relu": "relu", "relu_": "relu"}
_ADDITIONS = (operator.add, operator.iadd, torch.add)


@dataclass(frozen=True)
class Replaced:
    """Something of a network that kernels do.

    Attributes:
        module: name of the module; empty for the network itself.
        what: what it does.
    """

    module: str
    what: str


class Acceleration(tuple[Replaced, ...]):
    """What of a network has been replaced; printed, a line for each kind."""

    def __str__(self) -> str:
        if not self:
            return (
                "nothing to accelerate: no batch normalisation, no depthwise and no 1x1 convolution that kernels serve"
            )
        counts = Counter(item.what for item in self)
        whole = (counts[_IN_PLACE] + counts[_MODULE]) / max(
            1, sum(number for what, number in counts.items() if what not in (_CONVOLUTION, _EXCITATION, _WINDOWS))
        )
        gain = "1.3 to 2" if whole >= 0.3 else "1.0 to 1.2"
        return "\n".join(
            [*self._lines(), f"expected of a training step on the CPU, channels-last: {gain} times as fast"]
        )

    def in_words(self) -> str:
        """What has been replaced, in one line."""
        return ", ".join(self._lines())

    def _lines(self) -> list[str]:
        return [f"{number} x {what}" for what, number in Counter(item.what for item in self).most_common()]


_IN_PLACE = "batch normalisation and activation where the next convolution reads"
_IN_ONE = "batch normalisation and what follows it in one operator"
_MODULE = "depthwise filters, 1x1 convolution and what follows it in one operator"
_CONVOLUTION = "depthwise or 1x1 convolution"
_WINDOWS = "pooling by two"
_EXCITATION = "squeeze-excitation where the next convolution reads"


def accelerate(model: Network) -> Network:
    """Have a network's separable layers and normalisations computed by native kernels in training.

    Depthwise and 1x1 convolutions, ``nn.BatchNorm2d`` and the activations and additions behind it are found in the
    traced forward of every module; one that cannot be traced is left as it is, and so are its parts with hooks.
    Results and gradients are the same but for rounding. Parameters, buffers, modules and their names stay; other
    devices and dtypes, exports and counters see the modules as before, and so does evaluation, but for root modules and
    pooling where no gradient is asked for. The network should be channels-last.

    Args:
        model: any network; it is changed.

    Returns:
        The same object. ``acceleration(model)`` tells what was found, ``restore(model)`` undoes it.
    """
    restore(model)
    _visit(model)
    return model


def acceleration(model: nn.Module) -> Acceleration:
    """What of a network is accelerated."""
    return Acceleration(
        Replaced(name, what)
        for name, module in model.named_modules()
        if isinstance(forward := module.__dict__.get("forward"), Forward)
        for what in forward.replaced
    )


def restore(model: Network) -> Network:
    """Undo ``accelerate``: every module has its own forward again."""
    for module in model.modules():
        if isinstance(module.__dict__.get("forward"), Forward):
            del module.forward
    return model


def _visit(module: nn.Module) -> None:
    """Rewrite a module, and those within it that it calls as one step."""
    if isinstance(module.__dict__.get("forward"), Forward):
        return
    inner = list(module.children())
    if any(_is_step(child) for child in _steps(module)) and (graph := traced(module)) is not None:
        found = [node for node in graph.nodes if node.op == "call_module"]
        inner = [module.get_submodule(str(node.target)) for node in found]
        replaced = _rewrite(module, graph)
        if replaced:
            code = graph.python_code("self")
            module.forward = Forward(module, code.src, dict(code.globals), replaced)
    for child in dict.fromkeys(inner):
        if not _is_step(child):
            _visit(child)


def _steps(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if is_sequence(child):
            yield from _steps(child)
        else:
            yield child


def _is_step(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d | nn.BatchNorm2d)


@dataclass
class _Unit:
    """A batch normalisation in a graph, maybe with the convolution before it, and where its result is."""

    start: fx.Node  # the first node
    end: fx.Node  # the node that this takes the place of
    conv: str | None
    norm: str | None


def _rewrite(module: nn.Module, graph: fx.Graph) -> list[str]:
    """Calls of `deferred` in the place of what it does; returns what was replaced."""
    replaced: list[str] = []
    done: set[fx.Node] = set()
    _skip_identities(module, graph)
    unused = {node for node in graph.nodes if not node.users}
    for node in list(graph.nodes):
        if node in done:
            continue
        if (unit := _root_module(module, node)) is not None:
            done |= {node, unit.start, unit.end}
            replaced += _replace_root_module(module, graph, node, unit)
        elif (unit := _unit(module, node)) is not None:
            done |= {unit.start, unit.end}
            replaced += _replace_unit(module, graph, unit)
        elif node.op == "call_module" and len(node.args) == 1 and _is_narrow(module.get_submodule(str(node.target))):
            with graph.inserting_before(node):
                result = graph.call_function(deferred.convolve, (graph.get_attr(str(node.target)), node.args[0]))
            node.replace_all_uses_with(result)
            replaced.append(_CONVOLUTION)
        elif (pool := _pooling(module, node)) is not None:
            with graph.inserting_before(node):
                arguments = node.args[0], graph.get_attr(str(node.target)), pool[1]
                node.replace_all_uses_with(graph.call_function(deferred.pooled, arguments))
            replaced.append(_WINDOWS)
    for node in reversed(list(graph.nodes)):
        if not node.users and node not in unused:
            graph.erase_node(node)
    return replaced


def _skip_identities(module: nn.Module, graph: fx.Graph) -> None:
    for node in list(graph.nodes):
        if node.op == "call_module" and len(node.args) == 1 and not node.kwargs:
            part = module.get_submodule(str(node.target))
            if type(part) is nn.Identity and not hooked(part):
                node.replace_all_uses_with(node.args[0])
                graph.erase_node(node)


def _own_activation(norm: nn.Module | None) -> str | None:
    """What a batch normalisation does behind it, as timm's own kind may; None of other modules."""
    if type(norm) is nn.BatchNorm2d:
        return "none"
    if not isinstance(norm, nn.BatchNorm2d) or type(norm).__name__ != "BatchNormAct2d":
        return None
    drop, act = getattr(norm, "drop", None), getattr(norm, "act", None)
    if type(drop) is not nn.Identity or not isinstance(act, nn.Module) or hooked(drop) or hooked(act):
        return None
    return "none" if type(act) is nn.Identity else _MODULES.get(type(act))


def _unit(module: nn.Module, node: fx.Node) -> _Unit | None:
    """The unit that begins with a node."""
    if node.op != "call_module" or len(node.args) != 1 or node.kwargs:
        return None
    part: Any = module.get_submodule(str(node.target))
    if hooked(part):
        return None
    if isinstance(part, NormalisedConv2d):
        return _Unit(node, node, str(node.target), None) if part.batch_norm() is not None else None
    if _own_activation(part) is not None:
        return _Unit(node, node, None, str(node.target))
    follower = _only_user(node)
    if type(part) in (nn.Conv2d, GroupedConv2d) and part.bias is None and follower is not None:
        norm: Any = module.get_submodule(str(follower.target)) if follower.op == "call_module" else None
        if _own_activation(norm) is not None and not hooked(norm) and _is_plain(part):
            return _Unit(node, follower, str(node.target), str(follower.target))
    return None


def _replace_unit(module: nn.Module, graph: fx.Graph, unit: _Unit) -> list[str]:
    end = unit.end
    steps: list[tuple[Callable[..., Any], Any]] = []
    if unit.norm is not None and (own := _own_activation(module.get_submodule(unit.norm))) not in (None, "none"):
        steps.append((deferred.activate, own))
    if not steps and (user := _only_user(end)) is not None and _is_addition(user):
        one, other = user.args
        steps.append((deferred.add, other if one is end else one))
        end = user
    if (
        all(function is deferred.add for function, _ in steps)
        and (user := _only_user(end)) is not None
        and (name := _activation(module, user)) is not None
    ):
        steps.append((deferred.activate, name))
        end = user
    narrow = unit.conv is not None and _is_narrow(module.get_submodule(unit.conv))
    added = any(function is deferred.add for function, _ in steps)
    excitation = None
    if narrow and not added and (excitation := _excitation(module, end)) is not None:
        end = excitation
    waits = narrow and not added and _is_read(module, _only_user(end))
    pool = None if added or waits or excitation else _pooling(module, _only_user(end))
    if pool is not None:
        end = pool[0]
    with graph.inserting_before(end):
        norm = graph.get_attr(unit.norm) if unit.norm else None
        if unit.conv is None:
            result = graph.call_function(deferred.normalise, (norm, unit.start.args[0]))
        else:
            arguments = graph.get_attr(unit.conv), norm, unit.start.args[0], waits
            result = graph.call_function(deferred.convolve_and_normalise, arguments)
        for function, argument in steps:
            result = graph.call_function(function, (result, argument))
        if excitation is not None:
            result = graph.call_module(str(excitation.target), (result,))
        if pool is not None:
            result = graph.call_function(deferred.pooled, (result, graph.get_attr(str(end.target)), pool[1]))
        elif not waits:
            result = graph.call_function(deferred.value, (result,))
    end.replace_all_uses_with(result)
    return [_IN_PLACE if waits else _IN_ONE] + [_CONVOLUTION] * narrow


def _root_module(module: nn.Module, node: fx.Node) -> _Unit | None:
    """The 1x1 convolution and normalisation that read depthwise filters, where one operator does all of it."""
    reader = _only_user(node)
    if reader is None or node.op != "call_module" or len(node.args) != 1 or node.kwargs:
        return None
    spatial: Any = module.get_submodule(str(node.target))
    if type(spatial) not in (nn.Conv2d, GroupedConv2d) or hooked(spatial) or not _is_plain(spatial):
        return None
    alike = spatial.groups == spatial.in_channels == spatial.out_channels and spatial.kernel_size == (3, 3)
    if not alike or spatial.stride != (1, 1) or spatial.padding != (1, 1) or spatial.bias is not None:
        return None
    unit = _unit(module, reader)
    if unit is None or unit.conv is None or unit.start.args != (node,):
        return None
    conv: Any = module.get_submodule(unit.conv)
    pointwise = conv.kernel_size == conv.stride == (1, 1) and conv.padding == (0, 0) and conv.groups == 1
    return unit if pointwise else None


def _replace_root_module(module: nn.Module, graph: fx.Graph, spatial: fx.Node, unit: _Unit) -> list[str]:
    end, images = unit.end, spatial.args[0]
    activation = _own_activation(module.get_submodule(unit.norm)) if unit.norm is not None else None
    user = _only_user(end)
    if activation in (None, "none") and user is not None and (name := _activation(module, user)) is not None:
        activation, end = name, user
        user = _only_user(end)
    adds = user is not None and _is_addition(user) and images in user.args
    if user is not None and adds:
        end = user
    with graph.inserting_before(end):
        parts = [graph.get_attr(name) if name else None for name in (str(spatial.target), unit.conv, unit.norm)]
        result = graph.call_function(deferred.root_module, (*parts, images, activation or "none", adds))
    end.replace_all_uses_with(result)
    return [_MODULE]


def _is_read(module: nn.Module, reader: fx.Node | None) -> bool:
    """Whether a step is a convolution that kernels may serve."""
    return reader is not None and reader.op == "call_module" and _is_narrow(module.get_submodule(str(reader.target)))


def _excitation(module: nn.Module, end: fx.Node) -> fx.Node | None:
    """The squeeze-excitation behind a step, if a 1x1 convolution reads it; its scaling is left to that."""
    node = _only_user(end)
    if node is None or node.op != "call_module" or len(node.args) != 1 or node.kwargs:
        return None
    reader = _only_user(node)
    if not _is_read(module, reader) or module.get_submodule(str(reader.target)).kernel_size != (1, 1):  # type: ignore[union-attr]
        return None
    part = module.get_submodule(str(node.target))
    if not isinstance(part.__dict__.get("forward"), Excitation):
        if (gate := gate_of(part)) is None:
            return None
        code = gate.python_code("self")
        part.forward = Excitation(part, code.src, dict(code.globals), [_EXCITATION])
    return node


def _pooling(module: nn.Module, node: fx.Node | None) -> tuple[fx.Node, float] | None:
    """A step that pools windows of 2 x 2 pixels, and its beta: infinite or 0."""
    if node is None or node.op != "call_module" or len(node.args) != 1 or node.kwargs:
        return None
    part: Any = module.get_submodule(str(node.target))
    if type(part) not in (MexPool2d, nn.MaxPool2d, nn.AvgPool2d) or hooked(part):
        return None
    in_twos = all(size in (2, (2, 2)) for size in (part.kernel_size, part.stride or part.kernel_size))
    usual = getattr(part, "dilation", 1) in (1, (1, 1)) and not getattr(part, "return_indices", False)
    if not in_twos or not usual or part.padding not in (0, (0, 0)) or getattr(part, "divisor_override", None):
        return None
    beta: Any = getattr(part, "beta", math.inf if isinstance(part, nn.MaxPool2d) else 0.0)
    return (node, beta) if isinstance(beta, float) and beta in (0.0, math.inf) else None


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _is_addition(node: fx.Node) -> bool:
    called = (node.op == "call_function" and node.target in _ADDITIONS) or (
        node.op == "call_method" and node.target in ("add", "add_")
    )
    nodes = [argument for argument in node.args if isinstance(argument, fx.Node)]
    return called and not node.kwargs and len(node.args) == 2 and len(set(nodes)) == 2


def _activation(module: nn.Module, node: fx.Node) -> str | None:
    if node.op == "call_module":
        part = module.get_submodule(str(node.target))
        return None if hooked(part) else _MODULES.get(type(part))
    if not node.args or not isinstance(node.args[0], fx.Node) or set(node.kwargs) - {"inplace"}:
        return None
    if node.op == "call_function":
        return _FUNCTIONS.get(node.target)
    return _METHODS.get(str(node.target)) if node.op == "call_method" else None


def _is_plain(conv: nn.Conv2d) -> bool:
    square = len(set(conv.stride)) == 1 and not isinstance(conv.padding, str) and len(set(conv.padding)) == 1
    return square and conv.padding_mode == "zeros" and set(conv.dilation) == {1}


def _is_narrow(module: nn.Module) -> bool:
    """Whether a module is a convolution that the kernels may serve, without a bias of its own."""
    if type(module) not in (nn.Conv2d, GroupedConv2d) and not isinstance(module, NormalisedConv2d):
        return False
    assert isinstance(module, nn.Conv2d)
    if isinstance(module, NormalisedConv2d):
        plain = module.batch_norm() is not None and module.patches is None
    else:
        plain = module.bias is None
    if not plain or hooked(module) or not _is_plain(module):
        return False
    outputs, (kernel, width), stride = module.out_channels, module.kernel_size, module.stride[0]
    depthwise = module.groups == module.in_channels == outputs > 1 and kernel in (3, 5, 7) and stride in (1, 2)
    return kernel == width and (depthwise or (kernel == stride == 1 and module.padding[0] == 0))
