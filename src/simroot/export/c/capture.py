"""From a network to the list of its layers, by recording what it does with one image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from simroot.borrowed.from_torch import OpOverload
from simroot.errors import ConfigError, SimrootError
from simroot.export.c.layers import Affine, Floats, Gather, Image, Layer, Shape, Window
from simroot.export.description import Description
from simroot.layers import GlobalMexPool2d, MexDense, MexPool2d, Similarity2d
from simroot.layers.grouped import GroupedConv2d
from simroot.models import deploy
from simroot.modules import replace_modules


@torch.library.custom_op("simroot_c::layer", mutates_args=())
def _layer(x: Tensor, number: int, shape: list[int]) -> Tensor:
    """A place in a recorded graph: the layer of this number, which gives this shape."""
    return x.new_zeros(shape)


@_layer.register_fake
def _(x: Tensor, number: int, shape: list[int]) -> Tensor:
    return x.new_empty(shape)


class Marked(nn.Module):
    """In the place of a layer of ``simroot.layers``: one call in the recorded graph."""

    def __init__(self, layer: nn.Module, number: int) -> None:
        super().__init__()
        object.__setattr__(self, "layer", layer)  # what it holds is no part of the recorded network
        self.number = number

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = torch.ops.simroot_c.layer(x, self.number, output_shape(self.layer, x.shape))
        return found


def output_shape(layer: Any, shape: Sequence[int]) -> list[int]:
    """What a layer of ``simroot.layers`` gives for an input of a shape."""
    if isinstance(layer, MexDense):
        return [shape[0], len(layer.offsets), *shape[2:]]
    if isinstance(layer, GlobalMexPool2d):
        return list(shape[:2])
    if isinstance(layer, Similarity2d):
        units, _, *kernel = layer.templates.shape
        sizes = [(n + 2 * layer.padding - k) // layer.stride + 1 for n, k in zip(shape[2:], kernel, strict=True)]
        return [shape[0], units, *sizes]
    assert isinstance(layer, MexPool2d)
    step = layer.kernel_size if layer.stride is None else layer.stride
    probe = torch.empty(1, 1, *shape[2:], device="meta")
    sides = nn.functional.max_pool2d(probe, layer.kernel_size, step, layer.padding, ceil_mode=layer.ceil_mode).shape[2:]
    return [*shape[:2], *sides]


@dataclass(frozen=True)
class View:
    """What a node of the graph is: for each of its numbers the place in a layer's output, -1 for a zero."""

    layer: int
    index: Tensor


class Recording:
    """The layers so far, while a graph is read from front to back."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.layers: list[Layer] = [Image("image", (), grid(shape))]
        self.image = View(0, natural((1, *shape)))
        self.module = ""

    def add(self, build: Callable[..., Layer], inputs: Sequence[View], shape: Sequence[int], **options: Any) -> View:
        """Append a layer; ``shape`` is PyTorch's, batch included."""
        sources = tuple(self.settle(view) for view in inputs)
        self.layers.append(build(self.module, sources, grid(shape[1:]), **options))
        return View(len(self.layers) - 1, natural(shape))

    def settle(self, view: View) -> int:
        """The layer whose output, in storage order, is a view."""
        shape = grid(view.index.shape[1:])
        index = view.index.permute(0, 2, 3, 1) if view.index.ndim == 4 else view.index
        order = index.flatten().numpy()
        source = self.layers[view.layer]
        gather = Gather(self.module, (view.layer,), shape, index=order)
        if shape == source.shape and gather.is_plain(source):
            return view.layer
        self.layers.append(gather)
        return len(self.layers) - 1


def grid(shape: Sequence[int]) -> Shape:
    """(C, H, W) or (C,) as height, width and channels.

    Raises:
        ConfigError: for any other number of axes.
    """
    if len(shape) not in (1, 3):
        raise ConfigError(f"an activation of shape {tuple(shape)} has no C form; expected (C, H, W) or (C,)")
    channels, height, width = (*shape, 1, 1) if len(shape) == 1 else shape
    return height, width, channels


def natural(shape: Sequence[int]) -> Tensor:
    """The place in storage of each number of a layer's output, in PyTorch's order."""
    if len(shape) == 2:
        return torch.arange(math.prod(shape)).view(*shape)
    batch, channels, height, width = shape
    return torch.arange(math.prod(shape)).view(batch, height, width, channels).permute(0, 3, 1, 2)


def array(tensor: Tensor) -> Floats:
    """A constant in float64."""
    return tensor.detach().double().cpu().numpy()


