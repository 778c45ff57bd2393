"""MEX over channels plus offsets on a GPU: Triton kernels around a matrix product of exponentials.

With E = exp(beta (x - its peak)) and F = exp(beta (offsets - their peak)), the sum over channels is S = E F^T.
Entries in which it underflows are exact sums over the channels, entries with small exponents go through expm1 and
log1p around the middle. All of it is decided inside the kernels, so that nobody waits for beta or the data, and
infinite betas need no case: the peaks have weight 1 and all else 0. Sums over rows do not depend on which program
ends first. All tensors are float32. Needs Triton, so it is imported only where that is known to be there.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# Tiles of rows, of outputs and of channels: a matrix product needs 16 of each, and no kernel runs out of registers on
# an sm_80.
_ROWS, _OUTPUTS, _CHANNELS = 32, 16, 16
# Rows that one program adds up for the gradient of the offsets, and the elements that the buffer of these sums may
# have; where it would get larger, the programs take more rows.
_SHARE = 512
_BUFFER = 2**22

# Where |beta| times what the sums differ from the middle is below, expm1 and log1p are used.
_SMALL = tl.constexpr(0.5)
# Sums below this times the number of channels may have lost terms that matter: the smallest normal number / eps.
_UNDERFLOW = tl.constexpr(9.8607613e-32)
# In place of -inf, as it gives 0 times 0.
_LOWEST = tl.constexpr(-1e30)


@triton.jit
def _any(chosen: tl.tensor) -> tl.tensor:
    return tl.max(tl.where(chosen, 1, 0)) > 0


@triton.jit
def _weight(distance: tl.tensor, b: tl.tensor) -> tl.tensor:
    """The exponential of b times the distance from the peak, for infinite b too."""
    return tl.where(distance == 0, 1.0, tl.exp(b * distance))


@triton.jit
def _bounds(
    lines: tl.tensor, inside: tl.tensor, channels: int, LINES: tl.constexpr, CHANNELS: tl.constexpr
) -> tuple[tl.tensor, tl.tensor]:
    """Smallest and largest element of each line."""
    low = tl.full((LINES,), float("inf"), tl.float32)
    high = tl.full((LINES,), float("-inf"), tl.float32)
    for start in range(0, channels, CHANNELS):
        c = start + tl.arange(0, CHANNELS)
        known = inside[:, None] & (c < channels)[None, :]
        values = tl.load(lines[:, None] + c[None, :], known, 0.0)
        low = tl.minimum(low, tl.min(tl.where(known, values, float("inf")), 1))
        high = tl.maximum(high, tl.max(tl.where(known, values, float("-inf")), 1))
    return low, high


@triton.jit
def _distances(
    lines: tl.tensor,
    reference: tl.tensor,
    inside: tl.tensor,
    start: int,
    channels: int,
    CHANNELS: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """A tile of lines relative to the reference of each, and where it has elements."""
    c = start + tl.arange(0, CHANNELS)
    known = inside[:, None] & (c < channels)[None, :]
    return tl.where(known, tl.load(lines[:, None] + c[None, :], known, 0.0) - reference[:, None], 0.0), known


@triton.jit
def _expm1_ratio(t: tl.tensor) -> tl.tensor:
    """(e^t - 1) / t for |t| <= 1/2."""
    ratio = 1 / 362880 + t * (1 / 3628800)
    ratio = 1 / 5040 + t * (1 / 40320 + t * ratio)
    ratio = 1 / 120 + t * (1 / 720 + t * ratio)
    return 1 + t * (1 / 2 + t * (1 / 6 + t * (1 / 24 + t * ratio)))


@triton.jit
def _log1p_ratio(t: tl.tensor) -> tl.tensor:
    """log(1 + t) / t for e^(-1/2) <= 1 + t <= e^(1/2), as 2 atanh(t / (2 + t)) / t."""
    q = t / (2 + t)
    q = q * q
    return (1 + q * (1 / 3 + q * (1 / 5 + q * (1 / 7 + q * (1 / 9 + q * (1 / 11)))))) * 2 / (2 + t)


@triton.jit
def _divergence_ratio(t: tl.tensor) -> tl.tensor:
    """(e^t (t - 1) + 1) / t^2 for |t| <= 1: the sum of t^k / (k! (k + 2))."""
    ratio = 1 / 403200 + t * (1 / 3991680)
    ratio = 1 / 5760 + t * (1 / 45360 + t * ratio)
    ratio = 1 / 144 + t * (1 / 840 + t * ratio)
    return 1 / 2 + t * (1 / 3 + t * (1 / 8 + t * (1 / 30 + t * ratio)))


@triton.jit
def _around_middle(
    x: tl.tensor,
    offsets: tl.tensor,
    x_middle: tl.tensor,
    o_middle: tl.tensor,
    inside: tl.tensor,
    known: tl.tensor,
    channels: int,
    b: tl.tensor,
    ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    CHANNELS: tl.constexpr,
) -> tl.tensor:
    """MEX minus the middles, where it is small: log1p(b v) / b with C v = sum A + sum W + b A W^T.

    A = expm1(b x) / b and W = expm1(b offsets) / b.
    """
    total = tl.zeros((ROWS, OUTPUTS), tl.float32)
    for start in range(0, channels, CHANNELS):
        first, _ = _distances(x, x_middle, inside, start, channels, CHANNELS)
        second, _ = _distances(offsets, o_middle, known, start, channels, CHANNELS)
        first *= _expm1_ratio(b * first)
        second *= _expm1_ratio(b * second)
        total += tl.sum(first, 1)[:, None] + tl.sum(second, 1)[None, :]
        total = tl.dot(b * first, tl.trans(second), total, input_precision="ieee")
    v = total / channels
    return v * _log1p_ratio(b * v)


@triton.jit
def _products(
    x: tl.tensor,
    offsets: tl.tensor,
    x_peak: tl.tensor,
    o_peak: tl.tensor,
    inside: tl.tensor,
    known: tl.tensor,
    channels: int,
    b: tl.tensor,
    ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    CHANNELS: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """The sums of weights, relative to both peaks, and of weights times exponents."""
    sums = tl.zeros((ROWS, OUTPUTS), tl.float32)
    exponents = tl.zeros((ROWS, OUTPUTS), tl.float32)
    for start in range(0, channels, CHANNELS):
        first, in_first = _distances(x, x_peak, inside, start, channels, CHANNELS)
        second, in_second = _distances(offsets, o_peak, known, start, channels, CHANNELS)
        e = tl.where(in_first, _weight(first, b), 0.0)
        f = tl.trans(tl.where(in_second, _weight(second, b), 0.0))
        sums = tl.dot(e, f, sums, input_precision="ieee")
        exponents = tl.dot(e * tl.maximum(b * first, _LOWEST), f, exponents, input_precision="ieee")
        exponents = tl.dot(e, f * tl.trans(tl.maximum(b * second, _LOWEST)), exponents, input_precision="ieee")
    return sums, exponents


@triton.jit
def _exact_sums(
    x: tl.tensor,
    offsets: tl.tensor,
    inside: tl.tensor,
    known: tl.tensor,
    channels: int,
    b: tl.tensor,
    ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """The peak of x plus offsets, and the sums of weights and of weights times exponents relative to it."""
    sign = tl.where(b >= 0, 1.0, -1.0)
    top = tl.full((ROWS, OUTPUTS), float("-inf"), tl.float32)
    for c in range(channels):
        terms = tl.load(x + c, inside, 0.0)[:, None] + tl.load(offsets + c, known, 0.0)[None, :]
        top = tl.maximum(top, sign * terms)
    top *= sign
    sums = tl.zeros((ROWS, OUTPUTS), tl.float32)
    exponents = tl.zeros((ROWS, OUTPUTS), tl.float32)
    for c in range(channels):
        distance = tl.load(x + c, inside, 0.0)[:, None] + tl.load(offsets + c, known, 0.0)[None, :] - top
        weight = _weight(distance, b)
        sums += weight
        exponents += weight * tl.maximum(b * distance, _LOWEST)
    return top, sums, exponents


@triton.jit
def _entry_kernel(
    x: tl.tensor,
    offsets: tl.tensor,
    beta: tl.tensor,
    out: tl.tensor,  # (rows, outputs): MEX or, for gradients, the sums of weights: minus the sum if it is exact
    tops: tl.tensor,  # (rows, outputs): the peaks of exact sums
    x_peaks: tl.tensor,  # (rows,)
    o_peaks: tl.tensor,  # (outputs,)
    grad: tl.tensor,
    dbeta: tl.tensor,  # a sum for each program
    rows: int,
    outputs: int,
    channels: int,
    GRADIENTS: tl.constexpr,
    LEARNED: tl.constexpr,
    ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    CHANNELS: tl.constexpr,
) -> None:
    """MEX of a tile of entries or, for gradients, what `_gradient_kernel` needs and the gradient of beta."""
    b = tl.load(beta)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    output = tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)
    inside, known = row < rows, output < outputs
    both = inside[:, None] & known[None, :]
    place = row.to(tl.int64)[:, None] * outputs + output[None, :]
    x += row.to(tl.int64) * channels
    offsets += output.to(tl.int64) * channels
    x_low, x_high = _bounds(x, inside, channels, ROWS, CHANNELS)
    o_low, o_high = _bounds(offsets, known, channels, OUTPUTS, CHANNELS)
    x_peak, o_peak = tl.where(b >= 0, x_high, x_low), tl.where(b >= 0, o_high, o_low)
    x_middle, o_middle = x_low / 2 + x_high / 2, o_low / 2 + o_high / 2
    deviation = (x_high / 2 - x_low / 2)[:, None] + (o_high / 2 - o_low / 2)[None, :]
    small = both & (tl.abs(b) * deviation <= _SMALL)

    centred = tl.zeros((ROWS, OUTPUTS), tl.float32)
    if _any(small):
        centred = _around_middle(
            x, offsets, x_middle, o_middle, inside, known, channels, b, ROWS, OUTPUTS, CHANNELS
        )  # fmt: skip
    sums, exponents = centred, centred
    if GRADIENTS or _any(both & ~small):
        sums, exponents = _products(
            x, offsets, x_peak, o_peak, inside, known, channels, b, ROWS, OUTPUTS, CHANNELS
        )  # fmt: skip
    top = x_peak[:, None] + o_peak[None, :]
    lost = both & ~small & (sums < channels * _UNDERFLOW)
    if _any(lost):
        exact_top, exact_sums, exact_exponents = _exact_sums(x, offsets, inside, known, channels, b, ROWS, OUTPUTS)
        top = tl.where(lost, exact_top, top)
        sums = tl.where(lost, exact_sums, sums)
        exponents = tl.where(lost, exact_exponents, exponents)
    logs = tl.log(tl.where(small, 1.0, sums / channels))

    if GRADIENTS:
        tl.store(out + place, tl.where(lost, -sums, sums), both)
        tl.store(tops + place, top, both)
        tl.store(x_peaks + row, x_peak, inside & (tl.program_id(1) == 0))
        tl.store(o_peaks + output, o_peak, known & (tl.program_id(0) == 0))
        if LEARNED:
            slope = tl.where(tl.abs(b) < float("inf"), (exponents / sums - logs) / b / b, 0.0)
            if _any(small):
                series = tl.zeros((ROWS, OUTPUTS), tl.float32)
                for c in range(channels):
                    first = tl.load(x + c, inside, 0.0) - x_middle
                    second = tl.load(offsets + c, known, 0.0) - o_middle
                    w = first[:, None] + second[None, :] - centred
                    series += w * w * _divergence_ratio(b * w)
                slope = tl.where(small, series / channels, slope)
            g = tl.load(grad + place, both, 0.0)
            part = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
            tl.store(dbeta + part, tl.sum(tl.where(both, g * slope, 0.0)))
    else:
        middle = x_middle[:, None] + o_middle[None, :] + centred
        tl.store(out + place, tl.where(small, middle, top + logs / b), both)


@triton.jit
def _gradient_kernel(
    first: tl.tensor,  # (lines, channels): x or offsets, whose gradient this is
    second: tl.tensor,  # (others, channels): the other of the two
    first_peaks: tl.tensor,
    second_peaks: tl.tensor,
    sums: tl.tensor,
    tops: tl.tensor,
    grad: tl.tensor,
    beta: tl.tensor,
    out: tl.tensor,  # (parts, lines, channels)
    lines: int,
    others: int,
    share: int,  # others of a program, a multiple of OTHERS
    channels: int,
    line_stride: int,  # of sums, tops and grad
    other_stride: int,
    LINES: tl.constexpr,
    OTHERS: tl.constexpr,
    CHANNELS: tl.constexpr,
) -> None:
    """E ((g / S) F) and, entry by entry, the probabilities of exact sums."""
    b = tl.load(beta)
    line = (tl.program_id(0) * LINES + tl.arange(0, LINES)).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    part = tl.program_id(2)
    inside, exists = line < lines, channel < channels
    both = inside[:, None] & exists[None, :]
    place = line[:, None] * channels + channel[None, :]
    values = tl.load(first + place, both, 0.0)
    total = tl.zeros((LINES, CHANNELS), tl.float32)
    exact = tl.zeros((LINES, CHANNELS), tl.float32)
    last = tl.minimum(others, (part + 1) * share)
    for start in range(part * share, last, OTHERS):
        other = start + tl.arange(0, OTHERS).to(tl.int64)
        known = other < last
        entry = line[:, None] * line_stride + other[None, :] * other_stride
        chosen = inside[:, None] & known[None, :]
        s = tl.load(sums + entry, chosen, 1.0)
        ratio = tl.where(s < 0, 0.0, tl.load(grad + entry, chosen, 0.0) / s)
        present = known[:, None] & exists[None, :]
        f = tl.load(second + other[:, None] * channels + channel[None, :], present, 0.0)
        f = tl.where(present, _weight(f - tl.load(second_peaks + other, known, 0.0)[:, None], b), 0.0)
        total = tl.dot(ratio, f, total, input_precision="ieee")
        if _any(s < 0):
            for o in range(start, tl.minimum(start + OTHERS, last)):
                one = line * line_stride + tl.cast(o, tl.int64) * other_stride
                s_one = tl.load(sums + one, inside, 1.0)
                here = s_one < 0
                scale = tl.where(here, tl.load(grad + one, inside, 0.0) / -s_one, 0.0)
                terms = values + tl.load(second + tl.cast(o, tl.int64) * channels + channel, exists, 0.0)[None, :]
                distance = tl.where(here[:, None], terms - tl.load(tops + one, here, 0.0)[:, None], 0.0)
                exact += scale[:, None] * _weight(distance, b)
    weight = _weight(values - tl.load(first_peaks + line, inside, 0.0)[:, None], b)
    tl.store(out + tl.cast(part, tl.int64) * lines * channels + place, weight * total + exact, both)


def forward(x: Tensor, offsets: Tensor, beta: Tensor) -> Tensor:
    """MEX of x_c + b_rc over c: (rows, C), (R, C) and a tensor of no dimension -> (rows, R)."""
    out = x.new_empty((len(x), len(offsets)))
    if out.numel():
        _launch_entries(x.contiguous(), offsets.contiguous(), beta.to(x), out)
    return out


def backward(
    grad: Tensor, x: Tensor, offsets: Tensor, beta: Tensor, beta_needed: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, offsets and beta, which is 0 if it is not needed."""
    if not grad.numel():
        return x.new_zeros(x.shape), offsets.new_zeros(offsets.shape), torch.zeros_like(beta)
    grad, x, offsets, b = grad.contiguous(), x.contiguous(), offsets.contiguous(), beta.to(x)
    sums, tops = torch.empty_like(grad), torch.empty_like(grad)
    x_peaks, o_peaks = x.new_empty(len(x)), x.new_empty(len(offsets))
    dbeta = _launch_entries(x, offsets, b, sums, tops, x_peaks, o_peaks, grad, beta_needed)
    parts = max(1, min(triton.cdiv(len(x), _SHARE), _BUFFER // offsets.numel()))
    entries = (sums, tops, grad)
    dx = _launch_gradient(x, offsets, x_peaks, o_peaks, entries, b, 1, (_ROWS, _OUTPUTS))
    entries = (sums.t(), tops.t(), grad.t())
    doffsets = _launch_gradient(offsets, x, o_peaks, x_peaks, entries, b, parts, (_OUTPUTS, _ROWS))
    return dx, doffsets, dbeta.sum(dtype=torch.float64).to(beta)


def _launch_entries(
    x: Tensor,
    offsets: Tensor,
    beta: Tensor,
    out: Tensor,
    tops: Tensor | None = None,
    x_peaks: Tensor | None = None,
    o_peaks: Tensor | None = None,
    grad: Tensor | None = None,
    learned: bool = False,
) -> Tensor:
    """Fills `out` and, for a given gradient, `tops` and the peaks; the gradient of beta in parts."""
    (rows, channels), outputs = x.shape, len(offsets)
    grid = triton.cdiv(rows, _ROWS), triton.cdiv(outputs, _OUTPUTS)
    dbeta = x.new_zeros(grid)
    _entry_kernel[grid](
        x, offsets, beta, out, tops, x_peaks, o_peaks, grad, dbeta, rows, outputs, channels,
        GRADIENTS=grad is not None, LEARNED=learned, ROWS=_ROWS, OUTPUTS=_OUTPUTS, CHANNELS=_CHANNELS,
    )  # fmt: skip
    return dbeta


def _launch_gradient(
    first: Tensor,
    second: Tensor,
    first_peaks: Tensor,
    second_peaks: Tensor,
    entries: tuple[Tensor, Tensor, Tensor],
    beta: Tensor,
    parts: int,
    tile: tuple[int, int],
) -> Tensor:
    """The gradient of the first, as a sum over the lines of the second in so many parts."""
    (lines, channels), others = first.shape, len(second)
    out = first.new_empty((parts, lines, channels))
    share = triton.cdiv(triton.cdiv(others, parts), tile[1]) * tile[1]
    _gradient_kernel[triton.cdiv(lines, tile[0]), triton.cdiv(channels, _CHANNELS), parts](
        first, second, first_peaks, second_peaks, *entries, beta, out, lines, others, share, channels,
        *entries[0].stride(), LINES=tile[0], OTHERS=tile[1], CHANNELS=_CHANNELS,
    )  # fmt: skip
    return out[0] if parts == 1 else out.sum(0, dtype=torch.float64).to(first.dtype)
