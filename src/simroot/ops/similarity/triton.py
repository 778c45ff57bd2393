"""The l_p similarity on a GPU: Triton kernels that keep tiles of differences in registers.

A tile is two of rows, templates and coordinates, and a loop runs over the third, so no tensor of all three exists.
Sums over rows are made by many programs, each of which writes its part to a buffer: the result does not depend on
which of them ends first. All tensors are float32, images are channels-last, and NaN coordinates of images are missing.
Needs Triton, so it is imported only where that is known to be there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from simroot.ops.similarity.operator import empty_gradients, empty_output

# The side of a tile, such that all fits into the registers of an sm_80, but for a few when an order is learned.
_TILE = 32
# Rows that one program adds up for the gradients of the parameters, in chunks, and the elements that the buffer of
# these sums may have; where it would get larger, the programs take more rows.
_SHARE = 256
_CHUNK = 64
_BUFFER = 2**22


@triton.jit
def _raised(difference: tl.tensor, p: float, ORDER: tl.constexpr) -> tl.tensor:
    """|difference|^p; ORDER is p if that is 1 or 2, else 0."""
    if ORDER == 2:
        raised = difference * difference
    elif ORDER == 1:
        raised = tl.abs(difference)
    else:
        # log2 0 = -inf gives exp2(-inf) = 0.
        raised = tl.exp2(p * tl.log2(tl.abs(difference)))
    return raised


@triton.jit
def _slope(difference: tl.tensor, p: float, ORDER: tl.constexpr) -> tl.tensor:
    """sign(difference) |difference|^(p-1), 0 where the difference is 0."""
    if ORDER == 2:
        slope = difference
    elif ORDER == 1:
        slope = tl.where(difference > 0, 1.0, tl.where(difference < 0, -1.0, difference))
    else:
        # Below the smallest normal number, which GPUs may take for 0, the division could overflow for p < 1.
        tie = tl.abs(difference) < 1.1754944e-38
        slope = tl.where(tie, 0.0, _raised(difference, p, ORDER) / tl.where(tie, 1.0, difference))
    return slope


@triton.jit
def _forward_kernel(
    x: tl.tensor,
    z: tl.tensor,  # (groups, kh, kw, channels, templates), as u
    u: tl.tensor,
    b: tl.tensor,
    out: tl.tensor,
    p: float,
    rows: int,
    channels: int,  # of a group, as templates
    templates: int,
    height: int,
    width: int,
    out_height: int,
    out_width: int,
    KH: tl.constexpr,
    KW: tl.constexpr,
    SH: tl.constexpr,
    SW: tl.constexpr,
    ORDER: tl.constexpr,
    WEIGHTED: tl.constexpr,
    BIASED: tl.constexpr,
    ROWS: tl.constexpr,
    TEMPLATES: tl.constexpr,
) -> None:
    group, groups = tl.program_id(2), tl.num_programs(2)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    template = tl.program_id(1) * TEMPLATES + tl.arange(0, TEMPLATES)
    inside, known = row < rows, template < templates
    w = row % out_width
    h = row // out_width % out_height
    # Pixels are counted with 32 bits, elements with 64.
    corner = (row // (out_width * out_height) * height + h * SH) * width + w * SW
    total = tl.zeros((ROWS, TEMPLATES), tl.float32)
    for i in range(KH):
        for j in range(KW):
            pixel = x + (corner + i * width + j).to(tl.int64) * (groups * channels) + group * channels
            first = ((group * KH + i) * KW + j) * channels * templates + template
            for c in range(channels):
                column = tl.load(pixel + c, inside, 0.0)[:, None]
                difference = column - tl.load(z + first + c * templates, known, 0.0)[None, :]
                terms = _raised(tl.where(column == column, difference, 0.0), p, ORDER)
                if WEIGHTED:
                    terms *= tl.load(u + first + c * templates, known, 0.0)[None, :]
                total -= terms
    template += group * templates
    if BIASED:
        total += tl.load(b + template, known, 0.0)[None, :]
    place = row.to(tl.int64)[:, None] * (groups * templates) + template[None, :]
    tl.store(out + place, total, inside[:, None] & known[None, :])


@triton.jit
def _input_kernel(
    x: tl.tensor,
    z: tl.tensor,  # (groups, kh, kw, templates, channels), as u
    u: tl.tensor,
    grad: tl.tensor,
    dx: tl.tensor,
    p: float,
    pixels: int,  # of all images
    channels: int,  # of a group, as templates
    templates: int,
    height: int,
    width: int,
    out_height: int,
    out_width: int,
    KH: tl.constexpr,
    KW: tl.constexpr,
    SH: tl.constexpr,
    SW: tl.constexpr,
    ORDER: tl.constexpr,
    WEIGHTED: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
) -> None:
    """dx = -p sum_r g u sign(x-z) |x-z|^(p-1) over every receptive field that a pixel is in."""
    group, groups = tl.program_id(2), tl.num_programs(2)
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside, known = pixel < pixels, channel < channels
    both = inside[:, None] & known[None, :]
    w = pixel % width
    h = pixel // width % height
    n = pixel // (width * height)
    place = pixel.to(tl.int64)[:, None] * (groups * channels) + (group * channels + channel)[None, :]
    value = tl.load(x + place, both, 0.0)
    total = tl.zeros((PIXELS, CHANNELS), tl.float32)
    for i in range(KH):
        for j in range(KW):
            top, left = h - i, w - j
            fits = inside & (top >= 0) & (left >= 0) & (top % SH == 0) & (left % SW == 0)
            fits = fits & (top // SH < out_height) & (left // SW < out_width)
            row = (n * out_height + top // SH) * out_width + left // SW
            field = grad + row.to(tl.int64) * (groups * templates) + group * templates
            first = ((group * KH + i) * KW + j) * templates * channels + channel
            for r in range(templates):
                g = tl.load(field + r, fits, 0.0)
                slope = _slope(value - tl.load(z + first + r * channels, known, 0.0)[None, :], p, ORDER)
                if WEIGHTED:
                    slope *= tl.load(u + first + r * channels, known, 0.0)[None, :]
                total += g[:, None] * slope
    tl.store(dx + place, tl.where(value == value, -p * total, 0.0), both)


@triton.jit
def _parameter_kernel(
    x: tl.tensor,
    z: tl.tensor,  # (templates of all groups, kh, kw, channels)
    grad: tl.tensor,
    sums: tl.tensor,  # (3, parts, templates of all groups, kh, kw, channels)
    p: float,
    rows: int,
    share: int,  # rows of a program, a multiple of CHUNK
    channels: int,  # of a group, as templates
    templates: int,
    height: int,
    width: int,
    out_height: int,
    out_width: int,
    KH: tl.constexpr,
    KW: tl.constexpr,
    SH: tl.constexpr,
    SW: tl.constexpr,
    ORDER: tl.constexpr,
    LEARNED: tl.constexpr,
    TEMPLATES: tl.constexpr,
    COORDINATES: tl.constexpr,
    CHUNK: tl.constexpr,
) -> None:
    """Sums over rows of g s, g s (x-z) and, for a learned order, g s (x-z) log2|x-z|; s is the slope."""
    part, group = tl.program_id(0), tl.program_id(2)
    parts, groups = tl.num_programs(0), tl.num_programs(2)
    coordinates = channels * KH * KW
    blocks = tl.cdiv(coordinates, COORDINATES)
    template = tl.program_id(1) // blocks * TEMPLATES + tl.arange(0, TEMPLATES)
    coordinate = tl.program_id(1) % blocks * COORDINATES + tl.arange(0, COORDINATES)
    known, exists = template < templates, coordinate < coordinates
    both = known[:, None] & exists[None, :]
    template += group * templates
    place = template[:, None] * coordinates + coordinate[None, :]
    values = tl.load(z + place, both, 0.0)
    position = coordinate // channels
    offset = position // KW * width + position % KW
    first = tl.zeros((TEMPLATES, COORDINATES), tl.float32)
    second, third = first, first
    last = tl.minimum(rows, (part + 1) * share)
    for start in range(part * share, last, CHUNK):
        # Sums of sums round less than one long sum.
        some = tl.zeros((TEMPLATES, COORDINATES), tl.float32)
        more, most = some, some
        for row in range(start, tl.minimum(start + CHUNK, last)):
            w = row % out_width
            h = row // out_width % out_height
            corner = (row // (out_width * out_height) * height + h * SH) * width + w * SW
            element = (corner + offset).to(tl.int64) * (groups * channels) + group * channels + coordinate % channels
            column = tl.load(x + element, exists, 0.0)[None, :]
            g = tl.load(grad + tl.cast(row, tl.int64) * (groups * templates) + template, known, 0.0)
            difference = tl.where(column == column, column - values, 0.0)
            slope = g[:, None] * _slope(difference, p, ORDER)
            some += slope
            more += slope * difference
            if LEARNED:
                # log2 0 is cut off at a value that times 0 is 0.
                most += slope * difference * tl.maximum(tl.log2(tl.abs(difference)), -1e30)
        first += some
        second += more
        third += most
    size = groups * templates * coordinates
    tl.store(sums + part.to(tl.int64) * size + place, first, both)
    tl.store(sums + (parts + part).to(tl.int64) * size + place, second, both)
    if LEARNED:
        tl.store(sums + (2 * parts + part).to(tl.int64) * size + place, third, both)


def forward(
    x: Tensor,
    templates: Tensor,
    weights: Tensor | None,
    bias: Tensor | None,
    p: float,
    stride: Sequence[int],
    groups: int,
) -> Tensor:
    """b_r - sum_i u_ri |x_i - z_ri|^p, (N, R, H', W')."""
    out = empty_output(x, templates, stride)
    if not out.numel():
        return out
    x = x.contiguous(memory_format=torch.channels_last)
    z, u = (_packed(item, groups, (0, 3, 4, 2, 1)) for item in (templates, weights))
    rows, per_group = out[:, 0].numel(), len(templates) // groups
    block, tile = _block(rows), _block(per_group)
    _forward_kernel[triton.cdiv(rows, block), triton.cdiv(per_group, tile), groups](
        x, z, u, bias, out, p, rows, templates.shape[1], per_group, *x.shape[2:], *out.shape[2:],
        **_constants(templates, stride, p), WEIGHTED=weights is not None, BIASED=bias is not None,
        ROWS=block, TEMPLATES=tile,
    )  # fmt: skip
    return out


def backward(
    grad: Tensor,
    x: Tensor,
    templates: Tensor,
    weights: Tensor | None,
    order: Tensor | None,
    p: float,
    stride: Sequence[int],
    groups: int,
    needed: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, templates, weights, bias and order; those that are not needed are empty."""
    found = empty_gradients(x, templates, weights, order, needed)
    dx, dz, du, db, dp = found
    x, grad = (item.contiguous(memory_format=torch.channels_last) for item in (x, grad))
    if needed[0]:
        _input_gradient(dx, grad, x, templates, weights, p, stride, groups)
    if needed[1] or needed[2] or needed[4]:
        slopes, powers, logs = _parameter_sums(grad, x, templates, p, stride, groups, learned=needed[4])
        u = torch.ones_like(slopes) if weights is None else weights.double()
        if needed[1]:
            dz.copy_(slopes * u * p)
        if needed[2] and weights is not None:
            du.copy_(-powers)
        if needed[4]:
            dp.copy_(-math.log(2) * (logs * u).sum())
    if needed[3]:
        db.copy_(grad.sum((0, 2, 3), dtype=torch.float64))
    return found


