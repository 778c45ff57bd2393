"""Muon: momentum whose steps are orthogonal matrices (Jordan et al. 2024). PyTorch's own takes no filters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

# Newton-Schulz: five times x -> a x + (b y + c y^2) x with y = x x^T brings all singular values near 1.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_TIMES = 5


class Muon(torch.optim.Optimizer):
    """Orthogonal steps for parameters of at least two dimensions, those of SGD with Nesterov's momentum for the others.

    With gradient g, momentum m, rate r and decay d: b <- m b + g, u = g + m b, w <- w - r (d w + s(u)). For a
    parameter of one dimension s(u) = u. Others are matrices, a row for each output; s(u) is the orthogonal matrix
    nearest to u, almost, times the square root of rows / columns if that is above 1.

    Args:
        params: parameters or groups of them.
        lr: rate r.
        momentum: m.
        weight_decay: d.
    """

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)
        return loss

    def _move(self, parameter: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> None:
        state, rate, momentum = self.state[parameter], group["lr"], group["momentum"]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer = state["momentum_buffer"].mul_(momentum).add_(gradient)
        step = gradient.add(buffer, alpha=momentum)
        if parameter.ndim >= 2:
            step = _orthogonal(step.flatten(1)).view(step.shape)
        parameter.mul_(1 - rate * group["weight_decay"]).sub_(step, alpha=rate)


def _orthogonal(matrix: Tensor) -> Tensor:
    """Singular values near 1, times the square root of rows / columns if that is above 1."""
    a, b, c = _COEFFICIENTS
    rows, columns = matrix.shape
    x = matrix.T if rows > columns else matrix
    x = x / x.norm().clamp_min(1e-7)
    for _ in range(_TIMES):
        y = x @ x.T
        x = a * x + (b * y + c * (y @ y)) @ x
    return (x.T if rows > columns else x) * max(1.0, rows / columns) ** 0.5
