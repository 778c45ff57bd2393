"""How far an operator may be from its float64 reference, and why.

Errors are measured relative to the scale that the operator's rounding has: for a similarity the sum of the absolute
terms, for MEX the largest absolute value that enters.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Tolerance(NamedTuple):
    relative: float
    reason: str


TOLERANCES: dict[tuple[str, torch.dtype], Tolerance] = {
    ("similarity", torch.float64): Tolerance(1e-12, "sums of some hundred terms in double precision"),
    ("similarity", torch.float32): Tolerance(1e-5, "exp2(p log2 |d|) and the expanded square lose a digit and a half"),
    ("similarity", torch.bfloat16): Tolerance(8e-3, "computed in float32, the result rounded to 8 bits"),
    ("similarity", torch.float16): Tolerance(1e-3, "computed in float32, the result rounded to 11 bits"),
    ("similarity.gradient", torch.float64): Tolerance(1e-11, "as the similarity, summed over rows as well"),
    ("similarity.gradient", torch.float32): Tolerance(3e-5, "slopes |d|^(p-1) by a division, summed over rows"),
    ("mex", torch.float64): Tolerance(1e-14, "one exp, one log and a mean"),
    ("mex", torch.float32): Tolerance(1e-6, "one exp, one log and a mean of some hundred terms"),
    ("mex", torch.bfloat16): Tolerance(8e-3, "computed in float32, the result rounded to 8 bits"),
    ("mex", torch.float16): Tolerance(1e-3, "computed in float32, the result rounded to 11 bits"),
    ("mex.gradient", torch.float64): Tolerance(1e-10, "probabilities, and the difference of entropies for beta"),
    ("mex.gradient", torch.float32): Tolerance(2e-5, "exponents of some hundreds have an error of 1e-5"),
    ("mex_dense", torch.float64): Tolerance(1e-13, "a matrix product of exponentials"),
    ("mex_dense", torch.float32): Tolerance(2e-6, "a matrix product of exponentials"),
    ("mex_dense", torch.bfloat16): Tolerance(8e-3, "computed in float32, the result rounded to 8 bits"),
    ("mex_dense", torch.float16): Tolerance(1e-3, "computed in float32, the result rounded to 11 bits"),
    ("mex_dense.gradient", torch.float64): Tolerance(
        1e-7, "near 0 the slope of beta is a small difference, or half the variance"
    ),
    ("mex_dense.gradient", torch.float32): Tolerance(5e-5, "exponents of some hundreds have an error of 1e-5"),
    ("batch_norm_act", torch.float64): Tolerance(1e-12, "sums over some thousand rows"),
    ("batch_norm_act", torch.float32): Tolerance(5e-6, "x - mean loses a digit where the mean is large"),
    ("batch_norm_act.gradient", torch.float64): Tolerance(1e-11, "differences of sums over some thousand rows"),
    ("batch_norm_act.gradient", torch.float32): Tolerance(2e-5, "differences of sums over some thousand rows"),
    ("narrow_conv2d", torch.float64): Tolerance(1e-12, "sums over some thousand rows"),
    ("narrow_conv2d", torch.float32): Tolerance(5e-6, "a normalisation, and a sum of some hundred products"),
    ("narrow_conv2d.gradient", torch.float64): Tolerance(1e-11, "sums over some thousand rows"),
    ("narrow_conv2d.gradient", torch.float32): Tolerance(2e-5, "sums over some thousand rows, in parts"),
    ("grouped_conv2d", torch.float64): Tolerance(1e-13, "a sum of some hundred products"),
    ("grouped_conv2d", torch.float32): Tolerance(3e-6, "a sum of some hundred products, one after the other"),
    ("grouped_conv2d.gradient", torch.float64): Tolerance(1e-13, "sums of some thousand products"),
    ("grouped_conv2d.gradient", torch.float32): Tolerance(5e-6, "sums of some thousand products, in parts"),
}


def error(actual: Tensor, expected: object, scale: object = None) -> float:
    """Largest |actual - expected| / scale; scale defaults to the largest |expected|."""
    exact = torch.as_tensor(expected, dtype=torch.float64)
    if actual.shape != exact.shape:
        raise AssertionError(f"shape {tuple(actual.shape)}, expected {tuple(exact.shape)}")
    if not exact.numel():
        return 0.0
    by = exact.detach().abs().max() if scale is None else torch.as_tensor(scale, dtype=torch.float64)
    difference = (actual.detach().double() - exact.detach()).abs() / by.clamp(min=1e-300)
    return float(difference.nan_to_num(float("inf"), float("inf")).max())


def assert_close(operator: str, actual: Tensor, expected: object, scale: object = None) -> None:
    """`actual` against a float64 reference, by the table."""
    limit = TOLERANCES[operator, actual.dtype]
    found = error(actual, expected, scale)
    assert found <= limit.relative, f"{operator} is off by {found:.2g}, allowed {limit.relative:.2g}: {limit.reason}"
