"""Similarity layers: templates, weights and order of section 2, and the whitened similarity of section 4.2."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, TypedDict

import torch
from torch import Tensor, nn

from simroot import ops
from simroot.errors import ConfigError
from simroot.layers.noise import MultiplicativeNoise
from simroot.layers.norm import NormalisedConv2d
from simroot.layers.parametrizations import Parametrised, Positive, SoftPositive, TemplatesFromSlopes, parameter
from simroot.ops.similarity import Kind

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

# A weight moves at most at a quarter of a slope's rate, as its gradient, a square, has heavy tails; at less where a
# similarity has few of them and each counts for much.
_WEIGHT_RATE, _MANY = 0.5, 24


class Similarity2d(Parametrised):
    """Similarity of every patch to learned templates (Deep SimNets, section 2).

    ``s_l = -sum_i u_li |x_i - z_li|^p + b_l`` for ``kind="lp"``, ``sum_i u_li x_i z_li + b_l`` for ``kind="linear"``,
    where i runs over the d = k k C / groups coordinates of a patch. (N, C, H, W) -> (N, templates, H', W').

    ``weights`` u >= 0 and ``order`` p > 0 are kept so by parametrisation; both, and ``templates`` z, can be read and
    assigned: weights before templates, since an assignment to weights keeps the slopes below. Templates are learned
    through the slopes ``w = 2 u z`` and start with ``w ~ N(0, 1/d)`` and ``log(u) ~ N(-log(8 sqrt(d)), 1)``, so that
    the layer begins as a convolution with a concave part whose share is small and the same for every d. Slopes and
    weights are both learned and decay as coefficients of a polynomial in x (``SoftPositive``), so that the balance
    between the linear and the concave part is the data's to find.

    Args:
        in_channels: C of the input.
        templates: number of templates.
        kernel_size: height and width of a patch.
        kind: ``"lp"`` or ``"linear"``.
        order: p, one for the layer.
        stride: step between patches.
        padding: zeros on every side.
        groups: groups of channels and templates.
        weighted: False for weights of 1 that take no memory and no time.
        bias: an additive bias per template (section 5: the constants c_l of the mixture).
        from_origin: add ``sum_i u_li |z_li|^p``, so that a patch of zeros has similarity b_l. The constant is large and
            moves with every step of z and u; a normalisation behind the layer is spared from following it.
        learn_templates: False to fix the templates.
        learn_weights: False to fix the weights.
        learn_order: True to learn p.

    Raises:
        ConfigError: for channels that the groups do not divide, an unknown kind, or an order that is not positive and
            finite.
    """

    training_hints: ClassVar[Mapping[str, Mapping[str, float]]] = {"order": {"weight_decay": 0.0}}
    templates: Tensor
    weights: Tensor | None
    order: Tensor | float

    def __init__(
        self,
        in_channels: int,
        templates: int,
        kernel_size: int = 1,
        *,
        kind: Kind = "lp",
        order: float = 2.0,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        weighted: bool = True,
        bias: bool = False,
        from_origin: bool = False,
        learn_templates: bool = True,
        learn_weights: bool = True,
        learn_order: bool = False,
    ) -> None:
        super().__init__()
        if kind not in ("lp", "linear"):
            raise ConfigError(f"kind is {kind!r}; expected 'lp' or 'linear'")
        if groups < 1 or in_channels % groups or templates % groups:
            raise ConfigError(
                f"{in_channels} channels and {templates} templates cannot be split into {groups} groups; "
                "choose groups that divide both"
            )
        if not 0 < order < math.inf:
            raise ConfigError(f"order is {order}; an l_p similarity needs a finite p > 0")
        self.kind, self.stride, self.padding, self.groups = kind, stride, padding, groups
        self.from_origin = from_origin
        shape = (templates, in_channels // groups, kernel_size, kernel_size)
        d = shape[1] * shape[2] * shape[3]
        slopes = torch.randn(shape) / d**0.5
        usual = 1 / (8 * d**0.5)
        u = usual * torch.randn(shape).exp() if kind == "lp" else torch.ones(shape)
        if weighted:
            parameter(self, "weights", u, learn=learn_weights, by=SoftPositive(usual, _WEIGHT_RATE * min(1, d / _MANY)))
        else:
            self.weights = None
        if weighted and kind == "lp":
            parameter(self, "templates", slopes / (2 * u), learn=learn_templates, by=TemplatesFromSlopes(self))
        else:
            parameter(self, "templates", slopes, learn=learn_templates)
        if learn_order:
            parameter(self, "order", torch.tensor(float(order)), learn=True, by=Positive(rate=0.3))
        else:
            self.order = float(order)
        self.bias = nn.Parameter(torch.zeros(templates)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        geometry = {"stride": self.stride, "padding": self.padding, "groups": self.groups}
        return self._similarity(x, self.shift(), **geometry)

    def _similarity(self, x: Tensor, bias: Tensor | None, **geometry: int) -> Tensor:
        options = {"order": self.order, "kind": self.kind, "bias": bias}
        return ops.similarity(x, self.templates, self.weights, **options, **geometry)  # type: ignore[arg-type]

    def shift(self) -> Tensor | None:
        """What is added to the similarities, (templates,): the bias, and the dissimilarity of the origin."""
        if not self.from_origin:
            return self.bias
        channels = self.templates.shape[1] * self.groups
        origin = self.templates.new_zeros((1, channels, *self.templates.shape[2:]))
        dissimilarity = -self._similarity(origin, None, groups=self.groups).flatten()
        return dissimilarity if self.bias is None else self.bias + dissimilarity

    @torch.no_grad()
    def folded(self, scale: Tensor | None = None) -> Self:
        """A copy with plain templates, weights, order and ``shift`` (as bias), the similarities times ``scale`` > 0.

        Args:
            scale: a factor per template, (templates,). An l_p similarity takes it up in its weights, a linear one in
                its templates.
        """
        shift = self.shift()
        layer = super().folded()
        layer.from_origin = False
        scale = torch.ones(len(self.templates)) if scale is None else scale
        layer.bias = None if shift is None else nn.Parameter(shift * scale.to(shift))
        factor = scale.view(-1, 1, 1, 1).to(layer.templates)
        if layer.kind == "linear":
            layer.templates *= factor
        elif layer.weights is not None or (factor != 1).any():
            weights = torch.ones_like(layer.templates) if layer.weights is None else layer.weights
            learned = layer.weights is None or layer.weights.requires_grad
            layer.weights = nn.Parameter(weights * factor, requires_grad=learned)
        return layer

    def extra_repr(self) -> str:
        n, c, k, _ = self.templates.shape
        order = float(torch.as_tensor(self.order).detach())
        return f"{c * self.groups}, {n}, kernel_size={k}, kind={self.kind}, order={order:g}, groups={self.groups}"


class SimilarityOptions(TypedDict, total=False):
    """Keyword arguments of ``Similarity2d`` that a ``WhitenedSimilarity2d`` passes on; see there."""

    order: float
    bias: bool
    from_origin: bool
    learn_order: bool
    learn_templates: bool
    learn_weights: bool


class WhitenedSimilarity2d(nn.Module):
    """Convolution followed by an l_p similarity with receptive field 1 x 1: "conv -> l_p-sim" (section 4.2).

    (N, C, H, W) -> (N, templates, H', W'). The convolution takes the place of a whitening matrix W, its responses
    normalised over the batch while it trains; multiplicative Gaussian noise (section 6.4) acts on them.

    Args:
        in_channels: C of the input.
        whitened: channels of the convolution, the dimension d of the whitened patches.
        templates: templates of the similarity.
        kernel_size: height and width of the convolution.
        stride: stride of the convolution.
        padding: zero padding of the convolution.
        groups: groups of the convolution.
        similarity_groups: groups of the similarity.
        noise: sigma of the multiplicative noise.
        norm: False for a plain convolution.
        whiten: learn the filters in coordinates in which patches of the input are white.
        **similarity: ``order``, ``bias``, ``from_origin``, ``learn_order``, ``learn_templates`` and ``learn_weights``
            of the ``Similarity2d``.
    """

    def __init__(
        self,
        in_channels: int,
        whitened: int,
        templates: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        similarity_groups: int = 1,
        noise: float = 0.0,
        norm: bool = True,
        whiten: bool = False,
        **similarity: Unpack[SimilarityOptions],
    ) -> None:
        super().__init__()
        geometry = {"stride": stride, "padding": padding, "groups": groups}
        self.conv = NormalisedConv2d(in_channels, whitened, kernel_size, norm=norm, whiten=whiten, **geometry)
        self.noise = MultiplicativeNoise(noise) if noise else None
        self.similarity = Similarity2d(whitened, templates, groups=similarity_groups, **similarity)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.noise is not None:
            y = self.noise(y)
        return self.similarity(y)

    def folded(self) -> Self:
        """A copy with a plain convolution, without noise, and with the similarity's parameters stored plainly."""
        layer = copy.deepcopy(self)
        if isinstance(layer.conv, NormalisedConv2d):
            layer.conv = layer.conv.folded()  # type: ignore[assignment]
        layer.noise, layer.similarity = None, layer.similarity.folded()
        return layer
