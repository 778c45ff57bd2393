"""What a module does, as a graph, and forwards that take the place of its own."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from functools import partial
from types import CodeType, ModuleType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from simroot.layers.deferred import Deferred, Value, excited, kernels_wanted, value


class Forward:
    """The forward of an accelerated module, which can be copied and pickled with it."""

    def __init__(self, module: nn.Module, source: str, names: dict[str, Any], replaced: list[str]) -> None:
        self.module, self.source, self.names, self.replaced = module, source, names, replaced
        self._function: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if not kernels_wanted(self.module.training):
            return type(self.module).forward(self.module, *arguments, **named)
        return self._traced_function()(*arguments, **named)

    def _traced_function(self) -> Callable[..., Any]:
        if self._function is None:
            namespace = dict(self.names)
            exec(self.source, namespace)
            self._function = namespace["forward"]
        return partial(self._function, self.module)

    # What looks at a forward, as torch.export does, sees the module's own.
    @property
    def __code__(self) -> CodeType:
        return type(self.module).forward.__code__

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(type(self.module).forward.__get__(self.module))

    def __getstate__(self) -> dict[str, Any]:
        names = {name: value for name, value in self.names.items() if not isinstance(value, ModuleType)}
        return {**self.__dict__, "names": {**names, "torch": None}, "_function": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.names["torch"] = torch


class _Tracer(fx.Tracer):
    """Goes through sequences, and sees all other modules as one step."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not is_sequence(m)


def is_sequence(module: nn.Module) -> bool:
    """Whether a module calls its parts one after the other, and nobody watches it."""
    return type(module).forward is nn.Sequential.forward and "forward" not in module.__dict__ and not hooked(module)


def hooked(module: nn.Module) -> bool:
    """Whether somebody watches a module."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks)


def traced(module: nn.Module) -> fx.Graph | None:
    """What a module does, if that is the same in training and evaluation and does not depend on values."""
    modes = [(part, part.training) for part in module.modules()]
    graphs = []
    try:
        for mode in (True, False):
            module.train(mode)
            graphs.append(_Tracer().trace(module))
    except Exception:  # whatever a foreign forward raises when it is given no tensors
        return None
    finally:
        for part, mode in modes:
            part.training = mode
        for name in [name for name in module.__dict__ if name.startswith("_tensor_constant")]:
            delattr(module, name)
    sources = [graph.python_code("self").src for graph in graphs]
    if sources[0] != sources[1] or "_tensor_constant" in sources[0]:
        return None
    return graphs[0]


class Excitation(Forward):
    """The forward of a squeeze-excitation, which leaves the scaling to what reads it; ``source`` is of the gate."""

    def __call__(self, x: Value) -> Value:
        if self.module.training and isinstance(x, Deferred):
            return excited(x, self._traced_function())
        y: Tensor = type(self.module).forward(self.module, value(x))
        return y


def gate_of(module: nn.Module) -> fx.Graph | None:
    """The graph of a squeeze-excitation's gate, g of ``y = x g(mean of x over the pixels)``; None of other modules.

    A mean of means of one pixel changes nothing: the graph takes images or their means.
    """
    if hooked(module) or not list(module.children()) or (graph := traced(module)) is None:
        return None
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    (output,) = (node for node in graph.nodes if node.op == "output")
    scaled = output.args[0]
    if len(inputs) != 1 or not isinstance(scaled, fx.Node) or scaled.target not in (operator.mul, torch.mul):
        return None
    (x,) = inputs
    others = [node for node in scaled.args if node is not x]
    means = [node for node in x.users if node is not scaled]
    if len(others) != 1 or len(scaled.args) != 2 or len(means) != 1 or not _is_mean(module, means[0]):
        return None
    output.args = (others[0],)
    graph.erase_node(scaled)
    return graph


def _is_mean(module: nn.Module, node: fx.Node) -> bool:
    """Whether a step is the mean over the pixels, (N, C, 1, 1)."""
    if node.op == "call_module":
        part = module.get_submodule(str(node.target))
        return type(part) is nn.AdaptiveAvgPool2d and part.output_size in (1, (1, 1)) and not hooked(part)
    if node.op == "call_function":
        return node.target is F.adaptive_avg_pool2d and tuple(node.args[1:]) in ((1,), ((1, 1),))
    rest = node.args[1:], dict(node.kwargs)
    return node.target == "mean" and rest in ((((2, 3),), {"keepdim": True}), (([2, 3],), {"keepdim": True}))
