"""The similarity operator: linear and weighted l_p, over vectors and over receptive fields of images."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function

from simroot.errors import ConfigError
from simroot.ops.common import no_autocast, pair, precision, tile_elements, without_branches
from simroot.ops.gpu import has_triton
from simroot.ops.native import has_native
from simroot.ops.similarity.plain import Geometry, plain_lp, quadratic
from simroot.ops.similarity.tiled import direct_lp

Kind = Literal["lp", "linear"]


def similarity(
    x: Tensor,
    templates: Tensor,
    weights: Tensor | None = None,
    *,
    order: float | Tensor = 2.0,
    kind: Kind = "lp",
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    groups: int = 1,
    padding_value: float = 0.0,
) -> Tensor:
    r"""Similarity of every receptive field to every weighted template (Deep SimNets, section 2).

    .. math::
        \text{lp: } y_r = b_r - \sum_i u_{ri} |x_i - z_{ri}|^p \qquad
        \text{linear: } y_r = b_r + \sum_i u_{ri} x_i z_{ri}

    A NaN coordinate of `x` is a missing one and contributes nothing, wherever it comes from; ``padding_value=nan``
    pads with missing coordinates, the default 0 with coordinates of value 0 that are compared like any other.

    At an exact tie x_i = z_ri the term has gradient 0, for every order. Half precision is computed in float32, and so
    is everything under autocast. For p = 2 the square is expanded around the templates' mean into two convolutions,
    and results that cancel in it are recomputed from the differences; any other order, and an order that is being
    learned, goes through the differences in tiles. In neither case does memory grow with rows x templates x
    coordinates, except for second derivatives of orders other than 2.

    Args:
        x: (N, C, H, W) images or (N, C) vectors.
        templates: z, (R, C / groups, kh, kw) for images or (R, C / groups) for vectors.
        weights: u, shaped like `templates`; None means all ones.
        order: p > 0, a number or a tensor of one element, which may require gradient. Not used by ``linear``.
        kind: ``"lp"`` or ``"linear"``.
        bias: b, (R,).
        stride: Step of the receptive field in pixels, an int or (vertical, horizontal). Images only.
        padding: Pixels added on each side, an int or (vertical, horizontal). Images only.
        groups: Parts into which channels and templates are divided; a template sees the channels of its own part.
        padding_value: Value of padded coordinates; NaN means missing.

    Returns:
        (N, R, H', W') with H' = (H + 2 padding - kh) // stride + 1, or (N, R) for vectors.

    Raises:
        ConfigError: If shapes, order, kind, stride, padding or groups do not fit together.
    """
    tensors = (x, templates, weights, order, bias)
    if has_torch_function(tensors):
        return handle_torch_function(
            similarity,
            tensors,
            x,
            templates,
            weights,
            order=order,
            kind=kind,
            bias=bias,
            stride=stride,
            padding=padding,
            groups=groups,
            padding_value=padding_value,
        )
    _check(x, templates, weights, order, kind, bias, groups)
    steps, pad = pair(stride, "stride", 1), pair(padding, "padding", 0)
    vectors = x.ndim == 2
    if vectors:
        if steps != (1, 1) or pad != (0, 0):
            raise ConfigError(f"stride {stride} and padding {padding} need images (N, C, H, W); x is {tuple(x.shape)}")
        # N vectors are one image of N pixels: rows lie along the axis that every kernel is fastest on.
        x = x.t()[None, :, :, None] if len(x) else x[:, :, None, None]
        templates = templates[:, :, None, None]
        weights = None if weights is None else weights[:, :, None, None]
    shape = Geometry((templates.shape[2], templates.shape[3]), steps, groups)
    compute, result = precision(x, templates, weights, bias)
    with no_autocast(x):
        x = x.to(compute)
        if any(pad):
            x = F.pad(x, (pad[1], pad[1], pad[0], pad[0]), value=padding_value)
        if min(shape.output_size(x)) < 1 and x.numel():
            raise ConfigError(
                f"templates of {shape.kernel} do not fit into images of {tuple(x.shape[2:])} (padding included); "
                "use larger images, more padding or smaller templates"
            )
        out = _similarity(
            x,
            templates.to(compute),
            None if weights is None else weights.to(compute),
            order,
            None if bias is None else bias.to(compute),
            kind,
            shape,
            missing=any(pad) and math.isnan(padding_value),
        ).to(result)
    if not vectors:
        return out
    return out.squeeze(3).squeeze(0).t() if len(out) else out[:, :, 0, 0]


def _check(
    x: Tensor,
    templates: Tensor,
    weights: Tensor | None,
    order: float | Tensor,
    kind: Kind,
    bias: Tensor | None,
    groups: int,
) -> None:
    if kind not in ("lp", "linear"):
        raise ConfigError(f"kind is {kind!r}, expected 'lp' or 'linear'")
    if x.ndim not in (2, 4) or templates.ndim != x.ndim:
        raise ConfigError(
            f"x is {tuple(x.shape)} and templates are {tuple(templates.shape)}; expected (N, C, H, W) with "
            "(R, C / groups, kh, kw), or (N, C) with (R, C / groups)"
        )
    if groups < 1 or x.shape[1] % groups or len(templates) % groups:
        raise ConfigError(
            f"groups is {groups}, which must divide the {x.shape[1]} channels of x and the {len(templates)} templates"
        )
    if templates.shape[1] * groups != x.shape[1] or not templates.numel():
        raise ConfigError(
            f"x has {x.shape[1]} channels in {groups} group(s), so templates must be (R, {x.shape[1] // groups}, ...) "
            f"and not empty; got {tuple(templates.shape)}"
        )
    if weights is not None and weights.shape != templates.shape:
        raise ConfigError(
            f"weights are {tuple(weights.shape)}, expected the shape of the templates, {tuple(templates.shape)}"
        )
    if bias is not None and bias.shape != (len(templates),):
        raise ConfigError(f"bias is {tuple(bias.shape)}, expected one value per template, ({len(templates)},)")
    if kind == "linear":
        return
    if isinstance(order, Tensor):
        if order.numel() != 1:
            raise ConfigError(f"order has shape {tuple(order.shape)}, expected a number or a tensor of one element")
    elif not 0 < order < math.inf:
        raise ConfigError(f"order is {order}, expected a positive number")


def _similarity(
    x: Tensor,
    templates: Tensor,
    weights: Tensor | None,
    order: float | Tensor,
    bias: Tensor | None,
    kind: Kind,
    shape: Geometry,
    missing: bool,
) -> Tensor:
    if x.is_meta:
        return x.new_empty((len(x), len(templates), *shape.output_size(x)))
    if kind == "lp" and (has_native(x) or has_triton(x)):
        p, learned = (1.0, order) if isinstance(order, Tensor) else (float(order), None)
        out: Tensor = torch.ops.simroot.lp(x, templates, weights, bias, learned, p, shape.stride, shape.groups)
        return out
    out = _reference(x, templates, weights, order, kind, shape, missing)
    return out if bias is None else out + bias[:, None, None]


def _reference(
    x: Tensor,
    templates: Tensor,
    weights: Tensor | None,
    order: float | Tensor,
    kind: Kind,
    shape: Geometry,
    missing: bool,
) -> Tensor:
    if kind == "linear":
        if missing or without_branches() or _has_nan(x):
            x = x.nan_to_num(0.0, math.inf, -math.inf)
        product = templates if weights is None else weights * templates
        return F.conv2d(x, product, stride=shape.stride, groups=shape.groups)
    if without_branches():
        return plain_lp(x, templates, weights, order, shape)
    learned = isinstance(order, Tensor) and order.requires_grad and torch.is_grad_enabled()
    if isinstance(order, Tensor) and not learned:
        order = order.item()
    if not isinstance(order, Tensor) and order == 2:
        return _checked_quadratic(x, templates, weights, shape, missing)
    return direct_lp(x, templates, weights, order, shape, missing or _has_nan(x))


def _has_nan(x: Tensor) -> bool:
    # A sum is NaN if any summand is, and needs no second tensor as isnan does; inf - inf is a harmless false alarm.
    return bool(x.detach().sum().isnan())


def _checked_quadratic(x: Tensor, templates: Tensor, weights: Tensor | None, shape: Geometry, missing: bool) -> Tensor:
    """`quadratic` with the results that lost more than a few digits to cancellation computed directly."""
    out, squares = quadratic(x, templates, weights, shape, missing)
    if not out.numel():
        return out
    # The rounding error is a few eps of `squares`, hence 5 digits are good in float32 where the margin is negative.
    margin = squares.detach().mul_(torch.finfo(out.dtype).eps ** 0.2).add_(out.detach())
    worst = margin.max().item()
    if worst <= 0:
        return out
    if math.isnan(worst) and not missing and _has_nan(x):
        return _checked_quadratic(x, templates, weights, shape, missing=True)
    cancelled = margin > 0
    if not math.isfinite(worst) or cancelled.sum() > out.numel() // 8:
        return direct_lp(x, templates, weights, 2.0, shape, missing)
    # Only values are corrected: the gradient of the expansion loses no more than eps times the spread of the data.
    with torch.no_grad():
        exact = _entries(x, templates, weights, shape, cancelled.nonzero(as_tuple=True))
        correction = torch.zeros_like(out).masked_scatter_(cancelled, exact - out[cancelled])
    return out + correction


def _entries(
    x: Tensor, templates: Tensor, weights: Tensor | None, shape: Geometry, index: tuple[Tensor, ...]
) -> Tensor:
    """Chosen entries (image, template, row, column) of the l_2 similarity, from the differences."""
    (kh, kw), (sh, sw), groups = shape
    patches = x.unfold(2, kh, sh).unfold(3, kw, sw).unflatten(1, (groups, -1))
    per_group = len(templates) // groups
    found = []
    size = max(1, tile_elements(x.device) // templates[0].numel())
    for n, r, i, j in zip(*(part.split(size) for part in index), strict=True):
        difference = patches[n, r // per_group, :, i, j] - templates[r]
        terms = difference.square().masked_fill(difference.isnan(), 0.0)
        found.append(-(terms if weights is None else terms * weights[r]).sum((1, 2, 3)))
    return torch.cat(found)
