"""Convolution in filter groups, by the project's operator."""

from __future__ import annotations

from torch import Tensor, nn

from simroot import ops


class GroupedConv2d(nn.Conv2d):
    """``nn.Conv2d`` whose filter groups meet ``simroot.ops.grouped_conv2d``: the same results and state dict.

    Arguments, shapes and errors are those of ``nn.Conv2d``, which also serves a single group, dilation, other padding
    modes and padding given as a name.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        plain = self.padding_mode == "zeros" and self.dilation == (1, 1)
        if self.groups == 1 or isinstance(self.padding, str) or not plain:
            return super()._conv_forward(input, weight, bias)
        return ops.grouped_conv2d(input, weight, bias, self.stride, self.padding, self.groups)
