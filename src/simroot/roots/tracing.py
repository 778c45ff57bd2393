"""What a network's convolutions do for one example: found by running it, whatever way it is written."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.overrides import TorchFunctionMode

from simroot.borrowed.from_torch import tree_leaves
from simroot.layers import MexDense, Similarity2d
from simroot.modules import evaluating, processing

_CONVOLUTIONS = (torch.conv2d, torch.convolution)
# Modules that treat every channel alike and apart from the others: channels may be permuted before or after them.
_PER_CHANNEL = (
    nn.BatchNorm2d,
    nn.Identity,
    nn.ReLU,
    nn.ReLU6,
    nn.SiLU,
    nn.GELU,
    nn.Hardswish,
    nn.LeakyReLU,
    nn.ELU,
    nn.Tanh,
    nn.Sigmoid,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.Dropout,
)
_UNITS = (nn.Conv2d, *_PER_CHANNEL)
_PER_CHANNEL_FUNCTIONS = frozenset(
    {
        torch.relu,
        torch.relu_,
        Tensor.relu,
        Tensor.relu_,
        torch.sigmoid,
        torch.tanh,
        nn.functional.relu,
        nn.functional.relu6,
        nn.functional.silu,
        nn.functional.gelu,
        nn.functional.hardswish,
        nn.functional.leaky_relu,
        nn.functional.max_pool2d,
        nn.functional.avg_pool2d,
        nn.functional.dropout,
    }
)


@dataclass(frozen=True)
class TracedConv:
    """One spatial convolution of a network, or something like one.

    Attributes:
        name: of the module, as in ``named_modules()``.
        grid: height and width of its output; None if the example does not reach it, or it is no plain convolution.
        reason: why its groups cannot be changed; empty if they can.
    """

    name: str
    kind: str
    kernel_size: tuple[int, ...]
    in_channels: int
    out_channels: int
    groups: int
    grid: tuple[int, int] | None
    reason: str


@dataclass(eq=False)
class _Node:
    """A call of a module or function: which module (None for a function), and the calls that read its output."""

    module: nn.Module | None
    per_channel: bool
    inputs: list[_Node] = field(default_factory=list)
    readers: list[_Node] = field(default_factory=list)


@dataclass
class Trace:
    """What one forward pass shows.

    Attributes:
        convolutions: the spatial ones, in the order of execution, then those that were not reached.
        macs: multiply-accumulates of all convolutions, except transposed and deformable ones, linear layers,
            similarities and MEX units.
        plain: modules that convolved with the filters that they hold, not with computed ones.
    """

    convolutions: list[TracedConv]
    macs: int
    plain: frozenset[nn.Module]
    _nodes: dict[nn.Module, list[_Node]]
    _shared: frozenset[int]

    def source(self, conv: nn.Module) -> list[nn.Module] | None:
        """The modules ``[producer, per-channel modules...]`` that make the input of ``conv``, and only that.

        None if there is no such chain, so that input channels cannot be permuted without changing the network.
        """
        return self._chain(conv, lambda node: (node.inputs, "readers"))

    def target(self, conv: nn.Module) -> list[nn.Module] | None:
        """The modules ``[consumer, per-channel modules...]`` that alone read the output of ``conv``, or None."""
        return self._chain(conv, lambda node: (node.readers, "inputs"))

    def _chain(self, conv: nn.Module, step: Callable[[_Node], tuple[list[_Node], str]]) -> list[nn.Module] | None:
        modules: list[nn.Module] = []
        node = self._only(conv)
        while node is not None:
            ahead, back = step(node)
            if len(ahead) != 1 or len(getattr(ahead[0], back)) != 1:
                return None
            node = ahead[0]
            module = node.module
            if module is not None and (held := {id(t) for t in (*module.parameters(), *module.buffers())}):
                if self._only(module) is not node or held & self._shared:
                    return None  # what it holds belongs to several places
                modules.insert(0, module)
            if isinstance(module, nn.Conv2d):
                return modules
            if not node.per_channel:
                return None
        return None

    def _only(self, module: nn.Module) -> _Node | None:
        calls = self._nodes.get(module, [])
        return calls[0] if len(calls) == 1 else None


def trace(model: nn.Module, example_input: Tensor) -> Trace:
    """Run a network once, in evaluation and without gradient, and find its spatial convolutions.

    Spatial are the convolutions whose filters are larger than 1 x 1; the first convolution to be executed is one of
    the layers whose groups cannot be changed. The network is left as it was.

    Raises:
        ConfigError: if the network cannot process the example.
    """
    recorder = _Recorder(model)
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(torch.no_grad())
        stack.enter_context(recorder.hooks())
        stack.enter_context(recorder)
        with processing(f"{type(model).__name__} cannot process an example of shape {tuple(example_input.shape)}"):
            recorder.returned(model(example_input))
    shared = frozenset(key for key, users in recorder.users.items() if users > 1)
    plain = frozenset(m for m, calls in recorder.calls.items() if all(call.own_weight for call in calls))
    return Trace(recorder.convolutions(), recorder.macs, plain, recorder.nodes, shared)


@dataclass
class _Call:
    """A convolution's call: the groups it was called with, its grid, and whether its filters are a parameter."""

    groups: int
    grid: tuple[int, int]
    kernel_size: tuple[int, ...]
    channels: tuple[int, int]
    own_weight: bool