def _input_gradient(
    dx: Tensor,
    grad: Tensor,
    x: Tensor,
    templates: Tensor,
    weights: Tensor | None,
    p: float,
    stride: Sequence[int],
    groups: int,
) -> None:
    if not x.numel():
        return
    z, u = (_packed(item, groups, (0, 3, 4, 1, 2)) for item in (templates, weights))
    pixels, channels = x[:, 0].numel(), templates.shape[1]
    block, tile = _block(pixels), _block(channels)
    _input_kernel[triton.cdiv(pixels, block), triton.cdiv(channels, tile), groups](
        x, z, u, grad, dx, p, pixels, channels, len(templates) // groups, *x.shape[2:], *grad.shape[2:],
        **_constants(templates, stride, p), WEIGHTED=weights is not None, PIXELS=block, CHANNELS=tile,
    )  # fmt: skip


def _parameter_sums(
    grad: Tensor, x: Tensor, templates: Tensor, p: float, stride: Sequence[int], groups: int, learned: bool
) -> Tensor:
    """What `_parameter_kernel` sums, (3, R, C / groups, kh, kw) in float64; the third is 0 if it is not learned."""
    rows, per_group, coordinates = grad[:, 0].numel(), len(templates) // groups, templates[0].numel()
    parts = max(1, min(triton.cdiv(rows, _SHARE), _BUFFER // (3 * templates.numel())))
    z = templates.permute(0, 2, 3, 1).contiguous()
    sums = x.new_zeros((3, parts, *z.shape))
    if rows:
        tiles = _block(per_group), _block(coordinates)
        share = triton.cdiv(triton.cdiv(rows, parts), _CHUNK) * _CHUNK
        blocks = triton.cdiv(per_group, tiles[0]) * triton.cdiv(coordinates, tiles[1])
        _parameter_kernel[parts, blocks, groups](
            x, z, grad, sums, p, rows, share, templates.shape[1], per_group, *x.shape[2:], *grad.shape[2:],
            **_constants(templates, stride, p), LEARNED=learned, TEMPLATES=tiles[0], COORDINATES=tiles[1], CHUNK=_CHUNK,
        )  # fmt: skip
    return sums.sum(1, dtype=torch.float64).permute(0, 1, 4, 2, 3)


def _constants(templates: Tensor, stride: Sequence[int], p: float) -> dict[str, int]:
    """What kernels are compiled for: receptive fields of 1x1 have no loops, p = 1 and 2 no exponentials."""
    order = int(p) if p in (1, 2) else 0
    return {"KH": templates.shape[2], "KW": templates.shape[3], "SH": stride[0], "SW": stride[1], "ORDER": order}


def _packed(parameter: Tensor | None, groups: int, dims: Sequence[int]) -> Tensor | None:
    return None if parameter is None else parameter.unflatten(0, (groups, -1)).permute(dims).contiguous()


def _block(size: int) -> int:
    block: int = min(_TILE, triton.next_power_of_2(size))
    return block
