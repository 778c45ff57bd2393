"""The formulas of PyTorch's own operators, against counts by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from measure.modules import Lambda
from simroot.layers import GlobalMexPool2d
from simroot.measure import count

X = 2 * 6 * 6  # elements of the example


def flops(function: Any) -> int:
    return count(Lambda(function), (2, 6, 6)).flops


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        pytest.param(function, expected, id=name)
        for name, function, expected in [
            ("add", lambda x: x + 1, X),
            ("add in place", lambda x: x.add_(1), X),
            ("broadcast", lambda x: x * torch.ones(5, 1, 1, 1), 5 * X),
            ("relu", F.relu, X),
            ("relu6", F.relu6, 2 * X),
            ("clamp one side", lambda x: x.clamp(min=0), X),
            ("clamp both sides", lambda x: x.clamp(0, 1), 2 * X),
            ("leaky relu", F.leaky_relu, 2 * X),
            ("hardswish", F.hardswish, 5 * X),
            ("hardsigmoid", F.hardsigmoid, 4 * X),
            ("exp", torch.exp, 10 * X),
            ("sigmoid", torch.sigmoid, 13 * X),
            ("tanh", torch.tanh, 14 * X),
            ("silu", F.silu, 14 * X),
            ("gelu", F.gelu, 14 * X),
            ("gelu by tanh", lambda x: F.gelu(x, approximate="tanh"), 22 * X),
            ("softplus", F.softplus, 21 * X),
            ("mish", F.mish, 36 * X),
            ("softmax", lambda x: x.softmax(1), 14 * X),
            ("log softmax", lambda x: x.log_softmax(1), 14 * X + 10 * X // 2),
            ("logsumexp", lambda x: x.logsumexp(1), 13 * X + 11 * X // 2),
            ("square", lambda x: x**2, X),
            ("cube", lambda x: x**3, 2 * X),
            ("root", lambda x: x**0.5, X),
            ("power", lambda x: x**1.7, 21 * X),
            ("power of tensors", lambda x: x**x, 21 * X),
            ("exponential", lambda x: 2**x, 21 * X),
            ("mean", lambda x: x.mean((2, 3)), X),
            ("max", lambda x: x.max(1).values, X),
            ("variance", lambda x: x.var((2, 3)), 4 * X + 2),
            ("norm", lambda x: x.norm(dim=1), 2 * X + X // 2),
            ("norm of order 3", lambda x: torch.linalg.vector_norm(x, 3, dim=1), 23 * X + X // 2),
            ("views", lambda x: x.view(2, 36).t()[1:].unsqueeze(0).expand(4, -1, -1), 0),
            ("copies", lambda x: torch.cat([x.clone().contiguous(), x.roll(1, 2)]).double(), 0),
            ("padding", lambda x: F.pad(F.pad(x, (1, 1)), (1, 1, 1, 1), mode="reflect"), 0),
            ("pixel shuffle", lambda x: F.pixel_unshuffle(x, 2), 0),
            ("dropout in evaluation", lambda x: F.dropout(x, training=False), 0),
            ("nearest", lambda x: F.interpolate(x, scale_factor=2), 0),
            ("bilinear", lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), 7 * 4 * X),
            ("bicubic", lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), 31 * 4 * X),
            ("matmul", lambda x: x @ x, 2 * X * 6),
            ("einsum", lambda x: torch.einsum("bchw,bdhw->bcd", x, x), 2 * 4 * 36),
            ("max pool", lambda x: F.max_pool2d(x, 3, 1), 2 * 16 * 8),
            ("max pool, oblong", lambda x: F.max_pool2d(x, (1, 3), 1), 2 * 24 * 2),
            ("max pool of sequences", lambda x: F.max_pool1d(x[0], 3, 1), 2 * 24 * 2),
            ("avg pool", lambda x: F.avg_pool2d(x, 3, 2, padding=1), 2 * 9 * 9),
            ("group norm", lambda x: F.group_norm(x, 2), 5 * X),
            ("layer norm", lambda x: F.layer_norm(x, (6, 6), torch.ones(6, 6), torch.zeros(6, 6)), 7 * X),
            ("instance norm", F.instance_norm, 7 * X),
            ("batch norm", lambda x: F.batch_norm(x, torch.zeros(2), torch.ones(2)), 2 * X),
        ]
    ],
)
def test_flops(function: Any, expected: int) -> None:
    assert flops(function) == expected


@pytest.mark.parametrize("size", [1, 2, 4, 5, 6, 7])
def test_adaptive_pools_count_every_element_of_every_window(size: int) -> None:
    one_axis = torch.ones(1, 1, 6)
    # each output of a sum over ones is its window's length
    starts = [(i * 6) // size for i in range(size)]
    ends = [-((-(i + 1) * 6) // size) for i in range(size)]
    length = sum(one_axis[0, 0, start:end].sum().item() for start, end in zip(starts, ends, strict=True))
    elements = 2 * length**2
    assert flops(lambda x: F.adaptive_avg_pool2d(x, size)) == (X if size == 1 else elements)
    assert flops(lambda x: F.adaptive_max_pool2d(x, size)) == elements - 2 * size**2


@pytest.mark.parametrize(
    ("layer", "size", "macs"),
    [
        (nn.Conv1d(4, 6, 3, padding=1, groups=2), (4, 10), 6 * 2 * 3 * 10),
        (nn.Conv2d(4, 6, (1, 3), dilation=2), (4, 9, 9), 6 * 4 * 3 * 9 * 5),
        (nn.Conv3d(2, 3, 2), (2, 4, 4, 4), 3 * 2 * 8 * 27),
        (nn.ConvTranspose2d(4, 6, 3, stride=2), (4, 5, 5), 4 * 6 * 9 * 25),
        (nn.Linear(4, 6), (7, 4), 7 * 4 * 6),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_layers_with_weights(layer: nn.Module, size: tuple[int, ...], macs: int) -> None:
    cost = count(layer, size)
    outputs = torch.Size(cost.layers[0].output_shape).numel()
    assert (cost.macs, cost.flops) == (macs, 2 * macs + outputs)


def test_attention() -> None:
    queries, keys = torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 5, 4)
    macs = 2 * 3 * 5 * (4 + 4)
    cost = count(Lambda(lambda x: F.scaled_dot_product_attention(queries + x[:, :, :1, :1], keys, keys)), (2, 6, 6))
    assert (cost.macs, cost.flops) == (macs, 2 * macs + 15 * 30 + 24)


def test_a_learned_beta_costs_in_full_even_where_it_starts_at_the_average() -> None:
    learned, fixed = GlobalMexPool2d(), GlobalMexPool2d(learn_beta=False)
    assert count(fixed, (3, 4, 4)).flops == 3 * 16  # additions
    assert count(learned, (3, 4, 4)).flops == 3 * (16 * 11 + 10)  # and an exponential each, and a logarithm