class Recorded:
    """A network's graph for one image, (C, H, W), from which its layers can be read whenever its weights have changed.

    Raises:
        ConfigError: if the network cannot be recorded.
    """

    def __init__(self, model: nn.Module, input_size: Sequence[int]) -> None:
        self.input_size = tuple(input_size)
        form, _ = _form(model)
        try:
            with torch.no_grad():
                self.program = torch.export.export(form, (torch.zeros(1, *input_size),), strict=False)
        except SimrootError:
            raise
        # torch.export has errors of many classes, and none above them.
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise ConfigError(f"the network cannot be written as a list of layers: {reason[0]}") from error

    def layers(self, model: nn.Module) -> list[Layer]:
        """The layers of the deployed network, with the weights that it has now.

        Raises:
            ConfigError: for what has no C form.
        """
        from simroot.export.c.operators import call

        form, marks = _form(model)
        recording = Recording(self.input_size)
        values = self._constants(form)
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                values.setdefault(node.name, recording.image)
            elif node.op == "call_function":
                recording.module = _module_name(node)
                arguments = torch.fx.node.map_arg((node.args, node.kwargs), lambda other: values[other.name])
                values[node.name] = call(recording, node, *arguments, marks=marks)
                if _in_place(node.target) and isinstance(node.args[0], torch.fx.Node):
                    values[node.args[0].name] = values[node.name]
            elif node.op == "output":
                return _finished(recording, [values[leaf.name] for leaf in node.all_input_nodes])
        raise ConfigError("the recorded network has no output")

    def _constants(self, form: nn.Module) -> dict[str, Any]:
        program, signature = self.program, self.program.graph_signature
        tensors = {
            **program.constants,
            **dict(form.named_parameters(remove_duplicate=False)),
            **dict(form.named_buffers(remove_duplicate=False)),
        }
        names = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        return {name: tensors[key] for name, key in names.items()}


def _form(model: nn.Module) -> tuple[nn.Module, list[nn.Module]]:
    """The deployed network, with a mark in the place of every layer of ``simroot.layers``, and these layers."""
    marks: list[nn.Module] = []
    form = replace_modules(deploy(model).cpu().float().requires_grad_(False), lambda module: _marked(module, marks))
    return form, marks


def capture(model: nn.Module, input_size: Sequence[int]) -> list[Layer]:
    """The layers of the deployed network for one image, (C, H, W); nothing is folded that ``deploy`` does not fold.

    Raises:
        ConfigError: if the network cannot be recorded, or does something that has no C form.
    """
    return Recorded(model, input_size).layers(model)


def _finished(recording: Recording, outputs: list[Any]) -> list[Layer]:
    if len(outputs) != 1 or not isinstance(outputs[0], View) or outputs[0].index.ndim != 2:
        raise ConfigError("the network does not give one vector of scores, which C is written for")
    last = recording.settle(outputs[0])
    layers = recording.layers
    if last != len(layers) - 1:  # something behind it is not used
        layers = layers[: last + 1]
    return _used(layers)


def _used(layers: list[Layer]) -> list[Layer]:
    """Without layers that nothing reads."""
    needed = {len(layers) - 1, 0}
    for place in range(len(layers) - 1, -1, -1):
        if place in needed:
            needed.update(layers[place].inputs)
    kept = sorted(needed)
    renamed = {old: new for new, old in enumerate(kept)}
    for place in kept:
        layers[place].inputs = tuple(renamed[source] for source in layers[place].inputs)
    return [layers[place] for place in kept]


def _marked(module: nn.Module, marks: list[nn.Module]) -> nn.Module | None:
    if isinstance(module, Similarity2d | MexDense | MexPool2d | GlobalMexPool2d):
        marks.append(module)
        return Marked(module, len(marks) - 1)
    if isinstance(module, GroupedConv2d) and type(module).forward is nn.Conv2d.forward:
        plain = nn.Conv2d.__new__(nn.Conv2d)  # the same layer by PyTorch's operator, which can be recorded
        plain.__dict__ = module.__dict__
        return plain
    return None


def _in_place(target: Any) -> bool:
    return isinstance(target, OpOverload) and target.overloadpacket.__name__.endswith("_")


def _module_name(node: torch.fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    path = [str(name) for name, _ in stack.values()]
    return path[-1].removeprefix("L['self'].").removeprefix("L__self___") if path else ""


def window(kernel: Any, stride: Any, padding: Any, dilation: Any = 1) -> Window:
    """A window of PyTorch's arguments, each a number or a list."""

    def pair(value: Any) -> tuple[int, int]:
        values = [int(value)] if isinstance(value, int) else [int(one) for one in value]
        return values[0], values[-1]

    return Window(pair(kernel), pair(stride if stride not in ([], None) else kernel), pair(padding), pair(dilation))


def numbers(value: Any) -> Floats:
    """A constant or a number as an array."""
    return array(value) if isinstance(value, Tensor) else np.asarray(float(value))


def normalised(layers: list[Layer], description: Description) -> list[Layer]:
    """With the normalisation of pixels in front, if the file takes pixels."""
    image = layers[0]
    assert isinstance(image, Image)
    if description.mean is None or description.std is None:
        return layers
    mean, std = np.array(description.mean), np.array(description.std)
    image.pixels = True
    for layer in layers:
        layer.inputs = tuple(source + 1 for source in layer.inputs)
    layers.insert(1, Affine("normalisation", (0,), image.shape, scale=1 / (255 * std), shift=-mean / std))
    return layers
