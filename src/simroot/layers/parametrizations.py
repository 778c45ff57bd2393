"""Parametrisations that keep a layer's parameters where the formulas need them (``torch.nn.utils.parametrize``)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

if TYPE_CHECKING:
    from typing_extensions import Self

# Below it a value cannot be told from zero in float32 and its logarithm would run off to minus infinity.
_SMALLEST = 1e-30

# Share of a SoftPositive's scale: slopes divided by smaller weights would have squares too large for float32.
_FLOOR = 1e-3

_ALPHA_RATE = 3.0


class Parametrised(nn.Module):
    """A layer whose parameters may be parametrised, which can be pickled all the same, and folds into plain ones.

    PyTorch gives a parametrised module a class of its own, which nobody can import. It is pickled as one of the class
    that it was written as, and parametrised again when it is read.
    """

    @torch.no_grad()
    def folded(self) -> Self:
        """A copy that holds its parameters plainly."""
        layer = copy.deepcopy(self)
        bake(layer)
        return layer

    def __reduce_ex__(self, protocol: Any) -> Any:
        return object.__new__, (parametrize.type_before_parametrizations(self),), dict(vars(self))

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "_modules": dict(state["_modules"])})  # type: ignore[no-untyped-call]
        entries = self._modules.pop("parametrizations", None) or nn.Module()
        for name, entry in entries.named_children():
            assert isinstance(entry, parametrize.ParametrizationList)
            self.register_parameter(name, nn.Parameter(torch.empty_like(entry.original), requires_grad=False))
            parametrize.register_parametrization(self, name, nn.Identity(), unsafe=True)
            own = self.parametrizations
            assert isinstance(own, nn.ModuleDict)
            own[name] = entry


class Positive(nn.Module):
    """``exp(rate raw)``: positive with a gradient below, so that no value is clamped to zero for good.

    Args:
        rate: below 1 for a parameter on which much depends: a step of gradient descent moves its logarithm by
            ``rate^2`` of what it would at 1.
    """

    def __init__(self, rate: float = 1.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, raw: Tensor) -> Tensor:
        return (self.rate * raw).exp()

    def right_inverse(self, value: Tensor) -> Tensor:
        return value.clamp_min(_SMALLEST).log() / self.rate


class SoftPositive(nn.Module):
    """``scale (softplus(rate raw / scale) + 0.001)``: positive with a gradient below.

    A step of gradient descent moves a value above ``scale`` by ``rate^2`` of what it would without parametrisation.
    Under ``exp(raw)`` it is moved by its square times as far, which leaves small values where they started.

    Args:
        scale: of usual values.
        rate: as above.
    """

    def __init__(self, scale: float, rate: float) -> None:
        super().__init__()
        self.scale, self.rate = scale, rate

    def forward(self, raw: Tensor) -> Tensor:
        return self.scale * (functional.softplus(raw * (self.rate / self.scale)) + _FLOOR)

    def right_inverse(self, value: Tensor) -> Tensor:
        value = (value / self.scale - _FLOOR).clamp_min(_SMALLEST)
        return (self.scale / self.rate) * (value + (-torch.expm1(-value)).log())


class Slow(nn.Module):
    """``rate raw``: a step of gradient descent moves the value by ``rate^2`` of what it would without.

    Args:
        rate: between 0 and 1.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, raw: Tensor) -> Tensor:
        return self.rate * raw

    def right_inverse(self, value: Tensor) -> Tensor:
        return value / self.rate


class _OfLayer(nn.Module):
    """A parametrisation that reads another parameter of the layer that owns it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self._layer = (layer,)  # in a tuple: not a submodule, which would make a cycle

    @property
    def layer(self) -> Any:
        return self._layer[0]


class TemplatesFromSlopes(_OfLayer):
    """Templates in natural parameters: ``z = w / (2 u)``, where w is the slope of an l_2 similarity at x = 0.

    ``-u (x - z)^2 = -u x^2 + w x - u z^2``: the linear part starts like a convolution and the quadratic part small,
    however small u is.
    """

    def forward(self, slopes: Tensor) -> Tensor:
        return slopes / (2 * self.layer.weights)

    def right_inverse(self, templates: Tensor) -> Tensor:
        return 2 * self.layer.weights * templates


class OffsetsFromLogAlpha(_OfLayer):
    """MEX offsets by the logarithm of the kernel machine's coefficients: ``b = log(alpha) / beta`` (section 3).

    Learned is ``log(alpha) / 3``, so that a step of gradient descent moves log(alpha) nine times as far: a nearly
    linear unit has the weights alpha / C, in which log(alpha) is slow by itself.
    """

    def forward(self, raw: Tensor) -> Tensor:
        return raw * (_ALPHA_RATE / self.layer.beta)

    def right_inverse(self, offsets: Tensor) -> Tensor:
        return offsets * (self.layer.beta / _ALPHA_RATE)


def parameter(layer: nn.Module, name: str, value: Tensor, *, learn: bool, by: nn.Module | None = None) -> None:
    """Register ``value`` as the layer's ``name``: learned or fixed, and through the parametrisation ``by`` if given."""
    layer.register_parameter(name, nn.Parameter(value, requires_grad=learn))
    if by is not None:
        parametrize.register_parametrization(layer, name, by)


@torch.no_grad()
def bake(layer: nn.Module) -> None:
    """Replace the layer's parametrised parameters by plain ones of the same values.

    ``remove_parametrizations`` would take the parameters from every copy of the layer, since copies share their class.
    """
    if not parametrize.is_parametrized(layer):
        return
    originals = {name: entry.original for name, entry in layer.parametrizations.items()}  # type: ignore[operator,union-attr]
    values = {name: getattr(layer, name).clone() for name in originals}
    layer.__class__ = parametrize.type_before_parametrizations(layer)
    del layer.parametrizations
    for name, value in values.items():
        parameter(layer, name, value, learn=originals[name].requires_grad)
