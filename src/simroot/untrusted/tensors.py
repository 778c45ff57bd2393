"""Tensors of a file that must be those of a network."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from simroot.errors import CheckpointError, quoted


def fitting(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """Tensors with the names, shapes, types and layouts of the expected ones; copies.

    Raises:
        CheckpointError: naming three of those that do not fit; ``what`` says of what they are.
    """
    wrong = [f"{name} is missing" for name in expected.keys() - tensors.keys()]
    wrong += [f"{quoted(name)[1:-1]} is not part of the network" for name in tensors.keys() - expected.keys()]
    for name in expected.keys() & tensors.keys():
        wrong += [f"{name} is {fault}" for fault in _faults(tensors[name], expected[name])]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(f"{what}: {'; '.join(sorted(wrong)[:3])}{more}")
    return {name: _like(tensors[name], tensor) for name, tensor in expected.items()}


def _faults(tensor: Tensor, expected: Tensor) -> list[str]:
    if tensor.shape != expected.shape:
        return [f"{tuple(tensor.shape)}, expected {tuple(expected.shape)}"]
    if tensor.dtype != expected.dtype:
        return [f"{tensor.dtype}, expected {expected.dtype}"]
    return [] if tensor.isfinite().all() else ["not finite"]


def _like(tensor: Tensor, expected: Tensor) -> Tensor:
    return torch.empty_like(expected, requires_grad=False).copy_(tensor)
