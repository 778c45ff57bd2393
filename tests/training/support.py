"""Small networks and data for trainings of a second, and a reference loop written without Lightning."""

from __future__ import annotations

from itertools import islice

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from simroot.data import BatchLoader, ImageData, from_arrays, loader
from simroot.training import Recipe
from simroot.training.module import epoch_seed

CLASSES = ("ant", "bee", "cat")
QUICK = Recipe(epochs=3, batch_size=16, learning_rate=0.05, shift=1, mirror=True)


def tiny_network(
    num_classes: int, in_channels: int, *, image_size: int, width: int = 8, norm: bool = False, noise: float = 0.0
) -> nn.Module:
    """Two convolutions and a linear layer, with batch statistics or noise on demand."""
    assert image_size >= 4
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, padding=1),
        nn.BatchNorm2d(width) if norm else nn.Identity(),
        nn.ReLU(),
        Noise(noise),
        nn.Conv2d(width, width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * width, num_classes),
    )


class Noise(nn.Module):
    """Multiplies by 1 + sigma N(0,1) in training, from torch's global generator."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + self.sigma * torch.randn_like(x)) if self.training and self.sigma else x


def small_data(count: int = 70, size: int = 8, channels: int = 3) -> ImageData:
    """Noise on three different patterns, the same on every call: uint8 images of three classes."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(count) % len(CLASSES)
    patterns = torch.rand(len(CLASSES), channels, size, size, generator=generator)
    images = 0.5 * patterns[labels] + 0.5 * torch.rand(count, channels, size, size, generator=generator)
    return from_arrays((255 * images).byte(), labels, classes=CLASSES, validation=22)


def training_batches(data: ImageData, recipe: Recipe) -> BatchLoader:
    """The batches that a recipe trains on, of the first epoch until told otherwise."""
    assert recipe.shift is not None
    assert recipe.mirror is not None
    return loader(
        data.train,
        recipe.batch_size,
        mean=data.mean,
        std=data.std,
        train=True,
        shift=recipe.shift,
        mirror=recipe.mirror,
        augmentation=recipe.augmentation,
        seed=recipe.seed,
        channels_last=True,
    )


def reference_training(model: nn.Module, data: ImageData, recipe: Recipe, rates: list[float]) -> list[float]:
    """A plain loop with torch's own optimizer and batch statistics, a rate per step; returns each epoch's mean loss."""
    model.to(memory_format=torch.channels_last)
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        fused=True,
    )
    batches = training_batches(data, recipe)
    losses, step = [], 0
    for epoch in range(recipe.epochs):
        batches.set_epoch(epoch)
        torch.manual_seed(epoch_seed(recipe.seed, epoch))
        model.train()
        total = 0.0
        for images, labels in batches:
            for group in optimizer.param_groups:
                group["lr"] = rates[step]
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            if recipe.clip_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
            optimizer.step()
            total += float(loss.detach())
            step += 1
        losses.append(total / len(batches))
        counts = {name: count.clone() for name, count in model.named_buffers() if name.endswith("num_batches_tracked")}
        update_bn(islice(batches, 16), model)  # torch's gathering counts from zero
        for name, count in counts.items():
            model.get_buffer(name).add_(count)
    return losses