class _Recorder(TorchFunctionMode):
    """Follows tensors from call to call; inside a unit (a convolution, a per-channel module) only its filters matter.

    Tensors are told apart by identity; all that were seen are kept, so that no identity is used twice.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.macs = 0
        self.users = Counter(id(p) for m in model.modules() for p in m._parameters.values() if p is not None)
        self.nodes: dict[nn.Module, list[_Node]] = {}
        self.calls: dict[nn.Module, list[_Call]] = {}
        self._made_by: dict[int, _Node] = {}
        self._kept: list[Tensor] = []
        self._stack: list[nn.Module] = [model]
        self._units = 0

    @contextmanager
    def hooks(self) -> Iterator[None]:
        with ExitStack() as stack:
            for module in self.model.modules():
                stack.callback(module.register_forward_pre_hook(self._enter, prepend=True).remove)
                stack.callback(module.register_forward_hook(self._leave, with_kwargs=True).remove)
            yield

    def _enter(self, module: nn.Module, args: Any) -> None:
        self._stack.append(module)
        self._units += isinstance(module, _UNITS)

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        self._stack.pop()
        if isinstance(module, nn.Linear):
            self.macs += output.numel() // output.shape[0] * module.in_features
        elif isinstance(module, Similarity2d | MexDense):
            each = module.templates[0].numel() if isinstance(module, Similarity2d) else module.offsets.shape[1]
            self.macs += output.numel() // output.shape[0] * each
        if isinstance(module, _UNITS):
            self._units -= 1
            if not self._units:
                self._add(module, isinstance(module, _PER_CHANNEL), (args, kwargs), output)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in _CONVOLUTIONS:
            self._convolved(output, *args, **(kwargs or {}))
        made = args[0] if func is Tensor.__setitem__ else output
        if not self._units and _tensors(made):  # otherwise somebody asked for a shape
            self._add(None, func in _PER_CHANNEL_FUNCTIONS, (args, kwargs), made)
        return output

    def returned(self, output: Any) -> None:
        """Record that whoever called the network reads what it returns, also in a dataclass or the like."""
        parts = [getattr(leaf, "__dict__", None) for leaf in tree_leaves(output)]
        self._add(None, per_channel=False, inputs=(output, parts), output=None)

    def _add(self, module: nn.Module | None, per_channel: bool, inputs: Any, output: Any) -> None:
        node = _Node(module, per_channel)
        for tensor in _tensors(inputs):
            if (maker := self._made_by.get(id(tensor))) is not None:
                node.inputs.append(maker)
                maker.readers.append(node)
        for tensor in _tensors(output):
            self._made_by[id(tensor)] = node
            self._kept.append(tensor)
        if module is not None:
            self.nodes.setdefault(module, []).append(node)

    def _convolved(self, output: Tensor, input: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> None:
        module = self._stack[-1]
        inputs, outputs = input.shape[-3], output.shape[-3]
        self.macs += weight.numel() * output.shape[-2] * output.shape[-1]
        self.calls.setdefault(module, []).append(
            _Call(
                groups=inputs // weight.shape[1],
                grid=(output.shape[-2], output.shape[-1]),
                kernel_size=tuple(weight.shape[2:]),
                channels=(inputs, outputs),
                own_weight=isinstance(module, nn.Conv2d) and weight is module._parameters.get("weight"),
            )
        )

    def convolutions(self) -> list[TracedConv]:
        """The spatial convolutions, and modules that hold filters like theirs."""
        names = {module: name for name, module in self.model.named_modules()}
        others = (m for m in names if m not in self.calls and not isinstance(m, ParametrizationList))
        order = [*self.calls, *others]
        found = (self._describe(m, names[m], self.users[id(m._parameters.get("weight"))]) for m in order)
        return [conv for conv in found if conv is not None]

    def _is_first(self, module: nn.Module) -> bool:
        """Whether it convolves before all others, or the image itself: stems may have branches."""
        nodes = self.nodes.get(module, [])
        return module is next(iter(self.calls), None) or (bool(nodes) and not any(node.inputs for node in nodes))

    def _describe(self, module: nn.Module, name: str, users: int) -> TracedConv | None:
        calls = self.calls.get(module, [])
        kind = type(module).__name__
        if isinstance(module, nn.Conv2d):
            kernel, channels = module.kernel_size, (module.in_channels, module.out_channels)
            if kernel == (1, 1):
                return None
            reason = _reason(module, calls, self._is_first(module), users)
            return TracedConv(name, kind, kernel, *channels, module.groups, calls[0].grid if calls else None, reason)
        if calls:
            call = max(calls, key=lambda call: call.kernel_size)
            if call.kernel_size == (1, 1):
                return None
            reason = "a functional convolution"
            return TracedConv(name, kind, call.kernel_size, *call.channels, call.groups, call.grid, reason)
        for parameter in module.parameters(recurse=False):
            if parameter.ndim == 4 and max(parameter.shape[2:]) > 1:
                first_channels, second_channels, *kernel_size = parameter.shape
                groups = int(getattr(module, "groups", 1))
                channels = (second_channels * groups, first_channels)
                if isinstance(module, nn.ConvTranspose2d):  # its filters are (in_channels, out_channels / groups, ...)
                    channels = channels[::-1]
                reason = f"{kind} is not a convolution that can be regrouped"
                return TracedConv(name, kind, tuple(kernel_size), *channels, groups, None, reason)
        return None


def _reason(conv: nn.Conv2d, calls: Sequence[_Call], first: bool, users: int) -> str:
    if not calls:
        return "not used for this example"
    if first:
        return "the first convolution is never grouped"
    if math.gcd(conv.in_channels, conv.out_channels) == 1:
        return f"its {conv.in_channels} input and {conv.out_channels} output channels have no common divisor"
    if conv.groups == conv.in_channels:
        return "depthwise already"
    if conv.groups > 1:
        return f"in {conv.groups} groups already"
    if not all(call.own_weight for call in calls):
        return f"{type(conv).__name__} computes its filters instead of learning them as they are"
    if users > 1:
        return f"its weights are shared by {users} layers"
    if len(calls) > 1:
        return f"its weights are shared: it is called {len(calls)} times"
    return ""


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
