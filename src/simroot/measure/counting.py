"""Counting a network's parameters, multiply-accumulates and floating-point operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.utils.parametrize import ParametrizationList
from torch.overrides import TorchFunctionMode

from simroot.borrowed.from_torch import OpOverload, TorchDispatchMode, tree_leaves
from simroot.errors import ConfigError, UnknownOperatorError
from simroot.layers import FoldedNorm2d
from simroot.measure.cost import Cost, LayerCost
from simroot.measure.formulas import Operator, find_formula
from simroot.modules import evaluating, processing

# Modules without a row: what they do is nothing, or is done once, when the network is deployed (normalisation folds
# into its neighbours, parametrised weights are evaluated).
_FREE_MODULES = (nn.Identity, FoldedNorm2d, ParametrizationList)


def count(model: nn.Module, input_size: Sequence[int]) -> Cost:
    """Count a network's parameters, and its operations for one example in evaluation mode.

    The network is run once on zeros, and the formulas of ``simroot.measure.formulas`` are applied to what it calls;
    that module's text states the convention. What depends on parameters and constants alone (parametrised weights,
    position tables) is free, since it is computed once for all examples, and so is ``FoldedNorm2d``, which folds away
    at deployment. Orders and betas count at their present values: an order of exactly 1 or 2 needs no exp or log. The
    network is left as it was: its training mode, its buffers and torch's random state.

    Args:
        model: any network with one input; its first parameter gives the device and the type of the input.
        input_size: shape of one example without the batch dimension: (C, H, W), or (C,) for vectors.

    Raises:
        UnknownOperatorError: if the network calls an operator without a formula; see ``register_cost``.
        ConfigError: if ``input_size`` is no shape, or the network cannot process an example of this shape.
    """
    size = tuple(input_size) if isinstance(input_size, Sequence) else ()
    if not size or not all(isinstance(length, int) and length > 0 for length in size):
        raise ConfigError(f"input_size is {input_size!r}; expected positive integers (C, H, W), or (C,) for vectors")
    parameter = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    example = torch.zeros(1, *size, device=parameter.device, dtype=parameter.dtype)
    counter = _Counter(example)
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(torch.no_grad())
        counter.watch(model, stack)
        stack.enter_context(_FunctionCalls(counter))
        stack.enter_context(counter)
        with processing(f"{type(model).__name__} cannot process an example of shape {size}"):
            model(example)
    layers = tuple(counter.rows)
    return Cost(
        parameters=sum(p.numel() for p in model.parameters()),
        macs=sum(layer.macs for layer in layers),
        flops=sum(layer.flops for layer in layers),
        layers=layers,
    )


@dataclass
class _Frame:
    """A module call that has not returned yet, with the rows that it has collected."""

    name: str
    module: nn.Module
    free: bool
    rows: list[LayerCost] = field(default_factory=list)
    has_submodules: bool = False


class _Counter(TorchDispatchMode):
    """Charges every ATen operator that depends on the example to the innermost module call.

    ATen, below the Python functions, sees what any of them does, so that nothing can escape. Dependence is tracked by
    storage, which views and in-place operators share.
    """

    def __init__(self, example: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rows: list[LayerCost] = []
        self._frames: list[_Frame] = []
        self._counted_parameters: set[int] = set()
        self._dependent: set[StorageWeakRef] = set()
        self._hidden = False
        self._mark(example)

    def watch(self, model: nn.Module, stack: ExitStack) -> None:
        """Follow the calls of all modules until the stack is closed."""
        for name, module in model.named_modules():
            stack.callback(module.register_forward_pre_hook(self._entering(name), prepend=True).remove)
            stack.callback(module.register_forward_hook(self._leave, with_kwargs=True).remove)

    def call(
        self, func: Operator, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call an ATen operator and charge it."""
        output = func(*args, **(kwargs or {}))
        self.record(func, args, kwargs or {}, output)
        return output

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Inside, only dependence is tracked: the caller charges for the whole."""
        self._hidden = True
        try:
            yield
        finally:
            self._hidden = False

    def record(self, operator: Operator, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> None:
        """Charge one operator's call."""
        if not self._depends((args, kwargs)):
            return
        self._mark(output)
        frame = self._frames[-1]
        if self._hidden or frame.free or getattr(operator, "is_view", False):
            return
        formula = find_formula(operator)
        if formula is None:
            raise UnknownOperatorError(
                f"no cost formula for {_describe(operator)}, called by layer {frame.name!r} "
                f"({type(frame.module).__name__}); add one with simroot.measure.register_cost"
            )
        first = _first_tensor(output)
        cost = formula(first, *args, **kwargs)
        if cost.macs or cost.flops:
            kind = _describe(operator).rpartition(".")[2].strip("_")
            frame.rows.append(LayerCost(frame.name, kind, tuple(first.shape[1:]), 0, cost.macs, cost.flops))

    def _entering(self, name: str) -> Callable[[nn.Module, Any], None]:
        def enter(module: nn.Module, args: Any) -> None:
            free = isinstance(module, _FREE_MODULES) or bool(self._frames and self._frames[-1].free)
            self._frames.append(_Frame(name, module, free))

        return enter

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        frame = self._frames.pop()
        if self._depends((args, kwargs)):
            self._mark(output)  # even if the module computes its output outside torch
        if frame.free:
            return
        rows = self._with_parameters(frame) if frame.has_submodules else [self._summary(frame, output)]
        if self._frames:
            self._frames[-1].has_submodules = True
            self._frames[-1].rows += rows
        else:
            self.rows += rows

    def _summary(self, frame: _Frame, output: Any) -> LayerCost:
        return LayerCost(
            name=frame.name,
            kind=_class_name(frame.module),
            output_shape=tuple(_first_tensor(output).shape[1:]),
            parameters=self._uncounted(frame.module, recurse=True),
            macs=sum(row.macs for row in frame.rows),
            flops=sum(row.flops for row in frame.rows),
        )

    def _with_parameters(self, frame: _Frame) -> list[LayerCost]:
        """The rows, with the parameters that the module itself holds in the first row of its own, if it has one."""
        for index, row in enumerate(frame.rows):
            if row.name == frame.name:
                frame.rows[index] = replace(row, parameters=self._uncounted(frame.module, recurse=False))
                break
        return frame.rows

    def _uncounted(self, module: nn.Module, recurse: bool) -> int:
        new = {id(p): p.numel() for p in module.parameters(recurse) if id(p) not in self._counted_parameters}
        self._counted_parameters |= new.keys()
        return sum(new.values())

    def _depends(self, values: Any) -> bool:
        return any(StorageWeakRef(t.untyped_storage()) in self._dependent for t in _tensors(values))

    def _mark(self, values: Any) -> None:
        self._dependent |= {StorageWeakRef(t.untyped_storage()) for t in _tensors(values)}


# Were it defined in the class, PyTorch would import its compiler with the first call, which takes three seconds.
_Counter.__torch_dispatch__ = _Counter.call  # type: ignore[assignment]


class _FunctionCalls(TorchFunctionMode):
    """Charges a Python function that has its own formula as one call and hides the operators inside it."""

    def __init__(self, counter: _Counter) -> None:
        super().__init__()
        self._counter = counter

    def __torch_function__(
        self, func: Operator, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if find_formula(func) is None:
            return func(*args, **(kwargs or {}))
        with self._counter.hidden():
            output = func(*args, **(kwargs or {}))
        self._counter.record(func, args, kwargs or {}, output)
        return output


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _first_tensor(values: Any) -> Tensor:
    return next(iter(_tensors(values)), torch.empty(0))


def _class_name(module: nn.Module) -> str:
    """The class's name, without the prefix that ``torch.nn.utils.parametrize`` gives it."""
    return type(module).__name__.removeprefix("Parametrized")


def _describe(operator: Operator) -> str:
    """``torch.ops.aten.cumprod`` for an operator, the qualified name for a Python function."""
    if isinstance(operator, OpOverload):
        return f"torch.ops.{operator.overloadpacket}"
    return f"{operator.__module__}.{operator.__qualname__}"
