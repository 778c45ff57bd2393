"""What networks are for, and a network for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from simroot.data import ImageData
from simroot.images.preparation import ImageSize, sides
from simroot.models import create_model
from simroot.models.deployment import deploy_in_place


@dataclass(frozen=True)
class Task:
    """What a network is for: so many classes, images of so many channels and of this height and width."""

    num_classes: int = 10
    in_channels: int = 3
    image_size: ImageSize = 32

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Shape of one image, (C, H, W)."""
        return (self.in_channels, *sides(self.image_size))


CIFAR_10 = Task()


def task_of(data: ImageData) -> Task:
    """What a network trained on the data is for."""
    return Task(len(data.classes), data.channels, data.image_size)


def deployed(model: str, overrides: Mapping[str, Any], task: Task = CIFAR_10) -> nn.Module:
    """A registered network as it would be used: normalisations folded away; the weights mean nothing."""
    with torch.random.fork_rng(devices=[]):
        options = {"image_size": task.image_size, **overrides}
        return deploy_in_place(create_model(model, task.num_classes, task.in_channels, **options))


def parameters(network: nn.Module) -> int:
    """How many it has."""
    return sum(parameter.numel() for parameter in network.parameters())
