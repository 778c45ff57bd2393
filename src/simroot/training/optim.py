"""Optimizer, parameter groups and learning-rate schedule of a recipe."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from simroot.errors import ConfigError
from simroot.training.muon import Muon
from simroot.training.recipes import Recipe

# One-cycle starts at 1/25 of the highest rate and ends at 1/10,000 of its start, as in torch's OneCycleLR.
_START = 1 / 25
_END = _START / 1e4


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Parameters that need a gradient, grouped by their learning rate and weight decay.

    A module may carry hints in an attribute ``training_hints``: the name of one of its own parameters -> factors
    ``"lr"`` and ``"weight_decay"`` on the recipe's values. A parameter registered through
    ``torch.nn.utils.parametrize`` goes by the name that it is registered under. Without a hint the factor of the rate
    is 1, that of the weight decay 1 for parameters with at least two dimensions and 0 for the others.

    Raises:
        ConfigError: for a hint other than ``"lr"`` and ``"weight_decay"``.
    """
    modules = dict(model.named_modules())
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        factors = {"lr": 1.0, "weight_decay": float(parameter.ndim >= 2)}
        owner, direct = _owner(name)
        hints = getattr(modules[owner], "training_hints", {}).get(direct, {})
        if unknown := set(hints) - set(factors):
            raise ConfigError(
                f"training_hints of {type(modules[owner]).__name__}.{direct} names {', '.join(sorted(unknown))}; "
                "expected lr or weight_decay"
            )
        factors.update(hints)
        groups.setdefault((factors["lr"], factors["weight_decay"]), []).append(parameter)
    return [
        {"params": parameters, "lr": recipe.learning_rate * rate, "weight_decay": recipe.weight_decay * decay}
        for (rate, decay), parameters in groups.items()
    ]


def _owner(name: str) -> tuple[str, str]:
    """The module that a parameter belongs to and its name there; of ``a.parametrizations.w.original0``, a and w."""
    *path, last = name.split(".")
    if "parametrizations" in path:
        at = path.index("parametrizations")
        path, last = path[:at], path[at + 1]
    return ".".join(path), last


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer over ``parameter_groups``, in its fused form where torch has one for the device."""
    groups = parameter_groups(model, recipe)
    if not groups:
        raise ConfigError("the network has no parameter to train; at least one must be learned")
    # Mixed precision would have a fused optimizer undo the scaling of gradients, which must not be clipped before.
    clipped = recipe.precision == "bf16" and recipe.clip_norm is not None
    fused = not clipped and all(
        p.device.type in ("cpu", "cuda") and p.is_floating_point() for g in groups for p in g["params"]
    )
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(recipe.momentum, 0.999), fused=fused)
    if recipe.optimizer == "muon":
        return Muon(groups, lr=recipe.learning_rate, momentum=recipe.momentum)
    return torch.optim.SGD(
        groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=fused
    )


def build_schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, steps_per_epoch: int) -> LambdaLR:
    """The recipe's schedule, to be advanced after every step."""
    return LambdaLR(optimizer, lambda step: schedule_factor(recipe, step, steps_per_epoch))


def schedule_factor(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Factor on the learning rate in one step.

    Args:
        recipe: gives the schedule, its warm-up and milestones.
        step: from 0 to epochs x steps_per_epoch - 1; higher values count as the last.
        steps_per_epoch: steps in an epoch.
    """
    total = recipe.epochs * steps_per_epoch
    step = min(step, total - 1)
    rise = recipe.warmup * total
    if recipe.schedule == "onecycle":
        # The step with the highest rate, then the last one: the ends of torch's two phases.
        top, last = max(rise - 1, 0.0), max(total - 1, 1)
        if step <= top and top > 0:
            return _cosine(_START, 1.0, step / top)
        return _cosine(1.0, _END, (step - top) / (last - top)) if last > top else 1.0
    if step < rise:
        return (step + 1) / (rise + 1)
    if recipe.schedule == "cosine":
        return _cosine(1.0, 0.0, (step - rise) / (total - rise))
    if recipe.schedule == "step":
        ends = (round((m * recipe.epochs if m < 1 else m) * steps_per_epoch) for m in recipe.milestones)
        return recipe.gamma ** sum(step >= end for end in ends)
    return 1.0


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
