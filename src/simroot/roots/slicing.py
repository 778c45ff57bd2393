"""From a convolution's filters to those of filter groups: which channels go together, and what is kept of the filters.

A grouped convolution keeps the blocks on the diagonal of the (output channel, input channel) matrix of filters. Which
channels meet in a block is free where the layers before and behind take up a permutation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_ROUNDS = 20


def balanced_blocks(
    strength: Tensor, inputs: Sequence[int], outputs: Sequence[int], *, move_inputs: bool, move_outputs: bool
) -> tuple[Tensor, Tensor]:
    """Orders of the channels that gather strong connections in the diagonal blocks.

    Alternates between the two sides: given the groups of the one, the best groups of given sizes of the other are an
    assignment problem, solved exactly. It starts from the channels as they are and, where both sides may move, also
    from their order along the second singular vectors of the normalised matrix (spectral co-clustering); the better end
    wins, so that no less is kept than without permutation.

    Args:
        strength: (D, C), what is kept when output d and input c are in the same group.
        inputs: input channels in each group.
        outputs: output channels in each group.
        move_inputs: False to keep the inputs' order.
        move_outputs: False to keep the outputs' order.

    Returns:
        Permutations of the outputs, (D,), and of the inputs, (C,): block i holds the next sizes[i] of them.
    """
    strength = strength.double().cpu()
    identity = torch.arange(strength.shape[0]), torch.arange(strength.shape[1])
    starts = [identity]
    if move_inputs and move_outputs:
        starts.append(_spectral_order(strength))
    ends = [_improve(strength, start, inputs, outputs, move_inputs, move_outputs) for start in starts]
    return max(ends, key=lambda orders: _kept(strength, orders, inputs, outputs))


def _improve(
    strength: Tensor,
    orders: tuple[Tensor, Tensor],
    inputs: Sequence[int],
    outputs: Sequence[int],
    move_inputs: bool,
    move_outputs: bool,
) -> tuple[Tensor, Tensor]:
    rows, columns = orders
    best = _kept(strength, orders, inputs, outputs)
    for _ in range(_ROUNDS if move_inputs or move_outputs else 0):
        if move_outputs:
            rows = _assign(torch.stack([strength[:, c].sum(1) for c in columns.split(list(inputs))], 1), outputs)
        if move_inputs:
            columns = _assign(torch.stack([strength[r].sum(0) for r in rows.split(list(outputs))], 1), inputs)
        kept = _kept(strength, (rows, columns), inputs, outputs)
        if kept <= best * (1 + 1e-12):
            break
        best = kept
    return rows, columns


def _assign(gain: Tensor, sizes: Sequence[int]) -> Tensor:
    """Channels in the order of groups of the given sizes with the largest total gain, (channels, groups)."""
    from scipy.optimize import linear_sum_assignment  # slow to import, and seldom needed

    group_of_place = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    _, place = linear_sum_assignment(gain[:, group_of_place].numpy(), maximize=True)
    groups = group_of_place[torch.from_numpy(place)]
    return torch.sort(groups, stable=True).indices


def _spectral_order(strength: Tensor) -> tuple[Tensor, Tensor]:
    rows, columns = strength.sum(1).clamp_min(1e-30).rsqrt(), strength.sum(0).clamp_min(1e-30).rsqrt()
    left, _, right = torch.linalg.svd(rows[:, None] * strength * columns, full_matrices=False)
    second = min(1, left.shape[1] - 1)
    return torch.argsort(rows * left[:, second]), torch.argsort(columns * right[second])


def _kept(strength: Tensor, orders: tuple[Tensor, Tensor], inputs: Sequence[int], outputs: Sequence[int]) -> float:
    rows, columns = (order.split(list(sizes)) for order, sizes in zip(orders, (outputs, inputs), strict=True))
    return float(sum(strength[r][:, c].sum() for r, c in zip(rows, columns, strict=True)))


def filters_within(weight: Tensor, inputs: Sequence[int], outputs: Sequence[int]) -> list[Tensor]:
    """The filters (D, C, k, k) that connect group i of the inputs with group i of the outputs, for every i."""
    columns = torch.arange(weight.shape[1]).split(list(inputs))
    rows = weight.split(list(outputs))
    return [row[:, column] for row, column in zip(rows, columns, strict=True)]


@torch.no_grad()
def permute_outputs(module: nn.Module, order: Tensor) -> None:
    """Reorder the channels that a convolution or a per-channel module gives, in place, in all that it holds."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.ndim in (1, 4) and len(tensor) == len(order):  # constants of channels, filters
            tensor.copy_(tensor[order.to(tensor.device)].clone())


@torch.no_grad()
def permute_inputs(conv: nn.Conv2d, order: Tensor) -> None:
    """Reorder the channels that an ungrouped convolution reads, in place."""
    conv.weight.copy_(conv.weight[:, order.to(conv.weight.device)].clone())
