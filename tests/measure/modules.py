"""A module for tests of the counter."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Lambda(nn.Module):
    """A module that calls a function."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)
